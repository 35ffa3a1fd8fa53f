"""Windows 8 and later: WaitOnAddress, the call that parking_lot_core's thread parker is built on.

Sources: learn.microsoft.com, WaitOnAddress and WakeByAddressSingle; parking_lot_core,
`core/src/thread_parker/windows/waitaddress.rs`. Not kept from there: deadlines beyond 49.7 days are honoured.
"""

import ctypes
import math
import sys
import threading
import time
from typing import Any, ClassVar, Final, Self

from aiopark._os._backend import LONGEST_WAIT, Probed, call_and_errno, call_failed, load_keeping_gil

INFINITE: Final = 0xFFFFFFFF
ERROR_TIMEOUT: Final = 1460
# kernel32 does not export the calls; the first name is what Microsoft's own C++ library loads.
LIBRARIES: Final = ("api-ms-win-core-synch-l1-2-0", "kernelbase")
# A parked main thread looks for Ctrl-C this often: the call itself is not interruptible.
MAIN_THREAD_SLICE: Final = 0.1

if sys.platform == "win32":
    _last_error = ctypes.get_last_error
else:
    _last_error = ctypes.get_errno  # the functions are a test's, behind CDLL(use_errno=True)


def milliseconds(remaining: float) -> int:
    """Round a finite time up to the milliseconds of a DWORD, never to INFINITE.

    Args:
        remaining: seconds, maybe negative.
    """
    return math.ceil(min(max(remaining, 0.0) * 1000, INFINITE - 1))


class WaitAddress(Probed):
    """Windows' WaitOnAddress as a Backend: reaches the threads of this process, not other processes.

    Example:
        >>> from aiopark.lowlevel import WaitAddress
        >>> backend = WaitAddress.create()
        >>> backend is None or backend.name == "waitaddress"
        True
    """

    name: ClassVar[str] = "waitaddress"
    supports_shared: ClassVar[bool] = False
    supports_native_wake: ClassVar[bool] = True

    def __init__(self, wait: Any, wake_single: Any, wake_all: Any) -> None:
        # BOOL WaitOnAddress(volatile VOID *Address, PVOID CompareAddress, SIZE_T AddressSize, DWORD ms)
        wait.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint32)
        wait.restype = ctypes.c_int
        for wake in (wake_single, wake_all):  # void WakeByAddress*(PVOID Address)
            wake.argtypes, wake.restype = (ctypes.c_void_p,), None
        self._wait, self._wake_single, self._wake_all = wait, wake_single, wake_all

    @classmethod
    def _probe(cls) -> Self | str:
        if sys.platform != "win32":
            return f"WaitOnAddress is Windows' own call, and this is {sys.platform}"
        for library in LIBRARIES:
            try:
                waits = ctypes.WinDLL(library, use_last_error=True)
                # The wakes never block, so they keep the GIL (64-bit Windows has one calling convention).
                wakes = load_keeping_gil(library) if ctypes.sizeof(ctypes.c_void_p) == 8 else waits
                return cls(waits["WaitOnAddress"], wakes["WakeByAddressSingle"], wakes["WakeByAddressAll"])
            except (OSError, AttributeError):
                continue
        return "neither of " + ", ".join(LIBRARIES) + " exports WaitOnAddress; it came with Windows 8"

    def wait(self, address: int, expected: int, deadline: float | None = None, *, shared: bool = False) -> None:
        """See `Backend.wait`. `shared` is not supported."""
        assert not shared
        timeout = INFINITE
        if deadline is not None:
            timeout = milliseconds(min(deadline - time.monotonic(), LONGEST_WAIT))
        if threading.get_ident() == threading.main_thread().ident:
            timeout = min(timeout, milliseconds(MAIN_THREAD_SLICE))
        compare = ctypes.c_uint32(expected)
        result, error = call_and_errno(self._wait, address, ctypes.addressof(compare), 4, timeout, errno=_last_error)
        if not result and error != ERROR_TIMEOUT:
            raise call_failed("WaitOnAddress", error, address)

    def wake_one(self, address: int, *, shared: bool = False) -> None:
        """See `Backend.wake_one`."""
        assert not shared
        self._wake_single(address)

    def wake_all(self, address: int, *, shared: bool = False) -> None:
        """See `Backend.wake_all`."""
        assert not shared
        self._wake_all(address)
