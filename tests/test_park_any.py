"""park_any: one task parks on several Parkers."""

from __future__ import annotations

import gc
import math
import signal
import threading
import time

import anyio
import pytest
from support import (
    PLAIN_WORLDS,
    block_until,
    each,
    in_thread,
    installed,
    interrupted_at,
    is_ours,
    is_parked,
    switch_interval,
    until,
)

import aiopark


def all_parked(parkers):
    return all(map(is_parked, parkers))


def none_parked(parkers):
    return not any(map(is_parked, parkers))


@pytest.mark.parametrize("number", [1, 2, 50])
def test_a_thread_wakes_it(world, number):
    """Whichever is unparked; once, and nothing is left in the slots."""

    async def main():
        parkers = [aiopark.Parker() for _ in range(number)]
        for parker in (parkers[0], parkers[-1]):
            with in_thread(lambda parker=parker: (block_until(lambda: all_parked(parkers)), parker.unpark())):
                assert await aiopark.park_any(*parkers) == [parker]
            assert none_parked(parkers)
            assert all(parker.timed_out() for parker in parkers)

    world.run(main)


def test_a_task_of_its_own_loop_wakes_it(world):
    async def main():
        parkers = [aiopark.Parker() for _ in range(3)]
        found = []

        async def park():
            found.extend(await aiopark.park_any(*parkers))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(park)
            await until(lambda: all_parked(parkers))
            parkers[1].unpark()
            parkers[0].unpark()
        assert found == parkers[:2]  # in the order of the arguments, whoever came first

    world.run(main)


def test_permits_in_store(world):
    async def main():
        parkers = [aiopark.Parker() for _ in range(4)]
        for number in (3, 1):
            parkers[number].unpark()
        assert await aiopark.park_any(*parkers, deadline=-math.inf) == [parkers[1], parkers[3]]
        assert await aiopark.park_any(*parkers, deadline=-math.inf) == []

    world.run(main)


def test_it_is_a_checkpoint_with_a_permit_in_store(world):
    async def main():
        parkers = [aiopark.Parker() for _ in range(2)]
        parkers[1].unpark()
        with anyio.CancelScope() as scope:
            scope.cancel()
            await aiopark.park_any(*parkers)
        assert scope.cancelled_caught
        assert await aiopark.park_any(*parkers) == [parkers[1]]

    world.run(main)


@pytest.mark.parametrize("timeout", [0, 1e-6, 0.003])
def test_never_early(world, timeout):
    async def main():
        parkers = [aiopark.Parker() for _ in range(2)]
        start = anyio.current_time()
        assert await aiopark.park_any(*parkers, timeout=timeout) == []
        assert anyio.current_time() >= start + timeout
        deadline = anyio.current_time() + timeout
        assert await aiopark.park_any(*parkers, deadline=deadline) == []
        assert anyio.current_time() >= deadline
        assert none_parked(parkers)

    world.run(main)


def test_in_a_tie_the_permit_wins(plain_world):
    async def main():
        parkers = [aiopark.Parker() for _ in range(2)]
        found = []

        async def park():
            found.append(await aiopark.park_any(*parkers, timeout=0.01))

        tie = False
        while not tie:  # on a busy machine the deadline may pass before anybody has looked
            found.clear()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(park)
                await until(lambda: all_parked(parkers) or found)
                tie = not found
                time.sleep(0.02)  # the loop stands still until after the deadline
                if tie:
                    parkers[1].unpark()
        assert found == [[parkers[1]]]

    plain_world.run(main)


def test_a_cancellation_leaves_every_permit_in_store(world):
    async def main():
        parkers = [aiopark.Parker() for _ in range(3)]
        for _ in range(2):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(aiopark.park_any, *parkers)
                await until(lambda: all_parked(parkers))
                parkers[0].unpark()
                parkers[2].unpark()
                tasks.cancel_scope.cancel()
            assert none_parked(parkers)
            assert [await parker.park_timeout(0) for parker in parkers] == [True, False, True]

    world.run(main)


def test_a_spurious_wake_up_is_never_visible(world):
    async def main():
        parkers = [aiopark.Parker() for _ in range(3)]

        def disturb():
            block_until(lambda: all_parked(parkers))
            for number in range(100):
                parkers[number % 3]._cell.hint()
                assert all_parked(parkers)  # the slots are never empty in between
            parkers[1].unpark()

        with in_thread(disturb):
            assert await aiopark.park_any(*parkers) == [parkers[1]]

    world.run(main)


def test_one_that_another_parks_on_is_refused_and_leaves_nothing_behind(world):
    async def main():
        parkers = [aiopark.Parker(name=str(number)) for number in range(4)]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(parkers[2].park)
            await until(lambda: is_parked(parkers[2]))
            parkers[0].unpark()
            with pytest.raises(RuntimeError, match=r"is already parked on aiopark\.Parker '2'"):
                await aiopark.park_any(*parkers)
            assert [is_parked(parker) for parker in parkers] == [False, False, True, False]
            assert not parkers[0].timed_out()
            parkers[2].unpark()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(aiopark.park_any, *parkers[1:])
            await until(lambda: all_parked(parkers[1:]))
            with pytest.raises(RuntimeError, match="is already parked on"):
                await parkers[3].park()
            with pytest.raises(RuntimeError, match="is already parked on"):
                await aiopark.park_any(parkers[0], parkers[1])
            assert not is_parked(parkers[0])
            parkers[1].unpark()

    world.run(main)


