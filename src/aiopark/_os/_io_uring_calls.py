"""The calls that an io_uring is made of: by number, since no C library has them, with their errors as OSError."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import TYPE_CHECKING, Final

from aiopark._os._backend import call_and_errno, load_keeping_gil

if TYPE_CHECKING:
    from collections.abc import Callable

SETUP, ENTER, REGISTER = 425, 426, 427  # the same on every machine but alpha
_PROT_READ_WRITE, _MAP_SHARED_POPULATE = 3, 0x8001
_MADV_DONTFORK: Final = 10

# On Linux alone; nobody calls them elsewhere.
raw: Callable[..., int]
_mmap: Callable[..., int]
_munmap: Callable[..., int]
_madvise: Callable[..., int]


def failed(call: str, error: int) -> OSError:
    """Build the OSError of a call."""
    return OSError(error, f"{call}: {os.strerror(error)}")


def _called(call: str, function: Callable[..., int], *arguments: int | None) -> int:
    result, error = call_and_errno(function, *arguments)
    if result == -1:
        raise failed(call, error)
    return result


def system_call(call: str, number: int, *arguments: int) -> int:
    """Do a system call by its number, which must not block.

    Raises:
        OSError: it failed.
    """
    return _called(call, raw, number, *arguments, *(0,) * (6 - len(arguments)))


def map_ring(size: int, fileno: int, offset: int) -> int:
    """Map a part of the ring, for this process and not for children that it forks."""
    # Not the module mmap, which would duplicate the descriptor.
    base = _called("mmap of the ring", _mmap, None, size, _PROT_READ_WRITE, _MAP_SHARED_POPULATE, fileno, offset)
    _called("madvise(MADV_DONTFORK)", _madvise, base, size, _MADV_DONTFORK)
    return base


def unmap_ring(base: int, size: int) -> None:
    """Undo `map_ring`."""
    _called("munmap of the ring", _munmap, base, size)


if sys.platform == "linux":
    _library = load_keeping_gil(None, use_errno=True)  # none of these calls waits

    def _function(name: str, result: type, *arguments: type) -> Callable[..., int]:
        function = _library[name]
        function.restype, function.argtypes = result, arguments
        return function

    raw = _function("syscall", ctypes.c_long, *(ctypes.c_long,) * 7)
    # Signed, so that MAP_FAILED is -1. musl has 64-bit offsets only, under the plain name.
    _mmap = _function(
        "mmap64" if hasattr(_library, "mmap64") else "mmap",
        ctypes.c_ssize_t, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64,
    )  # fmt: skip
    _munmap = _function("munmap", ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
    _madvise = _function("madvise", ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
else:

    def raw(*_: object) -> int:
        """Stand in for a call that nobody makes: `refusal` looks for Linux first."""
        raise NotImplementedError

    _mmap = _munmap = _madvise = raw
