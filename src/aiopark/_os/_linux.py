"""Linux: futex(2).

Every operation is a non-private one, whatever `shared` says. The kernel keeps private sleepers apart from all others: a
waiter and a waker who differ in the flag miss each other in silence, be it Python and C or two Words at one address.
So nobody sets it, aiopark.h included. That costs a call 0.1 to 0.2 µs, in which the kernel looks at the page; then it
finds the same sleepers, if the memory is this process' alone. And since Linux 6.16 the first thread gives a process a
table of its own for private futexes, in which no wake finds the private waits that an io_uring holds since before;
the others stay where they are.

Sources: man 2 futex; kernel/futex/syscalls.c; the syscall.tbl of each architecture for the numbers.
"""

import ctypes
import errno
import math
import platform
import sys
import time
from typing import ClassVar, Final, Self

from aiopark._os._backend import LONGEST_WAIT, Probed, call_and_errno, call_failed, load_keeping_gil

WAKE: Final = 1
WAIT_BITSET: Final = 9  # unlike WAIT, its deadline is absolute, on CLOCK_MONOTONIC
MATCH_ANY: Final = 0xFFFFFFFF

# The number of futex, whose timespec is made of two C longs.
_FUTEX: Final = {
    "x86_64": 202, "i386": 240, "arm": 240, "aarch64": 98, "riscv64": 98, "loongarch64": 98,
    "ppc64": 221, "ppc": 221, "s390x": 238, "s390": 238,
}  # fmt: skip
# The number of futex_time64, on every 32-bit machine; riscv32 and kernels without 32-bit time have only this.
_FUTEX_TIME64: Final = 422

_WAIT_ERRORS: Final = frozenset({errno.EAGAIN, errno.ETIMEDOUT, errno.EINTR})
# Not mapped any more: the waker has just written the word, so the owner has seen that and has since given the memory
# back. Nobody sleeps there.
_WAKE_ERRORS: Final = frozenset({errno.EFAULT})


def architecture(machine: str, pointer_bytes: int) -> str:
    """Return the name of the system call table that this process uses: a 32-bit Python may run on a 64-bit kernel."""
    machine = machine.lower()
    wide = pointer_bytes == 8
    if machine in {"x86_64", "amd64"} or (machine.startswith("i") and machine.endswith("86")):
        return "x86_64" if wide else "i386"
    if machine.startswith(("aarch64", "arm")):
        return "aarch64" if wide else "arm"
    for family in ("ppc", "riscv", "s390"):
        if machine.startswith(family):
            return {"ppc": ("ppc", "ppc64"), "riscv": ("riscv32", "riscv64"), "s390": ("s390", "s390x")}[family][wide]
    return machine


class Timespec32(ctypes.Structure):
    """What futex takes: two longs."""

    _fields_ = (("sec", ctypes.c_long), ("nsec", ctypes.c_long))


class Timespec64(ctypes.Structure):
    """What futex_time64 takes, whatever the size of a long."""

    _fields_ = (("sec", ctypes.c_int64), ("nsec", ctypes.c_int64))


class Futex(Probed):
    """Linux' futex as a Backend. It reaches other processes that map the cell, whatever `shared` says.

    Example:
        >>> import sys
        >>> from aiopark.lowlevel import Futex
        >>> (Futex.create() is not None) == (sys.platform == "linux")
        True
    """

    name: ClassVar[str] = "futex"
    supports_shared: ClassVar[bool] = True
    supports_native_wake: ClassVar[bool] = True

    def __init__(self, number: int, timespec: type[Timespec32 | Timespec64]) -> None:
        self.number: Final = number
        self._timespec = timespec
        # CDLL gives the GIL up while the call waits.
        # Without argtypes ctypes would pass a Python int as a 32-bit C int.
        self._wait = ctypes.CDLL(None, use_errno=True)["syscall"]
        self._wait.argtypes, self._wait.restype = (ctypes.c_long,) * 7, ctypes.c_long
        self._wake = load_keeping_gil(None, use_errno=True)["syscall"]
        self._wake.argtypes, self._wake.restype = (ctypes.c_long,) * 4, ctypes.c_long
        # Converted once, not at each call: a wake takes 0.6 µs so, and 2.0 µs with seven Python ints. No names of the
        # module: see `Cell`.
        self._number, self._any, self._null = (ctypes.c_long(value) for value in (number, MATCH_ANY, 0))
        self._one, self._all = ctypes.c_long(1), ctypes.c_long(0x7FFFFFFF)
        self._wait_operation, self._wake_operation = ctypes.c_long(WAIT_BITSET), ctypes.c_long(WAKE)

    @classmethod
    def _probe(cls) -> Self | str:
        if not sys.platform.startswith("linux"):
            return f"futex is Linux' own call, and this is {sys.platform}"
        machine = architecture(platform.machine(), ctypes.sizeof(ctypes.c_void_p))
        candidates: list[tuple[int, type[Timespec32 | Timespec64]]] = []
        if machine in _FUTEX:
            candidates.append((_FUTEX[machine], Timespec32))
        if ctypes.sizeof(ctypes.c_void_p) == 4:
            candidates.append((_FUTEX_TIME64, Timespec64))
        if not candidates:
            return f"the number of the futex system call is not known for {platform.machine()}"
        reasons: list[str] = []
        for number, timespec in candidates:
            backend = cls(number, timespec)
            try:
                backend.wake_one(ctypes.addressof(_nobody))
            except OSError as error:
                reasons.append(f"system call {number} failed: {error.strerror}")
            else:
                return backend
        return "; ".join(reasons)

    def wait(
        self,
        address: int,
        expected: int,
        deadline: float | None = None,
        *,
        shared: bool = False,  # noqa: ARG002  # see above
    ) -> None:
        """See `Backend.wait`."""
        at: ctypes.c_long | int = self._null
        if deadline is not None:
            # Rounded up: an absolute deadline that the kernel meets early would only be waited for again.
            nanoseconds = math.ceil(min(max(deadline, 0.0), time.monotonic() + LONGEST_WAIT) * 1e9)
            timespec = self._timespec(*divmod(nanoseconds, 1_000_000_000))
            at = ctypes.addressof(timespec)
        call = (self._number, address, self._wait_operation, expected, at, self._null, self._any)
        if self._wait(*call) == -1 and ctypes.get_errno() not in _WAIT_ERRORS:
            # It may be the errno of a signal handler that ran in between: ask again, without that gap.
            result, error = call_and_errno(self._wait, *call)
            if result == -1 and error not in _WAIT_ERRORS:
                raise call_failed("futex(FUTEX_WAIT_BITSET)", error, address)

    def wake_one(self, address: int, *, shared: bool = False) -> None:  # noqa: ARG002  # see above
        """See `Backend.wake_one`."""
        if self._wake(self._number, address, self._wake_operation, self._one) == -1:
            self._wake_failed(address, self._one)

    def wake_all(self, address: int, *, shared: bool = False) -> None:  # noqa: ARG002  # see above
        """See `Backend.wake_all`."""
        if self._wake(self._number, address, self._wake_operation, self._all) == -1:
            self._wake_failed(address, self._all)

    def _wake_failed(self, address: int, count: ctypes.c_long) -> None:
        # A wake that failed did nothing. Do it again for its errno, as in `wait`.
        result, error = call_and_errno(self._wake, self._number, address, self._wake_operation, count)
        if result == -1 and error not in _WAKE_ERRORS:
            raise call_failed("futex(FUTEX_WAKE)", error, address)


_nobody = ctypes.c_uint32()  # the probe wakes on it
