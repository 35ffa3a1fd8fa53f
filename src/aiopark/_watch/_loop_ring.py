"""LoopRing: the io_uring of one loop, which waits for all cells that its tasks sleep on.

All here is for the loop's own thread, which alone may submit and reap; but the collector may `close` the ring of a loop
that is dead, on any thread.

A task submits its wait when it goes to sleep, and does so at no other time: so who holds the lease of an address, or
has a task of this loop asleep in `wait_while`, is the only one on whose behalf a wait can enter the kernel. That is
why a lease that ends can take all waits off, by one wake of the address, and be sure that none comes after.

Asking the kernel which waits are completed costs 3 to 5 µs before a task can run. Where a few cells are watched, it is
cheaper to look at them: `before_drain` hints those that changed, their tasks run, and then `after_drain` asks. Measured
against a bare eventfd, from a native thread's wake to the next line of the task: 1.26 with it and 1.53 without on
asyncio, 1.72 and 2.13 on uvloop.

Interruptions and failures have one remedy. Whatever raises in here (a signal handler, a system call that a sandbox has
taken away, a loop that goes on on another thread) leaves the ring broken, and a broken ring is retired: everybody is
taken off in the kernel and hinted, so that whoever still sleeps arms anew, on a new ring or, if there is none to be
had, by a thread. A retirement that is interrupted goes on at the next call, for the ring stays broken until all of it
is done.
"""

from __future__ import annotations

import itertools
import logging
import sys
import weakref
from typing import TYPE_CHECKING, Final

from aiopark import _fork
from aiopark._cell import full_fence
from aiopark._os._io_uring import NONE_LEFT, ForeignThreadError, Ring
from aiopark._watch._kernel_wait import OVER, WAITING, KernelWait

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiopark._cell import Cell
    from aiopark._watch._protocol import Hint

# Up to so many cells are looked at, 0.2 µs each, before the kernel is asked.
FEW: Final = 16

# Every ring of a loop. `add`, `discard` and `copy` of a set of weak references are atomic.
rings: Final[set[weakref.ref[LoopRing]]] = set()

_taken_away: Final[list[str]] = []  # what the kernel said when it took the rings away from this process
_log: Final = logging.getLogger("aiopark")


def taken_away() -> bool:
    """Return whether the kernel has taken the rings away from this process, after it had granted some."""
    return bool(_taken_away)


def note(error: OSError) -> None:
    """Note that the kernel refused a ring that should work, and say so once in the log."""
    if isinstance(error, ForeignThreadError) or error.errno in NONE_LEFT:
        return  # that passes
    if not _taken_away:
        _taken_away.append(str(error))
        _log.warning("io_uring is refused from now on (%s): threads watch words instead", error)


class LoopRing:
    """The ring, a `Source` of its loop.

    Args:
        eventfd: what the kernel writes to when it has completions.

    Raises:
        OSError: no ring is to be had.
    """

    __slots__ = ("__weakref__", "_broken", "_epoch", "_eventfd", "_numbers", "_ring", "_token", "_waits")

    def __init__(self, eventfd: int) -> None:
        self._ring: Ring | None = None
        self._broken = False
        self._waits: Final[dict[int, KernelWait]] = {}  # by the number of each
        self._epoch: Final = _fork.epoch
        self._eventfd: Final = eventfd
        self._numbers: Final = itertools.count()
        self._token = object()
        self._ring = Ring(eventfd, full_fence)
        rings.add(weakref.ref(self, rings.discard))

    def __len__(self) -> int:
        return len(self._waits) if self._epoch == _fork.epoch else 0

    def arm(self, wait: KernelWait | None, cell: Cell, seen: int, hint: Hint) -> KernelWait:
        """Wait in the kernel until the cell does not hold `seen`. In a task that is about to sleep.

        Args:
            wait: what this returned to the same owner before, on whatever ring.
            cell: where.
            seen: what the owner saw there.
            hint: reaches the owner already.

        Returns:
            The wait, WAITING; or OVER if it has hinted since.

        Raises:
            OSError: the kernel refused.
            RuntimeError: the loop is the parent's.
        """
        if self._epoch != _fork.epoch:
            raise RuntimeError("this event loop is the parent's, seen from a forked child: start a new one")
        try:
            return self._arm(wait, cell, seen, hint)
        except ForeignThreadError:
            self._retire()
            return self._arm(None, cell, seen, hint)  # on a new ring, of this thread
        except BaseException:
            self._retire()
            raise

    def _arm(self, wait: KernelWait | None, cell: Cell, seen: int, hint: Hint) -> KernelWait:
        ring = self._whole_ring()
        before = wait
        if before is not None and before.state is WAITING and before.ring is self._token:
            before.seen = seen
            return before
        cell.in_kernel = True
        number = next(self._numbers)
        wait = self._waits[number] = KernelWait(self._token, cell, seen, hint)
        while not ring.prepare(cell.address, seen, number):
            self._submit(ring)
        if before is None or before.state is OVER:
            self._submit(ring)
        else:  # HINTED, and most likely completed: one system call for both, 2 to 3 µs less
            self._submit(ring, get_events=True)
            self._reap(ring)
            if before.state is OVER:  # type: ignore[comparison-overlap]  # it is by now
                wait.look()  # the wake that completed it may have come for this sleep
            else:
                # Nobody woke it after all (a store without a wake), or another ring waits: take both off, look again.
                cell.wake_all()
        return wait

    def _whole_ring(self) -> Ring:
        if self._broken:
            self._retire()
        if self._ring is None:
            self._ring = Ring(self._eventfd, full_fence)
        return self._ring

    def _submit(self, ring: Ring, *, get_events: bool = False) -> None:
        try:
            ring.submit(get_events=get_events)
        except BlockingIOError:
            self._reap(ring)
            ring.submit()

    def before_drain(self) -> None:
        """See `Source.before_drain`."""
        ring = self._ring
        if ring is None or self._epoch != _fork.epoch:
            return
        if self._broken:
            self._retire()
        elif len(self._waits) > FEW:
            self.after_drain()
        elif ring.has_more():
            for wait in list(self._waits.values()):
                if not wait.cell.keeps_memory:
                    self.after_drain()  # what lies at a bare address may be unmapped while we look
                    return
                wait.look()

    def after_drain(self) -> None:
        """See `Source.after_drain`."""
        ring = self._ring
        if ring is None or self._epoch != _fork.epoch:
            return
        try:
            self._reap(ring)
        except OSError as error:
            self._retire()
            note(error)
        except BaseException:
            self._retire()
            raise

    def _reap(self, ring: Ring) -> None:
        for number, result in ring.completions():
            wait = self._waits.get(number)
            if wait is not None:
                wait.complete(result)
                self._waits.pop(number, None)  # last: a retirement completes what is left

    def _retire(self) -> None:
        """Give the ring up."""
        self._broken = True
        self._token = object()
        for number, wait in list(self._waits.items()):
            wait.cell.wake_all()
            wait.complete(0)
            self._waits.pop(number, None)
        ring = self._ring
        if ring is not None:
            ring.close()
        self._ring = None
        self._broken = False

    def close(self) -> None:
        """See `Source.close`. The kernel waits no longer when it returns. Idempotent."""
        if self._epoch == _fork.epoch:
            self._retire()
        elif self._ring is not None:
            self._ring.close()

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if not is_finalizing():  # else the modules' globals may be gone; an argument is not
            self.close()
