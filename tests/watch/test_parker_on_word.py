"""A Parker on a word, on every loop, with every watcher: what must hold whoever unparks."""

from __future__ import annotations

import gc
import math
import mmap
import threading

import anyio
import pytest
from support import block_until, in_thread, is_parked, nothing_is_watched, until

import aiopark
from aiopark.lowlevel import default_backend

pytestmark = pytest.mark.usefixtures("watcher", "nothing_stays_behind")


def threads_that_watch(word):
    return [thread for thread in threading.enumerate() if thread.name == f"aiopark-watch-{word.address:#x}"]


def skip_unless_shared(shared):
    if shared and not default_backend().supports_shared:
        pytest.skip("this backend reaches no other process")


@pytest.mark.parametrize("shared", [False, True])
def test_a_word_unparks_a_task(world, shared):
    async def main():
        with mmap.mmap(-1, 4096) as memory:
            word = aiopark.Word.from_buffer(memory, 64, shared=shared)
            word.store(1)
            with aiopark.Parker(word) as parker:
                for _ in range(20):
                    with in_thread(lambda: (block_until(lambda: is_parked(parker)), word.unpark())):
                        await parker.park()
                    assert word.load() == 1
            word.close()

    skip_unless_shared(shared)
    world.run(main)


def test_both_permits_count_and_at_most_one_is_stored(world):
    word = aiopark.Word()
    with aiopark.Parker(word) as parker:
        for deposit in (parker.unpark, word.unpark, lambda: (parker.unpark(), word.unpark())):
            deposit()
            assert not parker.timed_out()
            assert world.run(parker.park_timeout, 0) is True
            assert parker.timed_out()
            assert world.run(parker.park_timeout, 0) is False


def test_the_parker_unparks_its_task_too(world):
    async def main():
        with aiopark.Parker(aiopark.Word()) as parker:
            for _ in range(20):
                with in_thread(lambda: (block_until(lambda: is_parked(parker)), parker.unpark())):
                    await parker.park()

    world.run(main)


def test_a_handle_deposits_now_and_wakes_later(world):
    async def main():
        word = aiopark.Word()
        with aiopark.Parker(word) as parker:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(parker.park)
                await until(lambda: is_parked(parker))
                handle = word.unpark_lock()
                assert not parker.timed_out()
                handle.unpark()

    world.run(main)


def test_prepare_park_drops_both_permits(world):
    word = aiopark.Word()
    with aiopark.Parker(word) as parker:
        word.unpark()
        parker.unpark()
        parker.prepare_park()
        assert word.load() == 1
        assert world.run(parker.park_timeout, 0) is False


def test_attaching_changes_nothing(world):
    """Zero-filled memory reads "permit"."""
    word = aiopark.Word.from_buffer(bytearray(8), shared=False)
    with aiopark.Parker(word) as parker:
        assert word.load() == 0
        assert world.run(parker.park_timeout, 0) is True
    word.close()


@pytest.mark.parametrize("timeout", [0.0, 1e-6, 0.001, 0.0123])
def test_never_early(world, timeout):
    async def main():
        with aiopark.Parker(aiopark.Word()) as parker:
            for _ in range(3):
                deadline = anyio.current_time() + timeout
                assert await parker.park_until(deadline) is False
                assert anyio.current_time() >= deadline
                assert parker.timed_out()

    world.run(main)


def test_a_tie_is_won_by_the_permit(world):
    word = aiopark.Word()
    with aiopark.Parker(word) as parker:
        word.unpark()
        assert world.run(parker.park_until, -math.inf) is True


@pytest.mark.parametrize("value", [2, 7, 2**32 - 1])
def test_a_value_that_is_neither_is_no_permit(world, value):
    """Nor does it make the watch go round and round: it sleeps until the word changes."""

    async def main():
        word = aiopark.Word()
        word.store(value)
        with aiopark.Parker(word) as parker:
            assert await parker.park_timeout(0.01) is False
            assert word.load() == value
            with in_thread(lambda: (block_until(lambda: is_parked(parker)), word.unpark())):
                await parker.park()

    world.run(main)


def test_an_unpark_beside_a_cancellation_stays_in_the_word(world):
    async def main():
        word = aiopark.Word()
        with aiopark.Parker(word) as parker:
            for _ in range(20):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(parker.park)
                    await until(lambda: is_parked(parker))
                    word.unpark()
                    tasks.cancel_scope.cancel()
                assert await parker.park_timeout(0) is True
                assert await parker.park_timeout(0) is False

    world.run(main)


def test_200_cancelled_parks_leave_nothing_behind(world):
    async def main():
        word = aiopark.Word()
        with aiopark.Parker(word) as parker:
            for _ in range(200):
                with anyio.move_on_after(0):
                    await parker.park()
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(parker.park)
                    await until(lambda: is_parked(parker))
                    tasks.cancel_scope.cancel()
            assert aiopark.statistics().watched_words <= 1
            assert len(threads_that_watch(word)) <= 1
            with in_thread(word.unpark):
                await parker.park()

    world.run(main)


@pytest.mark.parametrize("end", ["close", "collect"])
def test_600_short_lived_parkers_leave_nothing_behind(plain_world, end):
    async def main():
        word = aiopark.Word()
        for i in range(600):
            parker = aiopark.Parker(word)
            if i % 3:
                assert await parker.park_timeout(1e-4) is False
            word.unpark()
            assert await parker.park_timeout(0) is True
            assert word.load() == 1
            if end == "close":
                parker.close()
            else:
                word = aiopark.Word()  # trio keeps frames for a while, and so this Parker as the owner
            del parker
        await anyio.sleep(0)
        gc.collect()
        await until(lambda: nothing_is_watched() and not threads_that_watch(word))
        with aiopark.Parker(word) as parker, in_thread(word.unpark):
            await parker.park()

    plain_world.run(main)
