"""The explorer finds what would go wrong without the re-checks and orders of watches, leases and rings."""

from __future__ import annotations

import math
from functools import partial

import pytest

from aiopark import ClosedError, Parker, Word, _parker
from aiopark._cell import PARKED, _lease
from aiopark._cell import PERMIT as WORD_PERMIT
from aiopark._watch import _kernel_wait
from aiopark._watch._kernel_wait import KernelWait
from aiopark._watch._loop_ring import LoopRing
from aiopark._watch._threads import ThreadWatch
from aiopark._watch._uring import RingWatch
from aiopark._word import cell_of
from model.explore import LostError, explore
from model.kernel import RingLoop, SteppedWatchThread, World, closing, scripted
from model.scripted import ScriptedLoop

__all__ = ["scripted"]
pytestmark = [pytest.mark.explored, pytest.mark.usefixtures("scripted")]


def test_a_lease_that_ended_without_taking_the_waits_off_would_leave_one_that_swallows_a_wake(monkeypatch):
    def end(self):
        self._term.clear()
        self.cell.place.lease.pop(_lease.LEASE, None)

    monkeypatch.setattr(_lease.Lease, "end", end)
    with pytest.raises((LostError, AssertionError)):
        closing(monkeypatch)


def test_if_close_looked_for_a_park_before_it_said_closed_the_word_would_never_be_free(monkeypatch):
    class LooksTooEarly(Parker):
        __slots__ = ()

        def close(self):
            unused = self._cell.owner() is None
            self._cell.close()
            self._tenancy._watch.close()
            if unused:
                self._tenancy._lease.end()

    # The park that ends looks for CLOSED before it leaves the slot: both orders wrong, nobody ends the lease.
    def end_if_unused(self):
        pass

    monkeypatch.setattr(_parker.Tenancy, "end_if_unused", end_if_unused)
    with pytest.raises((LostError, AssertionError, RuntimeError)):
        closing(monkeypatch, parker_kind=LooksTooEarly)


def test_if_the_state_changed_before_the_hint_an_interrupted_hint_would_be_lost(monkeypatch):
    """complete and look hint first: one that was interrupted is done again."""
    interrupt = []

    def hint():
        hints.append(True)
        if interrupt:
            interrupt.clear()
            raise KeyboardInterrupt

    for act in (lambda wait: wait.complete(0), KernelWait.look):
        hints = []
        word = Word()
        wait = KernelWait(object(), cell_of(word), PARKED, hint)
        word.store(WORD_PERMIT)
        interrupt.append(True)
        with pytest.raises(KeyboardInterrupt):
            act(wait)
        assert wait.state is _kernel_wait.WAITING
        act(wait)
        assert len(hints) == 2
        assert wait.state is not _kernel_wait.WAITING


def test_if_a_hinted_wait_were_taken_for_one_that_waits_a_wake_would_be_lost(monkeypatch):
    """The task that was hinted early goes to sleep again, while the kernel has completed its wait already."""

    class AsksNobody(LoopRing):
        __slots__ = ()

        def _arm(self, wait, cell, seen, hint):
            if wait is not None and wait.state is not _kernel_wait.OVER:
                wait.seen = seen  # stays HINTED: what completes it hints nobody
                return wait
            return super()._arm(wait, cell, seen, hint)

    def make():
        world = World(monkeypatch, RingWatch, partial(RingLoop, kind=AsksNobody))
        return [world.park(3), world.unpark(3)], lambda: None

    with pytest.raises(LostError):
        explore(make, preemptions=2)


def test_if_a_task_armed_before_it_looked_at_the_word_nothing_would_be_lost_but_the_other_way_round(monkeypatch):
    """A watch compares with what the owner saw: one that compared with what it sees itself sleeps through a permit."""

    class SeesForItself(LoopRing):
        __slots__ = ()

        def _arm(self, wait, cell, seen, hint):
            return super()._arm(wait, cell, cell.memory.value, hint)

    def make():
        world = World(monkeypatch, RingWatch, partial(RingLoop, kind=SeesForItself))
        return [world.park(1), world.unpark(1)], lambda: None

    with pytest.raises(LostError):
        explore(make, preemptions=2)


def test_a_watch_thread_that_disarmed_after_its_hint_would_lose_the_next(monkeypatch):
    class DisarmsTooLate(SteppedWatchThread):
        def _run(self):
            try:
                while not self.closing:
                    if self._armed:
                        self._cell.sleep_until(lambda value: value != self._seen, lambda: self.closing, self, None)
                        self._hint()
                        self._armed = False
                    self._again.sleep(math.inf)
            except ClosedError:
                pass

    monkeypatch.setattr(ScriptedLoop, "source", None)

    def make():
        world = World(monkeypatch, ThreadWatch)
        watch = world.parker._tenancy._watch
        thread = watch._thread = DisarmsTooLate(world.kernel.cell, watch._hint)
        return [world.park(2), world.unpark(2), thread.run], lambda: None

    with pytest.raises(LostError):
        explore(make, preemptions=2)
