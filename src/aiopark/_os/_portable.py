"""Any other system: the kernel's table of waiters, kept in this process.

Locking: a fixed number of buckets, each a dict; an address belongs to one bucket. The only shared state is a
bucket, and each operation on it (store, pop, copy) is one atomic C call, so nobody ever holds a lock that a
signal handler or finalizer could run into. (A mutex around the table would deadlock there.)

Handlers that raise: Python runs them between two instructions. A waiter leaves the table in the first call of its
`finally`, and a waker takes it out and releases it in one call: nobody stays behind to swallow the next wake, and
nobody sleeps on outside of the table.

No lost wake-up: a waiter appends itself, then looks at the cell; a waker has stored to the cell before it looks
into the bucket. Whichever reaches the bucket second sees the other: the waiter sees the new value, or the waker
finds the waiter.
"""

import ctypes
import sys
import threading
import time
from collections.abc import Callable
from operator import call
from typing import ClassVar, Final, Self

from aiopark import _fork
from aiopark._os._backend import LONGEST_WAIT

# Windows' locks are not interruptible: a parked main thread looks for Ctrl-C this often.
_MAIN_THREAD_SLICE: Final = 0.1


class _Waiter:
    __slots__ = ("address", "woken")

    def __init__(self, address: int) -> None:
        self.address = address
        self.woken = threading.Lock()  # released by the waker who takes the waiter out of its bucket
        self.woken.acquire()


# From the waiter to what wakes it; the longest waiter first.
_Bucket = dict[_Waiter, Callable[[], object]]

# One table a process, as a kernel has one: every Portable is the same backend. Multiplicative hashing spreads
# neighbouring addresses over the 2**6 buckets.
_table: Final[tuple[_Bucket, ...]] = tuple({} for _ in range(64))


def _bucket(address: int) -> _Bucket:
    return _table[(address >> 2) * 0x9E3779B1 % 2**32 >> 26]


def _take_out_and_wake(bucket: _Bucket, waiter: _Waiter) -> bool:
    """Return whether this call, and no other, took the waiter out. In one call of C, see above."""
    # bool() stands for a waiter that is gone: it returns False, where the release of a lock returns None.
    return next(map(call, map(bucket.pop, (waiter,), (bool,)))) is None


class Portable:
    """Wait and wake without any help of the kernel: in this process only, woken by aiopark only.

    Example:
        >>> from aiopark.lowlevel import Portable
        >>> Portable.create().name
        'portable'
    """

    name: ClassVar[str] = "portable"
    supports_shared: ClassVar[bool] = False
    supports_native_wake: ClassVar[bool] = False

    @classmethod
    def create(cls) -> Self:
        """Return the backend. Works everywhere, does not block."""
        return cls()

    @classmethod
    def refusal(cls) -> str | None:
        """Return None: `create()` works everywhere."""
        return None

    def wait(self, address: int, expected: int, deadline: float | None = None, *, shared: bool = False) -> None:
        """See `Backend.wait`. `shared` is not supported."""
        assert not shared
        waiter, bucket = _Waiter(address), _bucket(address)
        try:
            bucket[waiter] = waiter.woken.release
            # Pairs with: the store that comes before wake_one. This is the kernel's part of a wait, the
            # comparison; all other access to the cell is in _word.py.
            if ctypes.c_uint32.from_address(address).value == expected:
                timeout = LONGEST_WAIT
                if deadline is not None:
                    timeout = min(max(deadline - time.monotonic(), 0.0), timeout)
                if sys.platform == "win32" and threading.get_ident() == threading.main_thread().ident:
                    timeout = min(timeout, _MAIN_THREAD_SLICE)
                waiter.woken.acquire(timeout=timeout)
            elif bucket.pop(waiter, None) is None:
                self.wake_one(address)  # a waker took this one for a sleeper: the wake is for another one
        finally:
            bucket.pop(waiter, None)  # a waker may have done it already: its wake counts as this return

    def wake_one(self, address: int, *, shared: bool = False) -> None:
        """See `Backend.wake_one`."""
        self._wake(address, shared, everybody=False)

    def wake_all(self, address: int, *, shared: bool = False) -> None:
        """See `Backend.wake_all`."""
        self._wake(address, shared, everybody=True)

    def _wake(self, address: int, shared: bool, everybody: bool) -> None:
        assert not shared
        bucket = _bucket(address)
        for waiter in bucket.copy():
            if waiter.address == address and _take_out_and_wake(bucket, waiter) and not everybody:
                return


@_fork.in_child
def _after_fork_in_child() -> None:
    for bucket in _table:  # the parent's threads wait in no child
        bucket.clear()
