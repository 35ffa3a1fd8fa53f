"""The real Parker, ThreadParker, watches, LoopRing and Lease over a scripted kernel: no schedule loses a wake-up."""

from __future__ import annotations

import math

import pytest

from aiopark import ClosedError, Parker, ThreadParker, Word, _thread_parker
from aiopark._cell import PERMIT as WORD_PERMIT
from aiopark._cell import _lease
from aiopark._permit import CLOSED
from aiopark._watch import _loop_ring, _threads
from aiopark._watch._loop_ring import LoopRing
from aiopark._watch._threads import ThreadWatch
from aiopark._watch._uring import RingWatch
from aiopark._word import cell_of
from model.explore import explore, wait_for
from model.kernel import Kernel, RingLoop, SteppedWatchThread, World, closing, scripted, stepped_lease
from model.scripted import ScriptedLoop, SteppedPermitCell

__all__ = ["scripted"]
pytestmark = [pytest.mark.explored, pytest.mark.usefixtures("scripted")]


def test_a_watch_thread_hints_whoever_parks(monkeypatch):
    """Two permits in turn: the second may come while the thread is still on its way from the first."""
    monkeypatch.setattr(_threads, "WatchThread", SteppedWatchThread)

    def make():
        world = World(monkeypatch, ThreadWatch)
        watch = world.parker._tenancy._watch
        thread = watch._thread = SteppedWatchThread(world.kernel.cell, watch._hint)

        def finish():
            wait_for(lambda: world.taken == 2)
            world.parker.close()

        def check():
            assert thread.failure is None
            assert thread.ended
            world.check_free()

        monkeypatch.setattr(ScriptedLoop, "source", None)  # a thread needs none
        return [world.park(2), world.unpark(2), thread.run, finish], check

    assert explore(make, preemptions=1) > 100


@pytest.mark.parametrize("few", [_loop_ring.FEW, -1], ids=["hinted early", "asked first"])
def test_a_ring_hints_whoever_parks(monkeypatch, few):
    monkeypatch.setattr(_loop_ring, "FEW", few)

    def make():
        world = World(monkeypatch, RingWatch, RingLoop)

        def store():
            """Deposit a permit with a handle, wake later: the ring sees it early, or not."""
            wait_for(lambda: world.taken == 2)
            world.kernel.value = WORD_PERMIT
            world.kernel.wake_one()

        return [world.park(3), world.unpark(2), store], lambda: None

    assert explore(make, preemptions=2) > 500


def test_a_word_is_free_once_its_parker_is_closed_and_nobody_parks(monkeypatch):
    assert closing(monkeypatch) > 100


def test_a_thread_is_closed_wherever_it_is(monkeypatch):
    """ThreadParker.close on a word: the look at CLOSED and the sleep are not one step."""
    monkeypatch.setattr(_thread_parker, "Lease", stepped_lease())
    seen = set()

    def make():
        world = World(monkeypatch, ThreadWatch)
        world.parker.close()
        parker, outcomes = ThreadParker(world.word), []
        parker._cell = SteppedPermitCell("ThreadParker", None)

        def park():
            try:
                outcomes.append(parker._park(math.inf))
            except ClosedError:
                outcomes.append("ClosedError")

        def check():
            assert len(outcomes) == 1
            assert (outcomes == [True]) + (world.kernel.number == WORD_PERMIT) == 1
            seen.add(outcomes[0])
            world.check_free()

        return [park, parker.close, world.kernel.unpark], check

    assert explore(make, preemptions=2) > 50
    assert seen == {True, "ClosedError"}


def test_threads_that_end_one_lease_at_once_end_no_other(monkeypatch):
    kind = stepped_lease()

    def make():
        word = Word()
        Kernel(word)
        old, new, refused = (kind(cell_of(word), lambda: "x", lambda: False) for _ in range(2)), [], []
        old, heir = old
        old.take()

        def take():
            try:
                heir.take()
                new.append(heir)
            except RuntimeError:
                refused.append(True)

        def check():
            assert len(new) + len(refused) == 1
            lease = dict.get(cell_of(word).place.lease, _lease.LEASE)
            assert lease is (heir if new else None)

        return [old.end, old.end, take], check

    assert explore(make) > 50


def test_the_model_runs_the_real_code(monkeypatch):
    world = World(monkeypatch, RingWatch, RingLoop)
    assert type(world.loop.ring) is LoopRing
    assert world.parker._park.__func__ is Parker._park
    assert CLOSED not in world.parker._cell
