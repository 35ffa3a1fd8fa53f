"""Word.wait_while, blocking_wait_while and wake: any value, any number of waiters, on every loop with every watcher."""

from __future__ import annotations

import math
import threading
import time

import anyio
import pytest
from support import PLAIN_WORLDS, asleep, block_until, each, in_thread, nothing_is_watched, soon, until, waiting

import aiopark
from aiopark._word import cell_of

pytestmark = pytest.mark.usefixtures("watcher", "nothing_stays_behind")


def change(word, value):
    word.store(value)
    word.wake()


# --- both worlds ---


@pytest.fixture(params=[*each(PLAIN_WORLDS), pytest.param(None, id="thread")])
def wait_while(request):
    """Return a function that blocks in either, with a timeout, and is never early."""
    world = request.param

    def by_thread(word, value, timeout=math.inf):
        deadline = time.monotonic() + timeout
        changed = word.blocking_wait_while(value, deadline=deadline)
        assert changed or time.monotonic() >= deadline
        return changed

    async def main(word, value, timeout):
        deadline = anyio.current_time() + timeout
        changed = await word.wait_while(value, deadline=deadline)
        assert changed or anyio.current_time() >= deadline
        return changed

    def by_task(word, value, timeout=math.inf):
        return world.run(main, word, value, timeout)

    return by_thread if world is None else by_task


@pytest.mark.parametrize("held", [0, 1, 7, 2**32 - 1])
def test_another_value_returns_at_once(wait_while, held):
    with aiopark.Word() as word:
        word.store(held)
        assert wait_while(word, held ^ 2) is True
        assert wait_while(word, held ^ 2, -math.inf) is True  # the value wins
        assert word.load() == held


@pytest.mark.parametrize("timeout", [-math.inf, -1.0, 0.0, 0.001, 0.0123])
def test_never_early(wait_while, timeout):
    with aiopark.Word() as word:
        for _ in range(3):
            assert wait_while(word, 1, timeout) is False


@pytest.mark.parametrize("value", [0, 1, 2, 2**31, 2**32 - 1])
@pytest.mark.parametrize("n", [None, 1, 5])
def test_a_wake_after_the_change(wait_while, value, n):
    with aiopark.Word() as word:
        word.store(value)

        def unparker():
            block_until(lambda: waiting(word) or asleep(word.address))
            word.store(value ^ 1)
            word.wake(n)
            give_up = soon()
            while not over and n:  # one that counts may come just before the sleep of the watch
                word.wake(n)
                time.sleep(0.001)
                assert time.monotonic() < give_up

        over = []
        with in_thread(unparker):
            assert wait_while(word, value) is True
            over.append(True)
        assert word.load() == value ^ 1


def test_wakes_without_a_change_end_nothing(wait_while):
    with aiopark.Word() as word:

        def unparker():
            for _ in range(20):
                block_until(lambda: waiting(word) or asleep(word.address))
                word.wake()
                time.sleep(0.0005)
            assert not over
            change(word, 0)

        over = []
        with in_thread(unparker):
            assert wait_while(word, 1) is True
            over.append(True)


@pytest.mark.parametrize(
    ("value", "deadline", "error"),
    [
        ("1", 0, TypeError),
        (1.0, 0, TypeError),
        (None, 0, TypeError),
        (-1, 0, ValueError),
        (2**32, 0, ValueError),
        (1, "0", TypeError),
        (1, None, TypeError),
        (1, math.nan, ValueError),
    ],
)
def test_bad_arguments(plain_world, value, deadline, error):
    with aiopark.Word() as word:
        with pytest.raises(error):
            word.blocking_wait_while(value, deadline=deadline)

        async def main():
            with pytest.raises(error):
                await word.wait_while(value, deadline=deadline)

        plain_world.run(main)


@pytest.mark.parametrize(("n", "error"), [("1", TypeError), (1.5, TypeError), (-1, ValueError)])
def test_bad_numbers_of_wakes(n, error):
    with aiopark.Word() as word, pytest.raises(error):
        word.wake(n)


def test_a_closed_word(plain_world):
    word = aiopark.Word()
    word.close()
    for call in (word.wake, lambda: word.blocking_wait_while(1), lambda: plain_world.run(word.wait_while, 1)):
        with pytest.raises(aiopark.ClosedError):
            call()


def test_a_plain_thread_has_no_loop():
    with aiopark.Word() as word, pytest.raises(RuntimeError, match="no event loop runs here"):
        word.wait_while(1).send(None)


# --- tasks ---


