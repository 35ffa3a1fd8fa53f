"""macOS: os_sync_wait_on_address from 14.4, __ulock_wait2 or __ulock_wait before.

Sources: libplatform, `os_sync_wait_on_address.h` and `src/os/lock.c`; xnu, `bsd/sys/ulock.h` and
`bsd/kern/sys_ulock.c`. The value is compared as 64 bits, so it is passed zero-extended.
"""

import ctypes
import errno
import math
import sys
import time
from typing import Any, ClassVar, Final, Protocol, Self

from aiopark._os._backend import LONGEST_WAIT, Probed, call_and_errno, call_failed, load_keeping_gil

SIZE: Final = 4
SYNC_SHARED: Final = 1
CLOCK_MACH_ABSOLUTE: Final = 32  # the only clock that os_sync_wait_on_address_with_timeout takes
UL_COMPARE_AND_WAIT: Final = 1
UL_COMPARE_AND_WAIT_SHARED: Final = 3
ULF_WAKE_ALL: Final = 0x100
UINT32_MAX: Final = 0xFFFFFFFF

# EFAULT: the page is not resident; the caller's next look at the cell brings it in. ENOMEM: try again.
_WAIT_ERRORS: Final = frozenset({errno.EINTR, errno.EFAULT, errno.ENOMEM, errno.ETIMEDOUT})
# ENOENT: nobody waits. EDOM: a stranger does, with another operation (8 bytes, say, as Apple's C++ library), since the
# waker wrote the word, and its owner has seen that and has given the memory away. No EFAULT for memory that is not
# mapped any more: ulock_wake() does not read it (it asks which object lies there, and takes a hole for object 0).
_WAKE_ERRORS: Final = frozenset({errno.ENOENT, errno.EDOM})


class _Calls(Protocol):
    """One generation of the kernel's calls, which give a result and an errno. A timeout of None waits forever."""

    name: str

    def wait(self, address: int, expected: int, nanoseconds: int | None, shared: bool) -> tuple[int, int]: ...
    def wake(self, address: int, everybody: bool, shared: bool) -> tuple[int, int]: ...


def _function(library: ctypes.CDLL, name: str, *argtypes: Any) -> Any:
    function = library[name]
    function.argtypes, function.restype = argtypes, ctypes.c_int
    return function


class _OsSync:
    """os_sync_wait_on_address and its sisters (public API, macOS 14.4)."""

    def __init__(self, waits: ctypes.CDLL, wakes: ctypes.CDLL) -> None:
        pointer, size, u32, u64 = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint32, ctypes.c_uint64
        self.name = "os_sync_wait_on_address"
        self._wait = _function(waits, "os_sync_wait_on_address", pointer, u64, size, u32)
        self._wait_for = _function(waits, "os_sync_wait_on_address_with_timeout", pointer, u64, size, u32, u32, u64)
        self._wake_any = _function(wakes, "os_sync_wake_by_address_any", pointer, size, u32)
        self._wake_all = _function(wakes, "os_sync_wake_by_address_all", pointer, size, u32)

    def wait(self, address: int, expected: int, nanoseconds: int | None, shared: bool) -> tuple[int, int]:
        flags = SYNC_SHARED if shared else 0
        if nanoseconds is None:
            return call_and_errno(self._wait, address, expected, SIZE, flags)
        return call_and_errno(self._wait_for, address, expected, SIZE, flags, CLOCK_MACH_ABSOLUTE, nanoseconds)

    def wake(self, address: int, everybody: bool, shared: bool) -> tuple[int, int]:
        wake = self._wake_all if everybody else self._wake_any
        return call_and_errno(wake, address, SIZE, SYNC_SHARED if shared else 0)


class _Ulock:
    """__ulock_wait2 (nanoseconds, macOS 11) or __ulock_wait (microseconds in 32 bits, 10.12)."""

    def __init__(self, waits: ctypes.CDLL, wakes: ctypes.CDLL) -> None:
        pointer, u32, u64 = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64
        self._wait2 = None
        self._wait = None
        try:
            self._wait2 = _function(waits, "__ulock_wait2", u32, pointer, u64, u64, u64)
            self.name = "__ulock_wait2"
        except AttributeError:
            self._wait = _function(waits, "__ulock_wait", u32, pointer, u64, u32)
            self.name = "__ulock_wait"
        self._wake = _function(wakes, "__ulock_wake", u32, pointer, u64)

    def wait(self, address: int, expected: int, nanoseconds: int | None, shared: bool) -> tuple[int, int]:
        operation = UL_COMPARE_AND_WAIT_SHARED if shared else UL_COMPARE_AND_WAIT
        # Zero waits forever.
        if self._wait2 is not None:
            return call_and_errno(self._wait2, operation, address, expected, nanoseconds or 0, 0)
        assert self._wait is not None
        microseconds = 0 if nanoseconds is None else min(-(-nanoseconds // 1000), UINT32_MAX)
        return call_and_errno(self._wait, operation, address, expected, microseconds)

    def wake(self, address: int, everybody: bool, shared: bool) -> tuple[int, int]:
        operation = UL_COMPARE_AND_WAIT_SHARED if shared else UL_COMPARE_AND_WAIT
        return call_and_errno(self._wake, operation | (ULF_WAKE_ALL if everybody else 0), address, 0)


class Ulock(Probed):
    """macOS' wait on an address as a Backend.

    Example:
        >>> import sys
        >>> from aiopark.lowlevel import Ulock
        >>> (Ulock.create() is not None) == (sys.platform == "darwin")
        True
    """

    name: ClassVar[str] = "ulock"
    supports_shared: ClassVar[bool] = True
    supports_native_wake: ClassVar[bool] = True

    def __init__(self, calls: _Calls) -> None:
        self._calls = calls

    @classmethod
    def _probe(cls) -> Self | str:
        if sys.platform != "darwin":
            return f"os_sync_wait_on_address and __ulock_wait are macOS' own calls, and this is {sys.platform}"
        return cls._load(None)

    @classmethod
    def _load(cls, library: str | None) -> Self | str:
        # CDLL gives the GIL up while the call waits.
        waits, wakes = ctypes.CDLL(library, use_errno=True), load_keeping_gil(library, use_errno=True)
        for generation in (_OsSync, _Ulock):
            try:
                return cls(generation(waits, wakes))
            except AttributeError:
                continue
        return "the C library has neither os_sync_wait_on_address nor __ulock_wait; they came with 10.12"

    def wait(self, address: int, expected: int, deadline: float | None = None, *, shared: bool = False) -> None:
        """See `Backend.wait`."""
        nanoseconds = None
        if deadline is not None:
            # Zero is EINVAL to one generation and forever to the other.
            remaining = min(max(deadline - time.monotonic(), 0.0), LONGEST_WAIT)
            nanoseconds = max(math.ceil(remaining * 1e9), 1)
        result, error = self._calls.wait(address, expected, nanoseconds, shared)
        if result < 0 and error not in _WAIT_ERRORS:
            raise call_failed(self._calls.name, error, address)

    def wake_one(self, address: int, *, shared: bool = False) -> None:
        """See `Backend.wake_one`."""
        self._wake(address, False, shared)

    def wake_all(self, address: int, *, shared: bool = False) -> None:
        """See `Backend.wake_all`."""
        self._wake(address, True, shared)

    def _wake(self, address: int, everybody: bool, shared: bool) -> None:
        result, error = self._calls.wake(address, everybody, shared)
        if result < 0 and error not in _WAKE_ERRORS:
            raise call_failed(f"the wake that belongs to {self._calls.name}", error, address)
