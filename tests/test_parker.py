"""Parker without a word, on every loop: permits, deadlines, handles, checkpoints."""

from __future__ import annotations

import decimal
import fractions
import math
import threading

import anyio
import pytest
from support import block_until, in_thread, is_parked, until

import aiopark


def test_a_thread_wakes_a_task_without_any_other_thread(world):
    async def main():
        parker = aiopark.Parker()
        before = threading.active_count()

        def unpark():
            block_until(lambda: is_parked(parker))
            assert threading.active_count() == before + 1  # this one
            parker.unpark()

        with in_thread(unpark):
            await parker.park()

    world.run(main)


def test_a_task_wakes_a_task(world):
    async def main():
        parker = aiopark.Parker()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(parker.park)
            await until(lambda: is_parked(parker))
            parker.unpark()

    world.run(main)


def test_an_unpark_that_comes_first_is_not_lost(world):
    parker = aiopark.Parker()
    parker.unpark()
    world.run(parker.park)
    assert world.run(parker.park_timeout, 0) is False


def test_at_most_one_permit_is_stored(world):
    parker = aiopark.Parker()
    parker.unpark()
    parker.unpark()
    assert world.run(parker.park_timeout, 0) is True
    assert world.run(parker.park_timeout, 0) is False


def test_prepare_park_drops_a_stale_permit(world):
    parker = aiopark.Parker()
    parker.unpark()
    parker.prepare_park()
    assert world.run(parker.park_timeout, 0) is False


@pytest.mark.parametrize("timeout", [0.0, 1e-9, 1e-6, 0.0003, 0.001, 0.0123])
def test_never_early(world, timeout):
    async def main():
        parker = aiopark.Parker()
        for _ in range(3):
            start = anyio.current_time()
            assert await parker.park_timeout(timeout) is False
            assert anyio.current_time() - start >= timeout
            deadline = anyio.current_time() + timeout
            assert await parker.park_until(deadline) is False
            assert anyio.current_time() >= deadline

    world.run(main)


@pytest.mark.parametrize("deadline", [-math.inf, -1e300, 0, -(10**400)])
def test_a_past_deadline_takes_a_stored_permit_or_gives_up(world, deadline):
    parker = aiopark.Parker()
    assert world.run(parker.park_until, deadline) is False
    parker.unpark()
    assert world.run(parker.park_until, deadline) is True
    assert world.run(parker.park_until, deadline) is False


@pytest.mark.parametrize("timeout", [math.inf, 50 * 86400, 1e10, 1e300, 10**400])
def test_long_waits_are_honoured(world, timeout):
    async def main():
        parker = aiopark.Parker()

        def unpark():
            block_until(lambda: is_parked(parker))
            parker.unpark()

        with in_thread(unpark):
            assert await parker.park_timeout(timeout) is True

    world.run(main)


@pytest.mark.parametrize("number", [0, False, fractions.Fraction(0), decimal.Decimal(0)])
def test_any_real_number_is_a_time(world, number):
    parker = aiopark.Parker()
    assert world.run(parker.park_timeout, number) is False
    assert world.run(parker.park_until, number) is False


@pytest.mark.parametrize("verb", ["park_until", "park_timeout"])
@pytest.mark.parametrize(
    ("bad", "error"),
    [(math.nan, ValueError), ("1", TypeError), (None, TypeError), (1j, TypeError), (b"1", TypeError), ([], TypeError)],
)
def test_bad_input_says_what_and_loses_nothing(plain_world, verb, bad, error):
    parker = aiopark.Parker()
    parker.unpark()
    with pytest.raises(error, match=verb.removeprefix("park_").replace("until", "deadline")):
        plain_world.run(getattr(parker, verb), bad)
    assert plain_world.run(parker.park_timeout, 0) is True


def test_outside_of_a_loop_it_says_what_to_use():
    parker = aiopark.Parker()
    with pytest.raises(RuntimeError, match="ThreadParker"):
        parker.park().send(None)
    assert not is_parked(parker)


def test_timed_out_tells_whether_a_permit_came_late(world):
    parker = aiopark.Parker()
    assert world.run(parker.park_timeout, 0) is False
    assert parker.timed_out()
    parker.unpark()
    assert not parker.timed_out()
    assert world.run(parker.park_timeout, 0) is True


def test_in_a_tie_of_timer_and_unpark_the_unpark_wins(world):
    async def main():
        parker = aiopark.Parker()
        handles = []

        def deposit_without_a_wake():
            block_until(lambda: is_parked(parker))
            handles.append(parker.unpark_lock())

        with in_thread(deposit_without_a_wake):
            # Only the timer ends this sleep; it finds the permit.
            assert await parker.park_timeout(0.05) is True
        handles[0].unpark()
        assert await parker.park_timeout(0.001) is False

    world.run(main)


def test_a_handle_wakes_once_and_later_calls_do_nothing(world):
    async def main():
        parker = aiopark.Parker()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(parker.park)
            await until(lambda: is_parked(parker))
            handle = parker.unpark_lock()
            assert not parker.timed_out()
            handle.unpark()
            handle.unpark()
        assert await parker.park_timeout(0) is False
        handle.unpark()
        assert await parker.park_timeout(0) is False

    world.run(main)


def test_a_handle_that_is_never_called_loses_no_permit(world):
    parker = aiopark.Parker()
    parker.unpark_lock()
    assert world.run(parker.park_timeout, 0) is True


def test_a_second_owner_is_told_so_and_the_first_goes_on(world):
    async def main():
        parker = aiopark.Parker()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(parker.park)
            await until(lambda: is_parked(parker))
            with pytest.raises(RuntimeError, match="give each of them its own Parker"):
                await parker.park()
            assert is_parked(parker)
            parker.unpark()
        assert await parker.park_timeout(0) is False

    world.run(main)


@pytest.mark.parametrize("order", ["cancel first", "unpark first"])
def test_a_cancelled_park_leaves_the_permit(world, order):
    async def main():
        parker = aiopark.Parker()
        returned = []

        async def park():
            await parker.park()
            returned.append(True)

        for _ in range(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(park)
                await until(lambda: is_parked(parker))
                if order == "cancel first":
                    tasks.cancel_scope.cancel()
                    parker.unpark()
                else:
                    parker.unpark()
                    tasks.cancel_scope.cancel()
            stored = await parker.park_timeout(0)
            assert stored + len(returned) == 1
            returned.clear()

    world.run(main)


def test_a_cancelled_park_leaves_nothing_behind(world):
    async def main():
        parker = aiopark.Parker()
        threads = threading.active_count()
        for _ in range(50):
            with anyio.move_on_after(0.0001):
                await parker.park()
            assert not is_parked(parker)
        assert threading.active_count() == threads
        assert aiopark.statistics().parked_tasks == 0
        parker.unpark()
        await parker.park()

    world.run(main)


def test_every_park_is_a_checkpoint(world):
    async def main():
        parker = aiopark.Parker()
        ran = []

        async def other():
            ran.append(True)

        async with anyio.create_task_group() as tasks:
            for park in (parker.park, lambda: parker.park_timeout(-1)):
                tasks.start_soon(other)
                parker.unpark()
                ran.clear()
                await park()
                await parker.park_timeout(-1)
                assert ran

    world.run(main)


def test_a_cancelled_scope_takes_no_permit(plain_world):
    async def main():
        parker = aiopark.Parker()
        parker.unpark()
        with anyio.CancelScope() as scope:
            scope.cancel()
            await parker.park()
        assert scope.cancelled_caught
        assert await parker.park_timeout(0) is True

    plain_world.run(main)