@pytest.mark.parametrize("deadline", [math.inf, -math.inf])
@pytest.mark.parametrize("held", [0, 1])
def test_every_wait_is_a_checkpoint(world, held, deadline):
    """Also one that need not sleep: other tasks run, and a cancellation is delivered."""

    async def main():
        with aiopark.Word() as word:
            word.store(held)
            ran = []

            async def other():
                ran.append(True)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(other)
                while not ran:
                    assert await word.wait_while(2, deadline=deadline) is True
            with anyio.CancelScope() as scope:
                scope.cancel()
                await word.wait_while(2, deadline=deadline)
            assert scope.cancelled_caught

    world.run(main)


def test_a_thousand_tasks_are_one_wait_of_the_kernel(world):
    async def main():
        with aiopark.Word() as word:
            ended = []

            async def wait():
                ended.append(await word.wait_while(1))

            async with anyio.create_task_group() as tasks:
                for _ in range(1000):
                    tasks.start_soon(wait)
                await until(lambda: waiting(word) == 1000)
                assert aiopark.statistics().watched_words == 1
                assert len(cell_of(word).groups) == 1
                with in_thread(change, word, 0):
                    pass
            assert ended == [True] * 1000
            assert not cell_of(word).groups
            await until(nothing_is_watched)

    world.run(main)


def test_those_who_wait_for_different_values(world):
    async def main():
        with aiopark.Word() as word:
            ended = []

            async def wait(value):
                await word.wait_while(value)
                ended.append(value)

            async with anyio.create_task_group() as tasks:
                word.store(5)
                for value in (5, 5, 6, 7):
                    tasks.start_soon(wait, value)
                await until(lambda: sorted(ended) == [6, 7] and waiting(word) == 2)
                with in_thread(change, word, 6):
                    pass
                await until(lambda: len(ended) == 4)

    world.run(main)


def test_a_change_there_and_back_may_be_missed_and_harms_nobody(world):
    async def main():
        with aiopark.Word() as word:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(word.wait_while, 1)
                await until(lambda: waiting(word) == 1)
                for _ in range(50):
                    change(word, 0)
                    change(word, 1)
                with in_thread(change, word, 2):
                    pass

    world.run(main)


@pytest.mark.parametrize("number", [1, 20])
def test_a_cancellation_leaves_nothing(world, number):
    async def main():
        with aiopark.Word() as word:
            for _ in range(20):
                async with anyio.create_task_group() as tasks:
                    for _ in range(number):
                        tasks.start_soon(word.wait_while, 1)
                    await until(lambda: waiting(word) == number)
                    tasks.cancel_scope.cancel()
                assert not cell_of(word).groups
                with anyio.move_on_after(0):
                    await word.wait_while(1)
            await until(nothing_is_watched)
            assert aiopark.statistics().parked_tasks == 0

    world.run(main)


def test_one_of_many_that_leaves_takes_nobody_with_it(world):
    async def main():
        with aiopark.Word() as word:
            async with anyio.create_task_group() as tasks:
                for _ in range(5):
                    tasks.start_soon(word.wait_while, 1)
                for _ in range(20):
                    assert await word.wait_while(1, deadline=anyio.current_time() + 0.0005) is False
                assert waiting(word) == 5
                with in_thread(change, word, 0):
                    pass

    world.run(main)


def test_beside_a_parker_on_the_same_word(world):
    """An unpark wakes both, and a wake takes no permit."""

    async def main():
        with aiopark.Word() as word, aiopark.Parker(word) as parker:
            for _ in range(5):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(word.wait_while, 1)
                    await until(lambda: waiting(word) == 1)
                    word.wake()
                    assert await parker.park_timeout(0.001) is False
                    with in_thread(word.unpark):
                        pass
                    await until(lambda: not waiting(word))
                    await parker.park()
                assert word.load() == 1

    world.run(main)


def test_beside_a_thread_that_parks_on_the_same_word(plain_world):
    async def main():
        with aiopark.Word() as word:
            parker, started = aiopark.ThreadParker(word), threading.Event()
            with in_thread(lambda: (started.set(), parker.park())):
                async with anyio.create_task_group() as tasks:
                    started.wait()
                    block_until(lambda: asleep(word.address) == 1)
                    tasks.start_soon(word.wait_while, 1)
                    await until(lambda: waiting(word) == 1)
                    # The thread, too, and it stores 1 again: the task may sleep on, until the next change.
                    word.unpark()
                    await until(lambda: parker._cell.owner() is None)
                    change(word, 7)

    plain_world.run(main)
