"""Doorbell: a descriptor of our own that makes a selector loop call us, cheaper than its own self-pipe.

asyncio's `call_soon_threadsafe` builds a Handle and writes to a socket for every call; this writes to an eventfd
where there is one (8 bytes in the kernel, one descriptor). Where the loop cannot watch descriptors (Windows'
Proactor, some Qt loops), or none is to be had, there is no doorbell and `call_soon_threadsafe` is used. On Windows no
loop gets one: there it could only be a socket, which costs more than each loop's own way to be woken (under Wine: 4.8
against 0.9 of `call_soon_threadsafe` and a Future on winloop, 1.1 against 0.6 on asyncio's selector loop).

The loop owns the doorbell, through the reader that it registers; a bridge knows it by a weak reference. So the
descriptor closes when the loop does, whoever is still parked there. Whoever rings holds the doorbell meanwhile, so
it cannot close under the write. In a cycle that the collector takes, finalizers run in any order and may ring after
`__del__`: they find the descriptor gone, not a number that may be somebody else's file by then.
"""

from __future__ import annotations

import contextvars
import errno
import os
import socket
import sys
import weakref
from typing import TYPE_CHECKING, ClassVar, Final

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable

# No descriptor, or no watch on one, is to be had: the loop's own self-pipe, which it has already, must do.
_NONE_LEFT: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC})


class _Descriptor:
    """What closes an eventfd.

    Not the doorbell itself: it is known by weak references, one of which may still give it while its `__del__` begins.
    They are gone before this is, and who rings holds this.
    """

    __slots__ = ("fileno",)

    def __init__(self) -> None:
        self.fileno = -1
        if sys.platform == "linux":
            self.fileno = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def __del__(self) -> None:
        fileno, self.fileno = self.fileno, -1
        if fileno >= 0:
            os.close(fileno)


class EventfdDoorbell:
    """One eventfd (Linux)."""

    kind: ClassVar[str] = "eventfd"
    __slots__ = ("__weakref__", "_answer", "_descriptor", "owned")

    def __init__(self, answer: Callable[[], object]) -> None:
        self._answer = answer
        self._descriptor = _Descriptor()
        self.owned: object = None  # lives as long as the doorbell

    def fileno(self) -> int:
        """Return the descriptor that the loop watches."""
        return self._descriptor.fileno

    def ring(self) -> None:
        """Make the loop answer soon. Any thread, signal handlers, finalizers; does not block."""
        descriptor = self._descriptor
        if sys.platform == "linux" and descriptor.fileno >= 0:
            os.eventfd_write(descriptor.fileno, 1)

    def answer(self) -> None:
        """Take the rings back, then let the posts be looked at. On the loop's thread."""
        try:
            try:
                if sys.platform == "linux":
                    os.eventfd_read(self._descriptor.fileno)
            except BlockingIOError:
                pass  # answered twice for one ring: a pass of the loop that an exception ended was begun again
            self._answer()
        except BaseException:
            self.ring()  # a signal handler that raises came between the two, say
            raise


class SocketDoorbell:
    """A pair of sockets (everywhere else)."""

    kind: ClassVar[str] = "socketpair"
    __slots__ = ("__weakref__", "_answer", "_receiver", "_sender")

    def __init__(self, answer: Callable[[], object]) -> None:
        self._answer = answer
        self._receiver, self._sender = socket.socketpair()
        self._receiver.setblocking(False)
        self._sender.setblocking(False)

    def __del__(self) -> None:
        self._receiver.close()
        self._sender.close()

    def fileno(self) -> int:
        """Return the descriptor that the loop watches."""
        return self._receiver.fileno()

    def ring(self) -> None:
        """See `EventfdDoorbell.ring`."""
        try:
            self._sender.send(b"\0")
        except BlockingIOError:
            pass  # full of rings that the loop has not heard yet
        except OSError as error:
            if error.errno != errno.EBADF:  # closed; the number is forgotten with it
                raise

    def answer(self) -> None:
        """See `EventfdDoorbell.answer`."""
        try:
            try:
                self._receiver.recv(4096)
            except BlockingIOError:
                pass  # an earlier read took two rings
            self._answer()
        except BaseException:
            self.ring()
            raise


Doorbell = EventfdDoorbell | SocketDoorbell


def hang(loop: AbstractEventLoop, answer: Callable[[], object]) -> weakref.ref[Doorbell] | None:
    """Hang a doorbell at the loop's door, which the loop owns. None: this loop has to do without one."""
    if sys.platform == "win32":
        return None
    kind = EventfdDoorbell if hasattr(os, "eventfd") else SocketDoorbell
    try:
        doorbell = kind(answer)
        # In a context of its own: the handle that the loop keeps would keep the first parking task's variables.
        contextvars.Context().run(loop.add_reader, doorbell.fileno(), doorbell.answer)
    except (NotImplementedError, AttributeError):
        return None
    except OSError as error:
        if error.errno not in _NONE_LEFT:
            raise
        return None
    return weakref.ref(doorbell)
