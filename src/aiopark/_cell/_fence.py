"""A full memory fence, for every platform, by what can be called through ctypes. Why one is needed: see `_word`."""

import ctypes
import platform
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Final

from aiopark._os import Futex
from aiopark._os._backend import load_keeping_gil

_SEQ_CST: Final = 5  # memory_order_seq_cst


_nobody: Final = ctypes.c_uint32()


def choose() -> tuple[str, Callable[[], object]]:
    """Choose this platform's full memory fence, by what can be called through ctypes."""
    library, symbol, arguments = {
        "darwin": (None, "OSMemoryBarrier", ()),  # libSystem
        "win32": ("kernel32", "FlushProcessWriteBuffers", ()),
    }.get(sys.platform, ("libatomic.so.1", "atomic_thread_fence", (_SEQ_CST,)))  # GCC's run-time library
    try:
        fence = load_keeping_gil(library)[symbol]
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


NAME: str
full_fence: Callable[[], object]
NAME, full_fence = choose()
# Plain moves are acquire and release on x86 alone; elsewhere each of them gets the fence.
PLAIN_IS_ORDERED: Final = platform.machine().lower() in {
    "x86_64",
    "amd64",
    "i386",
    "i486",
    "i586",
    "i686",
    "x86",
}


def fence() -> None:
    """Have every load and store before it become visible before those after it: a full memory fence.

    For protocols of one's own on words: "store one word, then load another" on both sides needs one in between, on x86
    too.
    May be called from anywhere; does not block.

    Example:
        >>> from aiopark.lowlevel import fence
        >>> fence()
    """
    full_fence()
