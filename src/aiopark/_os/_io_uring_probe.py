"""Does an io_uring wait on futexes here? And what has to be done before one does."""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import platform
import sys
import threading

from aiopark._os._io_uring import NONE_LEFT, Ring
from aiopark._os._io_uring_calls import private_futex_slots


@functools.cache
def refusal() -> str | None:
    """Say why no ring can wait on futexes here, or None if one can. Does not block."""
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
            # Two that end at once: the word holds something else.
            other = ctypes.c_uint32(0)
            for user_data, shared in enumerate((False, True)):
                ring.prepare(ctypes.addressof(other), 1, user_data, shared=shared)
            ring.submit()
            results = [result for _, result in ring.completions()]
        finally:
            ring.close()
    except OSError as error:
        # No descriptor or memory left for now says nothing about the kernel.
        return None if error.errno in NONE_LEFT else _hint(error)
    finally:
        os.close(eventfd)
    if results != [-errno.EAGAIN] * 2:
        return f"IORING_OP_FUTEX_WAIT gave {results} (it came with Linux 6.7, and this is {platform.release()})"
    return None


def _hint(error: OSError) -> str:
    """Say what the error of a probe usually means."""
    if error.errno == errno.EPERM:
        return f"{error.strerror} (a seccomp filter, or the sysctl kernel.io_uring_disabled)"
    if error.errno in {errno.ENOSYS, errno.EINVAL}:
        return f"{error.strerror} (it takes Linux 6.7, and this is {platform.release()})"
    return str(error.strerror)


def settle_private_futexes() -> None:
    """Keep private waits of rings from being orphaned. Call it before a ring is used, in a child of a fork again.

    Since Linux 6.16 the first thread of a process gives it a futex table of its own, and leaves private waits that a
    ring holds in the global one, where no wake finds them any more. So the table is made first, by a thread that does
    nothing.
    """
    if private_futex_slots() == 0:
        thread = threading.Thread(target=int, name="aiopark-futex-table", daemon=True)
        thread.start()
        thread.join()
