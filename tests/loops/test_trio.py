"""trio: what is special to it."""

from __future__ import annotations

import asyncio
import math
import sys

import pytest
from support import NO_TRIO, UNDER_WINE, block_until, in_thread, is_parked, storm

import aiopark
from aiopark._loops import running_loop

if UNDER_WINE:
    pytest.skip(NO_TRIO, allow_module_level=True)
trio = pytest.importorskip("trio")
trio_testing = pytest.importorskip("trio.testing")


def test_every_park_is_a_checkpoint():
    async def main():
        parker = aiopark.Parker()
        parker.unpark()
        with trio_testing.assert_checkpoints():
            await parker.park()
        with trio_testing.assert_checkpoints():
            assert await parker.park_timeout(-1) is False
        with trio_testing.assert_checkpoints():
            assert await parker.park_timeout(0.0001) is False
        parker.close()
        with trio_testing.assert_checkpoints(), pytest.raises(aiopark.ClosedError):
            await parker.park()

    trio.run(main)


def test_the_clock_is_trios():
    async def main():
        start = trio.current_time()
        assert await aiopark.Parker().park_timeout(3600) is False
        assert trio.current_time() - start >= 3600

    trio.run(main, clock=trio_testing.MockClock(autojump_threshold=0))


def test_no_timeout_at_all_needs_no_clock_that_goes():
    trio.run(aiopark.Parker().park_timeout, 0, clock=trio_testing.MockClock())


@pytest.mark.parametrize("deadline", [math.inf, 3600])
def test_cancelling_a_nursery_leaves_the_permit(deadline):
    async def main():
        parker = aiopark.Parker()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(parker.park_timeout, deadline)
            await trio_testing.wait_all_tasks_blocked()
            assert is_parked(parker)
            parker.unpark()
            nursery.cancel_scope.cancel()
        assert not is_parked(parker)
        return await parker.park_timeout(0)

    # Woken or cancelled first: either the park returned with the permit, or it is still there.
    assert trio.run(main) in {True, False}


def test_a_finished_run_eats_nothing():
    parker = aiopark.Parker()
    waiters = []

    async def main():
        await parker.park_timeout(0.0001)
        waiters.append(running_loop().waiter())

    trio.run(main)
    parker._cell["owner"] = waiters[0]  # as if a park had been pending when the run ended
    parker.unpark()
    assert trio.run(parker.park_timeout, 0) is True
    assert trio.run(parker.park_timeout, 0) is False


def test_a_parker_whose_run_ended_can_be_parked_on_again():
    parker = aiopark.Parker()
    waiters = []

    async def main():
        waiters.append(running_loop().waiter())

    trio.run(main)
    parker._cell["owner"] = waiters[0]
    assert trio.run(parker.park_timeout, 0) is False


def test_many_runs_one_after_another():
    async def main():
        parker = aiopark.Parker()
        with in_thread(lambda: (block_until(lambda: is_parked(parker)), parker.unpark())):
            await parker.park()

    for _ in range(50):
        trio.run(main)


def test_guest_mode_has_both_loops():
    """trio runs inside asyncio: each task parks on its own loop."""

    async def host():
        loop, done = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()
        to_trio, to_asyncio = aiopark.Parker(), aiopark.Parker()
        kinds = []

        async def guest():
            kinds.append(type(running_loop()).__name__)
            to_asyncio.unpark()
            await to_trio.park()
            return "guest"

        trio.lowlevel.start_guest_run(
            guest, run_sync_soon_threadsafe=loop.call_soon_threadsafe, done_callback=done.set_result
        )
        await to_asyncio.park()
        kinds.append(type(running_loop()).__name__)
        to_trio.unpark()
        assert (await done).unwrap() == "guest"
        assert kinds == ["TrioBridge", "AsyncioBridge"]

    asyncio.run(host())


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_signal_handler_wakes_a_loop_that_waits_in_the_kernel():
    async def main():
        parker = aiopark.Parker()
        with storm(parker.unpark):
            for _ in range(20):
                await parker.park()

    trio.run(main)


def test_an_unpark_that_meets_a_task_awake_already_is_a_hint():
    async def main():
        parker = aiopark.Parker()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(parker.park_timeout, 0.001)
            await trio_testing.wait_all_tasks_blocked(0)
            waiter = parker._cell["owner"]
            while is_parked(parker):
                await trio.sleep(0.001)
            waiter.wake()
            await trio_testing.wait_all_tasks_blocked()
        assert aiopark.statistics().parked_tasks == 0

    trio.run(main)
