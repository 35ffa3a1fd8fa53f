"""Word: one aligned 32-bit cell, 1 = parked (no permit), 0 = unparked (permit).

Memory ordering. This module is the only place that loads or stores the cell (the portable backend's comparison
aside). A ctypes access is one plain aligned move: load-acquire and store-release on x86, relaxed elsewhere.

Who writes the cell, under what:
  anyone    stores 0 (`store`, `unpark_lock`): a release, so what was written before is seen by whoever takes it;
  the owner stores 1 (`_take`, `_prepare`): no lock, there is one owner (`_owner`).

Which race each fence closes:
  unparker  "data = x; word = 0". The data must be visible with the 0: a fence before the store where a plain
            store is no release.
  owner     "word = 1; look at data". Without a full fence the store of 1 may still sit in the store buffer while
            the data is read (x86 too). An unpark in between would then be overwritten unseen: lost. With it,
            either the owner's reads see the data, or the unparker's 0 comes later and stays.
The kernel compares and sleeps atomically. That a store followed by its wake is not missed by a wait which compares
at the same time is each kernel's own promise (on Linux by full barriers in kernel/futex/futex.h).
"""

import ctypes
import platform
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from aiopark import _fork
from aiopark._errors import ClosedError
from aiopark._os import Futex, default_backend
from aiopark._owner import OWNER, claim
from aiopark._unpark_handle import UnparkHandle

PARKED: Final = 1
PERMIT: Final = 0

_SEQ_CST: Final = 5  # memory_order_seq_cst


_nobody: Final = ctypes.c_uint32()


def _name_full_fence() -> tuple[str, Callable[[], object]]:
    """Choose this platform's full memory fence, by what can be called through ctypes."""
    library, symbol, arguments = {
        "darwin": (None, "OSMemoryBarrier", ()),  # libSystem
        "win32": ("kernel32", "FlushProcessWriteBuffers", ()),
    }.get(sys.platform, ("libatomic.so.1", "atomic_thread_fence", (_SEQ_CST,)))  # GCC's run-time library
    try:
        fence = ctypes.PyDLL(library)[symbol]
    except (OSError, AttributeError):
        pass
    else:
        fence.argtypes, fence.restype = (ctypes.c_int,) * len(arguments), None
        return symbol, partial(fence, *arguments)
    # Slim images lack libatomic. FUTEX_WAKE on a word that nobody knows is a full barrier too, before it looks for
    # waiters (futex_hb_waiters_pending in kernel/futex/futex.h). Elsewhere a lock, taken and released, must do.
    futex = Futex.create()
    if futex is not None:
        return "futex", partial(futex.wake_one, ctypes.addressof(_nobody))
    return "lock", _lock_and_unlock


def _lock_and_unlock() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.release()


_fence_name: str
_fence: Callable[[], object]
_fence_name, _fence = _name_full_fence()
# Plain moves are acquire and release on x86 alone; elsewhere each of them gets the fence.
_PLAIN_IS_ORDERED: Final = platform.machine().lower() in {
    "x86_64",
    "amd64",
    "i386",
    "i486",
    "i586",
    "i686",
    "x86",
}


