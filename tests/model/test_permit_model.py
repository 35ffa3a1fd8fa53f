"""The real Parker and ThreadParker over a scripted loop and a scripted lock: every interleaving of their verbs.

Both share the permit cell, and differ in what sleeps: each test runs on both.
"""

from __future__ import annotations

import math

import pytest

from aiopark import ClosedError, Parker, ThreadParker, _thread_parker
from aiopark._permit import CLOSED, OWNER, PERMIT, PermitCell
from aiopark._thread_waiter import ThreadWaiter
from model.explore import LostError, explore, step, wait_for
from model.scripted import DEADLINE, ScriptedLoop, SteppedPermitCell, script

pytestmark = pytest.mark.explored


@pytest.fixture
def clock(monkeypatch):
    return script(monkeypatch)


class World:
    Cell = SteppedPermitCell

    def __init__(self, kind, clock):
        self.clock = clock
        clock.now = 0.0
        self.parker = kind()
        self.parker._cell = self.Cell(kind.__name__, None)
        self.loop = ScriptedLoop()
        self.outcomes = []

    def park(self, deadline=math.inf):
        """Park once, as a task of the scripted loop or as a thread."""

        def actor():
            if isinstance(self.parker, Parker):
                self.outcomes.append(self.loop.run(self.parker._park(self.loop, deadline)))
                return
            try:
                self.outcomes.append(self.parker._park(deadline))
            except ClosedError as error:
                self.outcomes.append(type(error).__name__)

        return actor

    def tick(self):
        step()
        self.loop.now = self.clock.now = DEADLINE

    def cancel(self):
        step()
        self.loop.cancelled = True

    @property
    def stored(self):
        return dict.__contains__(self.parker._cell, PERMIT)

    def check_left_alone(self):
        assert set(dict.keys(self.parker._cell)) <= {PERMIT, CLOSED}


both = pytest.mark.parametrize("kind", [Parker, ThreadParker])


@both
def test_a_park_without_deadline_always_returns(kind, clock):
    def make():
        world = World(kind, clock)

        def check():
            assert world.outcomes == [True]
            assert not world.stored
            world.check_left_alone()

        return [world.park(), world.parker.unpark], check

    assert explore(make) > 10


@pytest.mark.parametrize(("kind", "enemy"), [(Parker, "tick"), (Parker, "cancel"), (ThreadParker, "tick")])
def test_a_permit_is_taken_or_stored(kind, enemy, clock):
    seen = set()

    def make():
        world = World(kind, clock)

        def check():
            taken = world.outcomes == [True]
            assert taken + world.stored == 1
            seen.add((world.outcomes[0], world.stored))
            world.check_left_alone()

        return [world.park(DEADLINE), world.parker.unpark, getattr(world, enemy)], check

    assert explore(make, preemptions=4) > 100
    other = False if enemy == "tick" else "CancelledError"
    assert seen == {(True, False), (other, True)}


@both
def test_two_unparks_are_one_permit_or_two(kind, clock):
    def make():
        world = World(kind, clock)

        def check():
            assert world.outcomes == [True]
            world.check_left_alone()

        return [world.park(), world.parker.unpark, world.parker.unpark], check

    assert explore(make, preemptions=4) > 100


@both
def test_two_phases_and_a_deadline(kind, clock):
    def make():
        world = World(kind, clock)

        def two_phases():
            world.parker.unpark_lock().unpark()

        def check():
            assert (world.outcomes == [True]) + world.stored == 1

        return [world.park(DEADLINE), two_phases, world.tick], check

    assert explore(make, preemptions=4) > 100


@both
def test_close_ends_the_park_and_loses_no_permit(kind, clock):
    seen = set()

    def make():
        world = World(kind, clock)

        def check():
            taken = world.outcomes == [True]
            assert taken + world.stored == 1
            seen.add(world.outcomes[0])
            world.check_left_alone()

        return [world.park(), world.parker.unpark, world.parker.close], check

    assert explore(make, preemptions=4) > 100
    assert seen == {True, "ClosedError"}


@both
def test_a_permit_that_is_dropped_meanwhile_is_no_permit(kind, clock):
    """prepare_park on another thread: it or the park takes the permit, and the next unpark is there for the park."""

    def make():
        world = World(kind, clock)

        def drop_and_unpark():
            world.parker.unpark()
            world.parker.prepare_park()
            world.parker.unpark()

        def check():
            assert world.outcomes == [True]
            world.check_left_alone()

        return [world.park(), drop_and_unpark], check

    assert explore(make, preemptions=4) > 100


