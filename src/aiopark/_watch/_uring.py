"""An io_uring of the running loop waits for the cell, with no thread (Linux 6.7 and later). See `_loop_ring`."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from aiopark._errors import UnsupportedError
from aiopark._watch._loop_ring import LoopRing, note, taken_away
from aiopark._watch._threads import ThreadWatch

if TYPE_CHECKING:
    from aiopark._cell import Cell
    from aiopark._watch._kernel_wait import KernelWait
    from aiopark._watch._protocol import Hint, SourceOf


class RingWatch:
    """See `Watch`.

    Args:
        cell: the cell.
        hint: see `Hint`.
        forced: whether nothing but a ring will do; else a thread waits where a loop can have no ring.
    """

    name: ClassVar[str] = "uring"

    __slots__ = ("_cell", "_closed", "_forced", "_hint", "_thread", "_wait")

    def __init__(self, cell: Cell, hint: Hint, *, forced: bool = False) -> None:
        self._wait: KernelWait | None = None
        self._thread: ThreadWatch | None = None
        self._closed = False
        self._cell: Final = cell
        self._hint: Final = hint
        self._forced: Final = forced

    def arm(self, seen: int, source_of: SourceOf) -> None:
        """See `Watch.arm`."""
        wait = self._wait
        if wait is not None and wait.failure is not None:
            self._wait = None  # the next park tries again
            raise wait.failure
        if self._forced:
            ring: LoopRing | None = source_of(LoopRing)
            if ring is None:
                raise UnsupportedError(
                    "this event loop cannot watch an eventfd, which a ring needs; unset AIOPARK_WATCHER, or use threads"
                )
            self._wait = ring.arm(self._wait, self._cell, seen, self._hint)
        elif not self._arm_on_ring(seen, source_of):
            if self._thread is None:
                self._thread = ThreadWatch(self._cell, self._hint)
            self._thread.arm(seen, source_of)
            if self._closed:  # by another thread, meanwhile
                self._thread.close()

    def _arm_on_ring(self, seen: int, source_of: SourceOf) -> bool:
        if taken_away():
            return False
        try:
            ring: LoopRing | None = source_of(LoopRing)
            if ring is None:
                return False
            self._wait = ring.arm(self._wait, self._cell, seen, self._hint)
        except OSError as error:
            note(error)
            return False
        return True

    def close(self) -> None:
        """See `Watch.close`."""
        self._closed = True
        if self._thread is not None:
            self._thread.close()

    def close_later(self) -> None:
        """See `Watch.close_later`."""
        self._closed = True
        if self._thread is not None:
            self._thread.close_later()
