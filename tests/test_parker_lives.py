"""Parker on every loop: it moves, it is closed, it is freed, and there may be thousands."""

from __future__ import annotations

import gc
import weakref

import anyio
import pytest
from support import ASYNCIO, PLAIN_WORLDS, block_until, in_thread, installed, is_parked, until

import aiopark


def test_a_spurious_wake_up_is_never_visible(world):
    async def main():
        parker = aiopark.Parker()

        def disturb():
            block_until(lambda: is_parked(parker))
            for _ in range(100):
                parker._cell.hint()
            parker.unpark()

        with in_thread(disturb):
            await parker.park()
        assert parker.timed_out()

    world.run(main)


def test_close_ends_a_pending_park(world):
    async def main():
        with aiopark.Parker() as parker:
            with (
                in_thread(lambda: (block_until(lambda: is_parked(parker)), parker.close())),
                pytest.raises(aiopark.ClosedError, match="make a new one"),
            ):
                await parker.park()
            parker.close()
            with pytest.raises(aiopark.ClosedError):
                await parker.park_timeout(10)
        assert repr(parker) == f"<aiopark.Parker {id(parker._cell):#x} closed>"
        assert not is_parked(parker)

    world.run(main)


def test_close_hands_out_the_stored_permit_first(world):
    parker = aiopark.Parker()
    parker.unpark()
    parker.close()
    assert world.run(parker.park_timeout, 0) is True
    with pytest.raises(aiopark.ClosedError):
        world.run(parker.park_timeout, 0)


def test_a_parker_moves_between_loops():
    parker = aiopark.Parker()

    async def park_and_be_woken():
        with in_thread(lambda: (block_until(lambda: is_parked(parker)), parker.unpark())):
            await parker.park()

    for world in installed(PLAIN_WORLDS) * 2:
        world.run(park_and_be_woken)


def test_one_loop_wakes_another(world):
    """Two loops on two threads play ping-pong."""
    rounds = 300
    ping, pong = aiopark.Parker(), aiopark.Parker()

    async def first():
        for _ in range(rounds):
            ping.unpark()
            await pong.park()

    async def second():
        for _ in range(rounds):
            await ping.park()
            pong.unpark()

    with in_thread(ASYNCIO.run, second):
        world.run(first)


def test_a_finalizer_and_a_weakref_callback_may_unpark(world):
    async def main():
        parker = aiopark.Parker()

        class Resource:
            def __del__(self):
                parker.unpark()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(parker.park)
            await until(lambda: is_parked(parker))
            cycle = Resource()
            cycle.itself = cycle
            del cycle
            gc.collect()

        class Plain:
            pass

        plain = Plain()
        reference = weakref.ref(plain, lambda _: parker.unpark())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(parker.park)
            await until(lambda: is_parked(parker))
            del plain
        assert reference() is None

    world.run(main)


def test_a_thousand_tasks_are_woken_by_one_thread(world):
    async def main():
        parkers = [aiopark.Parker() for _ in range(1000)]
        async with anyio.create_task_group() as tasks:
            for parker in parkers:
                tasks.start_soon(parker.park)
            await until(lambda: aiopark.statistics().parked_tasks == len(parkers))
            with in_thread(lambda: [parker.unpark() for parker in parkers]):
                await until(lambda: aiopark.statistics().parked_tasks == 0)

    world.run(main)


def test_unparks_with_nobody_parked_cost_no_memory(plain_world):
    parker = aiopark.Parker()
    for _ in range(1000):
        parker.unpark()
    assert len(parker._cell) == 1
    assert plain_world.run(parker.park_timeout, 0) is True
    assert parker._cell == {}


def test_a_parker_is_freed_without_the_collector(plain_world):
    async def main():
        parker = aiopark.Parker()
        await parker.park_timeout(0.0001)
        return weakref.ref(parker)

    gc.disable()
    try:
        assert plain_world.run(main)() is None
    finally:
        gc.enable()