@both
def test_two_parks_one_owner(kind, clock):
    """Of two one parks, the other is told so; or one after the other, each with a permit."""

    def make():
        world = World(kind, clock)

        def park():
            try:
                world.park()()
            except RuntimeError as error:
                assert "already parked" in str(error)
                world.outcomes.append("refused")

        def check():
            assert world.outcomes.count(True) >= 1
            world.check_left_alone()

        def unpark_until_both_ended():
            while len(world.outcomes) < 2:
                world.parker.unpark()
                wait_for(lambda: not world.stored or len(world.outcomes) == 2)

        return [park, park, unpark_until_both_ended], check

    assert explore(make, preemptions=2) > 100


@both
def test_the_slot_of_a_dead_one_goes_to_one_of_two(kind, clock):
    class Dead:
        def never_wakes(self):
            step()
            return True

        def wake(self):
            pass

        def who(self):
            return "the dead"

    def make():
        world = World(kind, clock)
        world.parker._cell[OWNER] = Dead()
        refused = []

        def park():
            try:
                world.park()()
            except RuntimeError:
                refused.append(True)

        def unpark_until_both_ended():
            while len(world.outcomes) + len(refused) < 2:
                world.parker.unpark()
                wait_for(lambda: not world.stored or len(world.outcomes) + len(refused) == 2)

        def check():
            assert world.outcomes
            world.check_left_alone()

        return [park, park, unpark_until_both_ended], check

    assert explore(make, preemptions=2) > 100


# --- the same explorer finds what would go wrong without the re-checks ---


def lost(kind, verb, clock, world=World):
    def make():
        each = world(kind, clock)
        return [each.park(), getattr(each.parker, verb)], lambda: None

    with pytest.raises(LostError):
        explore(make)


def test_without_the_look_after_the_claim_a_task_sleeps_on(clock):
    class LooksTooEarly(Parker):
        __slots__ = ()

        async def _park(self, loop, deadline):
            if PERMIT not in self._cell:
                waiter = ScriptedLoop().waiter()
                self._cell.claim(waiter)
                await waiter
                del self._cell[OWNER]
            del self._cell[PERMIT]
            return True

    lost(LooksTooEarly, "unpark", clock)


def test_without_the_look_after_the_claim_a_thread_sleeps_on(clock):
    class LooksTooEarly(ThreadParker):
        __slots__ = ()

        def _park(self, deadline):
            if PERMIT not in self._cell:
                waiter = ThreadWaiter()
                self._cell.claim(waiter)
                waiter.sleep(deadline)
                del self._cell[OWNER]
            del self._cell[PERMIT]
            return True

    lost(LooksTooEarly, "unpark", clock)


def test_a_thread_that_looked_only_once_would_be_early(clock):
    """A wake is a hint: one that was left by a permit that the park took already grants nothing."""

    class Trusts(ThreadParker):
        __slots__ = ()

        def _park(self, deadline):
            waiter = ThreadWaiter()
            self._cell.claim(waiter)
            if PERMIT not in self._cell:
                waiter.sleep(deadline)
            del self._cell[OWNER]
            return self._cell.pop(PERMIT, False)

    def make():
        world = World(Trusts, clock)

        def hint():
            world.parker._cell.hint()
            world.parker.unpark()

        def check():
            assert world.outcomes == [True]

        return [world.park(), hint], check

    with pytest.raises(AssertionError):
        explore(make)


@both
def test_with_the_wake_before_the_permit_a_wake_up_is_lost(kind, clock):
    class WakesTooEarly(kind):
        __slots__ = ()

        def unpark(self):
            self._cell.hint()
            self._cell[PERMIT] = True

    lost(WakesTooEarly, "unpark", clock)


@both
def test_if_close_woke_first_a_park_would_sleep_on(kind, clock):
    class WakesTooEarly(World):
        class Cell(SteppedPermitCell):
            def close(self):
                self.hint()
                self[CLOSED] = True

    lost(kind, "close", clock, WakesTooEarly)


@both
def test_if_an_owner_were_left_in_the_slot_the_next_park_would_be_refused(kind, clock):
    class NeverLeft(World):
        class Cell(SteppedPermitCell):
            def __delitem__(self, key):
                if key != OWNER:
                    super().__delitem__(key)

    def make():
        world = NeverLeft(kind, clock)
        return [world.park(), world.parker.unpark], world.check_left_alone

    with pytest.raises(AssertionError):
        explore(make)


def test_the_model_runs_the_real_code(clock):
    for kind in (Parker, ThreadParker):
        world = World(kind, clock)
        assert world.parker._park.__func__ is kind._park
        assert world.parker._cell.close.__func__ is PermitCell.close
    assert _thread_parker.ThreadWaiter is ThreadWaiter
