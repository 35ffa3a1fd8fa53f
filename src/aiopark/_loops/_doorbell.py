"""Doorbell: a descriptor of our own that makes a selector loop call us, cheaper than its own self-pipe.

asyncio's `call_soon_threadsafe` builds a Handle and writes to a socket for every call; this writes to an eventfd
where there is one (8 bytes in the kernel, one descriptor). Where the loop cannot watch descriptors (Windows'
Proactor, some Qt loops), there is none and `call_soon_threadsafe` is used.
"""

from __future__ import annotations

import os
import socket
import sys
import weakref
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable


class Doorbell:
    """Rings the loop that watches it. Closes its descriptors when it is collected.

    Attributes:
        ring: rings. Any thread, signal handlers, finalizers; does not block. At a closed loop's doorbell: nothing.
            A doorbell that cannot take one more ring raises BlockingIOError, and rings already.
        silence: takes the rings back, before the posts are looked at. Raises BlockingIOError if there was none.
    """

    __slots__ = ("__weakref__", "_fileno", "ring", "silence")

    def __init__(self) -> None:
        self.ring: Callable[[], object]
        self.silence: Callable[[], object]
        if sys.platform == "linux" and hasattr(os, "eventfd"):
            self._fileno = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self.ring = partial(os.eventfd_write, self._fileno, 1)
            self.silence = partial(os.eventfd_read, self._fileno)
            close: Callable[[], object] = partial(os.close, self._fileno)
        else:
            receiver, sender = socket.socketpair()
            receiver.setblocking(False)
            sender.setblocking(False)
            self._fileno = receiver.fileno()
            self.ring = partial(sender.send, b"\0")
            self.silence = partial(receiver.recv, 4096)
            close = partial(_close, receiver, sender)
        # Not at exit: there the kernel closes it, after the last daemon thread that may ring.
        weakref.finalize(self, close).atexit = False

    def attach(self, loop: AbstractEventLoop, answer: Callable[[], object]) -> bool:
        """Have `loop` call `answer` while it rings. False: this loop watches no descriptors."""
        try:
            loop.add_reader(self._fileno, answer)
        except (NotImplementedError, AttributeError):
            return False
        return True


def _close(*sockets: socket.socket) -> None:
    for one in sockets:
        one.close()
