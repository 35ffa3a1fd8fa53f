"""Permits are conserved: whatever was deposited was taken by a park that returned, or is still there."""

from __future__ import annotations

import random
import threading

import anyio
import pytest
from support import PATIENCE, in_thread, is_parked, switch_interval

import aiopark


@pytest.mark.parametrize("seed", range(3))
def test_random_deadlines_cancellations_and_unparks(world, seed):
    """Each round one unpark meets one park, at a random moment; the park may time out or be cancelled."""
    rounds = 150
    rng = random.Random(seed)
    endings = {"unparked": 0, "timed out": 0, "cancelled": 0, "stored": 0}

    async def main():
        parker = aiopark.Parker()
        go = aiopark.ThreadParker()

        def unpark_at_random():
            delays = random.Random(seed + 1000)
            for _ in range(rounds):
                go.park()
                for _ in range(delays.randrange(400)):
                    pass
                parker.unpark()
                acknowledged.release()

        async def park():
            # False means "no permit then"; None means cancelled.
            outcome.append(None)
            outcome[0] = await parker.park_timeout(rng.choice([-1, 0, 1e-5, 5e-5, 2e-4, 1e-3]))

        acknowledged = threading.Semaphore(0)
        with in_thread(unpark_at_random):
            for _ in range(rounds):
                outcome = []
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(park)
                    go.unpark()
                    await anyio.sleep(rng.choice([0, 0, 1e-5, 1e-4]))
                    if rng.random() < 0.5:
                        tasks.cancel_scope.cancel()
                assert not is_parked(parker)
                acknowledged.acquire()  # the unpark has returned
                taken = bool(outcome and outcome[0])
                stored = await parker.park_timeout(0)
                assert taken + stored == 1, f"{outcome} and {stored=}: a permit was lost or doubled"
                endings["unparked"] += taken
                endings["stored"] += stored
                endings["timed out"] += outcome == [False]
                endings["cancelled"] += outcome == [None]

    with switch_interval(1e-6):
        world.run(main)
    assert endings["unparked"] + endings["stored"] == rounds


def test_many_parkers_many_threads(plain_world):
    """Tasks count what they take; threads count what they deposit into an empty parker. The sums agree."""
    parkers = [aiopark.Parker() for _ in range(20)]
    each = 100
    taken = [0] * len(parkers)

    async def consume(index):
        rng = random.Random(index)
        while taken[index] < each:
            with anyio.move_on_after(rng.choice([0, 1e-5, 1e-4, 1e-3])):
                unparked = await parkers[index].park_timeout(rng.choice([0, 1e-5, 1e-4, 1]))
                taken[index] += unparked
                if unparked:
                    acknowledgements[index].release()

    def produce(first):
        for _ in range(each):
            for index in range(first, len(parkers), 2):
                acknowledgements[index].acquire()  # so the next unpark deposits a permit of its own
                parkers[index].unpark()

    async def main():
        with in_thread(produce, 0), in_thread(produce, 1):
            async with anyio.create_task_group() as tasks:
                for index in range(len(parkers)):
                    tasks.start_soon(consume, index)

    acknowledgements = [threading.Semaphore(1) for _ in parkers]
    with switch_interval(1e-6):
        plain_world.run(main)
    assert taken == [each] * len(parkers)
    assert all(parker.timed_out() for parker in parkers)


def test_ping_pong_loses_no_round(world):
    rounds = 1000
    there, back = aiopark.Parker(), aiopark.ThreadParker()

    def partner():
        for _ in range(rounds):
            back.park()
            there.unpark()

    async def main():
        for _ in range(rounds):
            back.unpark()
            await there.park()

    with switch_interval(1e-6), in_thread(partner):
        world.run(main)


def test_20_000_round_trips_lose_no_wake_up(plain_world):
    rounds = 20_000
    there, back = aiopark.Parker(), aiopark.ThreadParker()

    def partner():
        for _ in range(rounds):
            assert back.park_timeout(PATIENCE)
            there.unpark()

    async def main():
        for _ in range(rounds):
            back.unpark()
            assert await there.park_timeout(PATIENCE)

    with in_thread(partner):
        plain_world.run(main)
    assert back.timed_out()
    assert there.timed_out()