class Word:
    """One aligned 32-bit cell that a thread parks on and anyone unparks: 1 = parked, 0 = unparked.

    `Word()` lives in memory of its own, private to this process, and starts parked.

    Attributes:
        address: where the cell is; a multiple of 4. What native code is given.
        shared: whether other processes may wait and wake on it. False for private memory.

    Raises:
        ValueError: AIOPARK_BACKEND names no backend.
        UnsupportedError: AIOPARK_BACKEND forces a backend that does not work here.

    Example:
        >>> import aiopark
        >>> word = aiopark.Word()
        >>> word.load()
        1
        >>> word.unpark()
        >>> word.load()
        0
        >>> aiopark.ThreadParker(word).park_timeout(0)
        True

    Source: the `key` of parking_lot_core's `windows/waitaddress.rs`.
    """

    __slots__ = ("__weakref__", "_backend", "_cell", "_sleep", "_slot", "_wake", "address", "shared")

    def __init__(self) -> None:
        self._backend = backend = default_backend()
        self._cell: ctypes.c_uint32 | None = ctypes.c_uint32(PARKED)
        self.address: Final = ctypes.addressof(self._cell)
        self.shared: Final = False
        # Every return of _sleep means "look again".
        self._sleep: Final = partial(backend.wait, self.address, PARKED)
        self._wake: Final = partial(backend.wake_one, self.address)
        self._slot: Final[dict[str, Any]] = {}  # the owner that parks, see _owner

    def __repr__(self) -> str:
        cell = self._cell
        state = "closed" if cell is None else {PARKED: "parked", PERMIT: "unparked"}.get(cell.value, cell.value)
        return f"<aiopark.Word {state} at {self.address:#x}>"

    def load(self) -> int:
        """Read the cell, with acquire ordering.

        May be called from any thread, a signal handler or a finalizer. Does not block.

        Returns:
            1 for parked, 0 for a permit; whatever else somebody stored.

        Raises:
            ClosedError: the word was closed.

        Example:
            >>> import aiopark
            >>> aiopark.Word().load()
            1
        """
        cell = self._cell
        if cell is None:
            raise _closed()
        value = cell.value  # Pairs with: the release in store.
        if not _PLAIN_IS_ORDERED:
            _fence()
        return value

    def store(self, value: int) -> None:
        """Write the cell, with release ordering, and wake nobody.

        May be called from any thread, a signal handler or a finalizer. Does not block. Use `unpark` to wake.

        Args:
            value: 1 for parked, 0 for a permit.

        Raises:
            ValueError: value does not fit into 32 bits.
            TypeError: value is no integer.
            ClosedError: the word was closed.

        Example:
            >>> import aiopark
            >>> word = aiopark.Word()
            >>> word.store(0)
            >>> word.load()
            0
        """
        if not isinstance(value, int):
            raise TypeError(f"a word holds an integer (1 = parked, 0 = unparked), not {type(value).__name__}")
        if not 0 <= value < 2**32:
            raise ValueError(f"a word holds 32 bits (1 = parked, 0 = unparked): {value} does not fit")
        self._store(value)

    def unpark_lock(self) -> UnparkHandle:
        """Deposit the permit now (store 0, with release ordering), wake later.

        May be called from any thread, a signal handler or a finalizer, also under a lock of yours. Does not block.

        Returns:
            The handle whose `unpark()` wakes.

        Raises:
            ClosedError: the word was closed.

        Example:
            >>> import aiopark
            >>> word = aiopark.Word()
            >>> handle = word.unpark_lock()
            >>> word.load()
            0
            >>> handle.unpark()
        """
        self._store(PERMIT)
        return UnparkHandle(partial(_wake_and_keep, self._wake, self._cell))

    def unpark(self) -> None:
        """Deposit the permit and wake whoever is parked on the word.

        May be called from any thread, a signal handler or a finalizer. Does not block.

        Raises:
            ClosedError: the word was closed.
            OSError: the system call that wakes failed in a way that no rule allows for.

        Example:
            >>> import threading, aiopark
            >>> word = aiopark.Word()
            >>> threading.Timer(0.01, word.unpark).start()
            >>> aiopark.ThreadParker(word).park()
        """
        cell = self._cell  # the local name keeps the memory until the wake is done, whoever closes meanwhile
        if cell is None:
            raise _closed()
        if not _PLAIN_IS_ORDERED:
            _fence()
        cell.value = PERMIT  # Pairs with: the load in _take, and the kernel's comparison.
        try:
            self._wake()
        except BaseException:
            self._wake()  # a signal handler that raises (Ctrl-C) came in between
            raise

    def close(self) -> None:
        """Let go of the memory; the word cannot be used any more. Idempotent.

        May be called from any thread. Does not block.

        Raises:
            RuntimeError: somebody is parked on the word; unpark it first.

        Example:
            >>> import aiopark
            >>> word = aiopark.Word()
            >>> word.close()
            >>> word.load()
            Traceback (most recent call last):
                ...
            aiopark.ClosedError: the word was closed: make a new one
        """
        closer = _Closer()
        try:
            # Holding the slot keeps parks out until the cell is gone; they find it gone after that.
            claim(self._slot, closer, "Word")
        except RuntimeError:
            if isinstance(self._slot.get(OWNER), _Closer) or self._cell is None:
                return  # another thread closes or has closed it
            raise
        self._cell = None
        del self._slot[OWNER]

    def _store(self, value: int) -> None:
        cell = self._cell
        if cell is None:
            raise _closed()
        if not _PLAIN_IS_ORDERED:
            _fence()
        cell.value = value  # Pairs with: the load in _take.

    def _prepare(self) -> None:
        """Drop the permit. Owner only; with the owner's fence, since "prepare, look at the data, park" may follow."""
        self._store(PARKED)
        _fence()

    def _park(self, deadline: float | None) -> bool:
        """Sleep until there is a permit, and take it, or until time.monotonic() reaches the deadline: ThreadParker."""
        slot, owner = self._slot, _ParkedThread()
        claim(slot, owner, "ThreadParker")
        # CPython runs signal handlers after calls and where loops go round, and one may raise (Ctrl-C): no loop here,
        # since CPython 3.12 and 3.13 leave a `while` without the `finally` around it while it jumps back; and a
        # statement, not a call, between taking the permit and returning.
        try:
            return self._take(deadline)
        finally:
            del slot[OWNER]

    def _take(self, deadline: float | None) -> bool:
        """Do what _park says. Owner only."""
        cell = self._cell  # the local name keeps the memory while the kernel looks at it
        if cell is None:
            raise _closed()
        # The permit first, the clock second: in a tie the unpark wins. What comes between the look and the sleep is
        # seen by the kernel, which compares the cell again.
        while cell.value != PERMIT:  # Pairs with: the release that stored 0.
            if deadline is not None and time.monotonic() >= deadline:
                return False
            self._sleep(deadline)
        cell.value = PARKED
        try:
            _fence()  # the owner's fence, see above: nothing is read before the 1 is visible
        except BaseException:  # a signal handler that raises: the permit is not taken
            cell.value = PERMIT
            raise
        return True


class _ParkedThread:
    """What stands in the owner slot during a park."""

    __slots__ = ("_epoch",)

    def __init__(self) -> None:
        self._epoch = _fork.epoch

    def gone(self) -> bool:
        return self._epoch != _fork.epoch  # it is a thread of the parent


def _closed() -> ClosedError:
    return ClosedError("the word was closed: make a new one")


class _Closer:
    __slots__ = ()

    def gone(self) -> bool:
        return False


def _wake_and_keep(wake: Callable[[], object], cell: object) -> None:  # noqa: ARG001  # the cell stays alive with it
    wake()