def test_one_that_is_closed(world):
    """Permits first; then the error names it."""

    async def main():
        parkers = [aiopark.Parker(name=str(number)) for number in range(3)]
        parkers[1].close()
        parkers[2].unpark()
        assert await aiopark.park_any(*parkers) == [parkers[2]]
        with pytest.raises(aiopark.ClosedError, match=r"aiopark\.Parker '1' was closed: leave it out"):
            await aiopark.park_any(*parkers)
        assert none_parked(parkers)
        del parkers[1]
        with (
            in_thread(lambda: (block_until(lambda: all_parked(parkers)), parkers[0].close())),
            pytest.raises(aiopark.ClosedError, match=r"aiopark\.Parker '0' was closed"),
        ):
            await aiopark.park_any(*parkers)
        assert none_parked(parkers)

    world.run(main)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (lambda parker: [], ValueError, "at least one Parker"),
        (lambda parker: [parker, aiopark.Parker(), parker], ValueError, "a Parker twice"),
        (lambda parker: [parker, aiopark.ThreadParker()], TypeError, "on Parkers, not on ThreadParker"),
        (lambda parker: [parker, None], TypeError, "on Parkers, not on NoneType"),
    ],
)
def test_bad_parkers(plain_world, arguments, error, message):
    async def main():
        parker = aiopark.Parker()
        parker.unpark()
        with pytest.raises(error, match=message):
            await aiopark.park_any(*arguments(parker))
        assert not parker.timed_out()
        assert not is_parked(parker)

    plain_world.run(main)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"deadline": math.nan}, ValueError),
        ({"timeout": math.nan}, ValueError),
        ({"deadline": "1"}, TypeError),
        ({"timeout": 1j}, TypeError),
        ({"deadline": 1, "timeout": 1}, TypeError),
    ],
)
def test_bad_times(plain_world, options, error):
    async def main():
        parker = aiopark.Parker()
        parker.unpark()
        with pytest.raises(error):
            await aiopark.park_any(parker, **options)
        assert not parker.timed_out()

    plain_world.run(main)


def test_no_event_loop():
    with pytest.raises(RuntimeError, match="no event loop runs here"):
        aiopark.park_any(aiopark.Parker()).send(None)


@pytest.mark.parametrize("world", each([world for world in PLAIN_WORLDS if world.backend == "asyncio"]))
def test_a_coroutine_that_is_thrown_away_and_a_loop_that_died(world):
    """The next park takes the slots over."""
    parkers = [aiopark.Parker() for _ in range(2)]

    async def start():
        coroutine = aiopark.park_any(*parkers)
        coroutine.send(None)
        assert all_parked(parkers)
        coroutine.close()
        assert none_parked(parkers)
        assert await aiopark.park_any(*parkers, timeout=0) == []

    world.run(start)
    loop = world.new_event_loop()
    task = loop.create_task(aiopark.park_any(*parkers))
    task._log_destroy_pending = False

    async def parked():
        await until(lambda: all_parked(parkers))

    loop.run_until_complete(parked())
    loop.close()
    parkers[1].unpark()
    for other in installed(PLAIN_WORLDS):
        assert other.run(lambda: aiopark.park_any(*parkers, timeout=0)) == [parkers[1]]
        parkers[1].unpark()


@pytest.mark.raises_anywhere
@pytest.mark.parametrize("event", ["calls", "lines"])
def test_interrupted_anywhere_no_permit_is_lost(plain_world, event):
    """A signal handler that raises, at each point of a call that takes three permits."""

    async def main():
        gc.collect()  # not in the middle of it
        parkers = [aiopark.Parker() for _ in range(3)]
        number, hit = 0, [True]
        while hit:
            number += 1
            for parker in parkers:
                parker.unpark()
            coroutine = aiopark.park_any(*parkers)
            with interrupted_at(number, event, is_ours) as hit:
                found = None
                found = await coroutine
            assert none_parked(parkers), hit
            left = [await parker.park_timeout(0) for parker in parkers]
            assert left == ([True] * 3 if found is None else [False] * 3), hit
        assert number > 10

    plain_world.run(main)


def test_random_unparks_cancellations_and_timeouts(plain_world):
    """Whatever was deposited was found, or is still there."""
    parkers = [aiopark.Parker() for _ in range(8)]
    rounds = 300
    taken = dict.fromkeys(parkers, 0)
    turns = {parker: threading.Semaphore(1) for parker in parkers}

    def produce(first):
        for _ in range(rounds // 8):
            for parker in parkers[first::2]:
                turns[parker].acquire()  # so that each unpark deposits a permit of its own
                parker.unpark()

    async def main():
        given = (rounds // 8) * len(parkers)
        number = 0
        with in_thread(produce, 0), in_thread(produce, 1):
            while sum(taken.values()) < given:
                number += 1
                with anyio.move_on_after((0, 1e-5, 1e-3, 1)[number % 4]):
                    for parker in await aiopark.park_any(*parkers, timeout=(0, 1e-4, 1, math.inf)[number % 3]):
                        taken[parker] += 1
                        turns[parker].release()
        assert set(taken.values()) == {rounds // 8}

    with switch_interval(1e-6):
        plain_world.run(main)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timers")
def test_a_signal_handler_may_unpark(plain_world):
    async def main():
        parkers = [aiopark.Parker() for _ in range(2)]
        signal.setitimer(signal.ITIMER_REAL, 0.005)
        previous = signal.signal(signal.SIGALRM, lambda *_: parkers[1].unpark())
        try:
            assert await aiopark.park_any(*parkers) == [parkers[1]]
        finally:
            signal.signal(signal.SIGALRM, previous)

    plain_world.run(main)
