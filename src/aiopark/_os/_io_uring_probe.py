"""Does an io_uring wait on futexes here?"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import platform
import sys

from aiopark._os._io_uring import NONE_LEFT, Ring


@functools.cache
def refusal() -> str | None:
    """Return why no ring can wait on futexes here, or None if one can. Does not block."""
    if sys.platform != "linux":
        return f"io_uring is Linux' own, and this is {sys.platform}"
    if not hasattr(os, "eventfd"):
        return f"this {platform.python_implementation()} has no os.eventfd, by which a ring tells a loop"
    try:
        eventfd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    except OSError as error:
        return None if error.errno in NONE_LEFT else _hint(error)
    try:
        ring = Ring(eventfd, int)
        try:
            other = ctypes.c_uint32(0)  # a wait on a word that holds something else ends at once
            ring.prepare(ctypes.addressof(other), 1, 0)
            ring.submit()
            results = [result for _, result in ring.completions()]
        finally:
            ring.close()
    except OSError as error:
        # No descriptor or memory left for now says nothing about the kernel.
        return None if error.errno in NONE_LEFT else _hint(error)
    finally:
        os.close(eventfd)
    if results != [-errno.EAGAIN]:
        return f"IORING_OP_FUTEX_WAIT gave {results} (it came with Linux 6.7, and this is {platform.release()})"
    return None


def _hint(error: OSError) -> str:
    """Return what the error of a probe usually means."""
    if error.errno == errno.EPERM:
        return f"{error.strerror} (a seccomp filter, or the sysctl kernel.io_uring_disabled)"
    if error.errno in {errno.ENOSYS, errno.EINVAL}:
        return f"{error.strerror} (it takes Linux 6.7, and this is {platform.release()})"
    return str(error.strerror)
