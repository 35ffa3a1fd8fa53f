"""Linux 6.7 and later: one io_uring that waits on any number of futexes, with no thread.

The ring is made with SINGLE_ISSUER and DEFER_TASKRUN: one thread submits and reaps, and what happened is put into the
completion queue when that thread asks for it. So neither a signal interrupts the thread, nor do its reads and writes
of the queues need fences: the kernel touches them inside of this thread's own system calls. (After that thread has
ended the kernel adds its last completions from elsewhere, and says so through the eventfd.)

The waits are non-private ones, as all here. See `_linux`.

Sources: man 2 io_uring_setup, io_uring_enter, io_uring_register; include/uapi/linux/io_uring.h; io_uring/futex.c.
"""

from __future__ import annotations

import ctypes
import errno
from typing import TYPE_CHECKING, Final

from aiopark._os._backend import call_and_errno
from aiopark._os._io_uring_calls import ENTER, failed, raw
from aiopark._os._io_uring_memory import CQE, SQE, RingMemory

if TYPE_CHECKING:
    from collections.abc import Callable

_GETEVENTS: Final = 1
_CQ_OVERFLOW, _TASKRUN = 1 << 1, 1 << 2  # SQ flags
_EVENTFD_DISABLED: Final = 1  # CQ flag
_FUTEX_WAIT: Final = 51  # IORING_OP_FUTEX_WAIT, Linux 6.7
_FUTEX2_SIZE_U32: Final = 2
_U32: Final = 0xFFFFFFFF

# No ring is to be had now, as no descriptor or memory is left.
NONE_LEFT: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class ForeignThreadError(OSError):
    """The ring belongs to another thread (EEXIST), which may have ended."""


class Ring:
    """One ring, for the thread that makes it.

    A method that a signal handler interrupts by raising may have lost completions, and so may `completions` that raises
    an OSError: close the ring then.

    Args:
        eventfd: written to by the kernel when there are completions to ask for.
        fence: a full memory fence.

    Raises:
        OSError: a call failed; the message names it.
    """

    __slots__ = (
        "__weakref__", "_ask", "_count", "_cq_flags", "_cq_head", "_cq_mask", "_cq_tail", "_cqes", "_fence", "_memory",
        "_sq_flags", "_sq_head", "_sq_mask", "_sq_tail", "_sqes", "_submit", "_submit_and_ask",
    )  # fmt: skip

    def __init__(self, eventfd: int, fence: Callable[[], object]) -> None:
        self._fence: Final = fence
        memory = self._memory = RingMemory(eventfd)
        self._sqes, self._sq_mask = memory.sqes, memory.sq_mask
        self._sq_head, self._sq_tail, self._sq_flags = memory.sq_head, memory.sq_tail, memory.sq_flags
        self._cqes, self._cq_mask = memory.cqes, memory.cq_mask
        self._cq_head, self._cq_tail, self._cq_flags = memory.cq_head, memory.cq_tail, memory.cq_flags
        # Converted once, as in Futex.
        enter, fileno, zero, asks = map(ctypes.c_long, (ENTER, memory.fileno, 0, _GETEVENTS))
        self._count: Final = ctypes.c_long(0)
        self._submit: Final = (enter, fileno, self._count, zero, zero, zero, zero)
        self._submit_and_ask: Final = (enter, fileno, self._count, zero, asks, zero, zero)
        self._ask: Final = (enter, fileno, zero, zero, asks, zero, zero)

    def fileno(self) -> int:
        """Return the ring's descriptor, -1 once it is closed."""
        return self._memory.fileno

    def close(self) -> None:
        """Let go of the ring. Idempotent; from any thread. But for `fileno`, nothing else may be called any more.

        The kernel takes pending waits out of their queues a little later, and until then they may swallow wakes:
        wake them all first.
        """
        self._memory.close()

    def prepare(self, address: int, expected: int, user_data: int) -> bool:
        """Queue one wait: it completes at once if the word does not hold `expected`, and else when it is woken.

        Returns:
            Whether there was room; `submit` makes some.
        """
        tail = self._sq_tail.value
        if (tail - self._sq_head.value) & _U32 > self._sq_mask:
            return False
        SQE.pack_into(
            self._sqes, SQE.size * (tail & self._sq_mask),
            _FUTEX_WAIT, 0, 0, _FUTEX2_SIZE_U32, expected, address, 0, 0, user_data, 0, 0, 0, _U32, 0,  # mask: any wake
        )  # fmt: skip
        self._sq_tail.value = (tail + 1) & _U32
        return True

    def submit(self, *, get_events: bool = False) -> None:
        """Hand over what is queued. Nothing queued: do nothing.

        Args:
            get_events: whether the same call asks for what happened; then call `completions` next, since the eventfd
                is not written for that.

        Raises:
            ForeignThreadError: this is not the ring's thread.
            BlockingIOError: the kernel wants completions to be taken first.
            OSError: the call failed otherwise. In none of these cases is anything submitted.
        """
        # The kernel may take some only, where one of them is refused; that call does not get to the events.
        while count := (self._sq_tail.value - self._sq_head.value) & _U32:
            self._count.value = count
            if get_events:
                self._enter_unrung(self._submit_and_ask)
            else:
                self._enter(self._submit)

    def has_more(self) -> bool:
        """Return whether the kernel has something to ask for. From any thread."""
        return bool(self._sq_flags.value & (_TASKRUN | _CQ_OVERFLOW))

    def completions(self) -> list[tuple[int, int]]:
        """Ask for what happened, until there is no more.

        Returns:
            The user_data and the result of each wait that is over.

        Raises:
            ForeignThreadError: this is not the ring's thread, and there is something that only that can ask for.
            OSError: the call failed otherwise.
        """
        taken: list[tuple[int, int]] = []
        while True:
            head, tail = self._cq_head.value, self._cq_tail.value
            if head != tail:
                while head != tail:
                    taken.append(CQE.unpack_from(self._cqes, CQE.size * (head & self._cq_mask)))
                    head = (head + 1) & _U32
                self._cq_head.value = head
            if not self.has_more():
                return taken
            self._enter_unrung(self._ask)  # gives some 20 at a time

    def _enter_unrung(self, arguments: tuple[ctypes.c_long, ...]) -> None:
        # What we ask for ourselves need not ring: that would cost the loop a pass.
        self._cq_flags.value = _EVENTFD_DISABLED
        try:
            self._enter(arguments)
        finally:
            self._cq_flags.value = 0
            self._fence()  # what did not ring meanwhile shows in the next look; the kernel marks, then looks here

    def _enter(self, arguments: tuple[ctypes.c_long, ...]) -> None:
        if raw(*arguments) != -1:
            return
        result, error = call_and_errno(raw, *arguments)  # see Futex.wait; and nothing was done yet
        if result != -1:
            return
        if error == errno.EEXIST:
            raise ForeignThreadError(error, "io_uring_enter: the ring is another thread's")
        if error == errno.EBUSY:
            raise BlockingIOError(error, "io_uring_enter: there are completions to be taken first")
        raise failed("io_uring_enter", error)
