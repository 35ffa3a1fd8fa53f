"""The real Parker over a scripted loop: every interleaving of park, unpark, timer, cancellation and close."""

from __future__ import annotations

import asyncio
import math

import pytest
from aiopark._owner import OWNER, claim

import aiopark
from aiopark import _parker
from aiopark._parker import CLOSED, PERMIT, Parker
from model.explore import LostError, SteppedDict, explore, step, wait_for

DEADLINE = 1.0


class ScriptedLoop:
    def __init__(self):
        self.now = 0.0
        self.cancelled = False

    def time(self):
        step()
        return self.now

    def waiter(self):
        return ScriptedWaiter(self)

    def checkpoint(self):
        return ScriptedWaiter(self, woken=True)


class ScriptedWaiter:
    """Sleeps until woken, timed out or cancelled. What the mailbox does in between is the other model."""

    def __init__(self, loop, woken=False):
        self.loop, self.woken, self.deadline = loop, woken, math.inf

    def sleep(self, deadline):
        self.deadline = deadline
        return self

    def __await__(self):
        loop = self.loop
        wait_for(lambda: self.woken or loop.now >= self.deadline or loop.cancelled)
        if loop.cancelled:
            loop.cancelled = False
            raise asyncio.CancelledError
        return iter(())

    def wake(self):
        step()
        self.woken = True

    def gone(self):
        return False


class World:
    def __init__(self, kind=Parker):
        self.parker = kind()
        object.__setattr__(self.parker, "_cell", SteppedDict())
        self.loop = ScriptedLoop()
        self.outcomes = []

    def park(self, deadline=math.inf):
        """Park once, as a task of the scripted loop."""

        def actor():
            coroutine = self.parker._park(self.loop, deadline)
            try:
                coroutine.send(None)
            except StopIteration as stop:
                self.outcomes.append(stop.value)
            except (asyncio.CancelledError, aiopark.ClosedError) as error:
                self.outcomes.append(type(error).__name__)
            else:
                raise AssertionError("the scripted loop never yields")

        return actor

    def tick(self):
        step()
        self.loop.now = DEADLINE

    def cancel(self):
        step()
        self.loop.cancelled = True

    @property
    def stored(self):
        return dict.__contains__(self.parker._cell, PERMIT)

    def check_left_alone(self):
        assert not dict.__contains__(self.parker._cell, OWNER)


def test_a_park_without_deadline_always_returns():
    def make():
        world = World()

        def check():
            assert world.outcomes == [True]
            assert not world.stored
            world.check_left_alone()

        return [world.park(), world.parker.unpark], check

    assert explore(make) > 10


@pytest.mark.parametrize("enemy", ["tick", "cancel"])
def test_a_permit_is_taken_or_stored(enemy):
    seen = set()

    def make():
        world = World()

        def check():
            taken = world.outcomes == [True]
            assert taken + world.stored == 1
            seen.add((world.outcomes[0], world.stored))
            world.check_left_alone()

        return [world.park(DEADLINE), world.parker.unpark, getattr(world, enemy)], check

    assert explore(make, preemptions=4) > 100
    other = False if enemy == "tick" else "CancelledError"
    assert seen == {(True, False), (other, True)}


def test_two_unparks_are_one_permit_or_two():
    def make():
        world = World()

        def check():
            assert world.outcomes == [True]
            world.check_left_alone()

        return [world.park(), world.parker.unpark, world.parker.unpark], check

    assert explore(make, preemptions=4) > 100


def test_two_phases_and_a_deadline():
    def make():
        world = World()

        def two_phases():
            world.parker.unpark_lock().unpark()

        def check():
            assert (world.outcomes == [True]) + world.stored == 1

        return [world.park(DEADLINE), two_phases, world.tick], check

    assert explore(make, preemptions=4) > 100


def test_close_ends_the_park_and_loses_no_permit():
    seen = set()

    def make():
        world = World()

        def check():
            taken = world.outcomes == [True]
            assert taken + world.stored == 1
            seen.add(world.outcomes[0])

        return [world.park(), world.parker.unpark, world.parker.close], check

    assert explore(make, preemptions=4) > 100
    assert seen == {True, "ClosedError"}


def test_two_parks_one_owner():
    """Of two tasks one parks, the other is told so; or one after the other, each with a permit."""

    def make():
        world = World()

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

    assert explore(make, preemptions=3) > 100


# --- the same explorer finds what would go wrong without the re-checks ---


def lost(make):
    with pytest.raises(LostError):
        explore(make)


def test_without_the_look_after_the_claim_a_wake_up_is_lost():
    class LooksTooEarly(Parker):
        __slots__ = ()

        async def _park(self, loop, deadline):
            if PERMIT not in self._cell:
                waiter = loop.waiter()
                claim(self._cell, waiter, "Parker")
                await waiter.sleep(deadline)
                del self._cell[OWNER]
            del self._cell[PERMIT]
            return True

    def make():
        world = World(LooksTooEarly)
        return [world.park(), world.parker.unpark], lambda: None

    lost(make)


def test_with_the_wake_before_the_permit_a_wake_up_is_lost():
    class WakesTooEarly(Parker):
        __slots__ = ()

        def unpark(self):
            self._wake()
            self._cell[PERMIT] = True

    def make():
        world = World(WakesTooEarly)
        return [world.park(), world.parker.unpark], lambda: None

    lost(make)


def test_if_close_woke_first_a_park_would_sleep_on():
    class WakesTooEarly(Parker):
        __slots__ = ()

        def close(self):
            self._wake()
            self._cell[CLOSED] = True

    def make():
        world = World(WakesTooEarly)
        return [world.park(), world.parker.close], lambda: None

    lost(make)


def test_the_model_runs_the_real_code():
    assert World().parker._park.__func__ is _parker.Parker._park
