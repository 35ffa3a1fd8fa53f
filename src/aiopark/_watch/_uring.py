"""An io_uring of the running loop waits for the word, with no thread (Linux 6.7 and later). See `_loop_ring`."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from aiopark._errors import UnsupportedError
from aiopark._os._io_uring import NONE_LEFT
from aiopark._watch._loop_ring import LoopRing
from aiopark._watch._threads import ThreadWatch

if TYPE_CHECKING:
    from aiopark._watch._arm import Arm
    from aiopark._watch._protocol import Hint, SourceOf
    from aiopark._word import Word


class RingWatch:
    """See `Watch`.

    Args:
        word: the word.
        hint: see `Hint`.
        alone: whether nothing but a ring will do; else a thread waits where a loop can have no ring.
    """

    name: ClassVar[str] = "uring"

    __slots__ = (
        "__weakref__",
        "_alone",
        "_arm",
        "_closed",
        "_hint",
        "_stopped",
        "_thread",
        "_unsure",
        "_used",
        "_word",
    )

    def __init__(self, word: Word, hint: Hint, *, alone: bool = False) -> None:
        self._used = self._unsure = False
        self._closed = False
        self._stopped = False
        self._arm: Arm | None = None
        self._thread: ThreadWatch | None = None
        self._word: Final = word
        self._hint: Final = hint
        self._alone: Final = alone

    def arm(self, seen: int, source_of: SourceOf) -> None:
        """See `Watch.arm`."""
        ring = self._ring_of(source_of)
        arm = self._arm
        if arm is not None and not arm.done and ring is not None and arm.token is ring.token:
            if arm.early:
                arm.again = seen
            return
        self._arm = None
        if self._unsure:  # an arm was interrupted, and may have left a wait in the kernel
            self._word._wake_all()
            self._unsure = False
        if arm is not None:
            arm.take_off()  # it would swallow the wake, and pass it on only if its loop runs
            if arm.failure is not None:
                raise arm.failure
        if ring is None or not self._arm_on(ring, seen):
            if self._thread is None:
                self._thread = ThreadWatch(self._word, self._hint)
            self._thread.arm(seen, source_of)
        if self._closed:  # by another thread, meanwhile
            self._stop()

    def _ring_of(self, source_of: SourceOf) -> LoopRing | None:
        try:
            ring: LoopRing | None = source_of(LoopRing)
        except OSError as error:
            if self._alone or error.errno not in NONE_LEFT:
                raise
            return None
        if ring is None and self._alone:
            raise UnsupportedError(
                "this event loop cannot watch an eventfd, which a ring needs; unset AIOPARK_WATCHER, or use threads"
            )
        return ring

    def _arm_on(self, ring: LoopRing, seen: int) -> bool:
        self._used = self._unsure = True
        try:
            self._arm = ring.arm(self._word, seen, self._hint)
            self._unsure = False
        except OSError as error:
            if self._alone or error.errno not in NONE_LEFT:
                raise
            return False
        return True

    def close(self) -> None:
        """See `Watch.close`."""
        if not self._stopped:
            self._closed = True
            self._stop()
            self._stopped = True  # last: a close that is interrupted may be called again

    def _stop(self) -> None:
        self._take_off()
        if self._thread is not None:
            self._thread.close()

    def _take_off(self) -> None:
        if self._used:
            # Also what an interrupted arm left in the kernel: it would swallow a wake of the word's next owner.
            self._word._wake_all()
            if self._arm is not None:
                self._arm.memory = None

    def __del__(self) -> None:
        if not self._stopped:
            self._take_off()
