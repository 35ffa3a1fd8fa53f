"""A Parker on a word: one owner, closed, collected, and the life of its loops."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import mmap
import threading
import weakref

import anyio
import pytest
from support import (
    ASYNCIO,
    PLAIN_WORLDS,
    block_until,
    in_thread,
    installed,
    is_owned,
    is_parked,
    nothing_is_watched,
    sleep_until_watched,
    until,
)

import aiopark
from aiopark.lowlevel import default_backend

pytestmark = pytest.mark.usefixtures("watcher", "nothing_stays_behind")


def threads_that_watch(word):
    return [thread for thread in threading.enumerate() if thread.name == f"aiopark-watch-{word.address:#x}"]


def skip_unless_shared(shared):
    if shared and not default_backend().supports_shared:
        pytest.skip("this backend reaches no other process")


def test_one_owner():
    word = aiopark.Word()
    parker = aiopark.Parker(word)
    with pytest.raises(RuntimeError, match="parks on a word at a time"):
        aiopark.Parker(word)
    with pytest.raises(RuntimeError, match="parks on a word at a time"):
        aiopark.ThreadParker(word).park_timeout(0)
    with pytest.raises(RuntimeError, match="still parks"):
        word.close()
    parker.close()
    assert aiopark.ThreadParker(word).park_timeout(0) is False
    with aiopark.Parker(word):
        pass
    word.close()


def test_one_owner_at_an_address():
    native = ctypes.c_uint32(1)
    words = [aiopark.Word.from_address(ctypes.addressof(native), owner=native) for _ in range(2)]
    with aiopark.Parker(words[0]):
        with pytest.raises(RuntimeError, match="parks on a word at a time"):
            aiopark.Parker(words[1])
        words[1].unpark()
        words[1].close()  # it only unparked
        with pytest.raises(RuntimeError, match="still parks"):
            words[0].close()


def test_a_thread_that_is_parked_is_an_owner():
    word = aiopark.Word()
    with in_thread(aiopark.ThreadParker(word).park):
        block_until(lambda: is_owned(word))
        with pytest.raises(RuntimeError, match="parks on a word at a time"):
            aiopark.Parker(word)
        word.unpark()


def test_bad_words():
    with pytest.raises(TypeError, match="Word"):
        aiopark.Parker(1)
    word = aiopark.Word()
    word.close()
    with pytest.raises(aiopark.ClosedError):
        aiopark.Parker(word)


def test_close_ends_the_pending_park(world):
    async def main():
        memory = mmap.mmap(-1, 4096)
        word = aiopark.Word.from_buffer(memory, shared=False)
        word.store(1)
        parker = aiopark.Parker(word)
        ended = []

        async def park():
            with pytest.raises(aiopark.ClosedError):
                await parker.park()
            ended.append(True)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(park)
            await until(lambda: is_parked(parker))
            parker.close()
            parker.close()
            with pytest.raises(RuntimeError, match="still parks"):
                word.close()  # the task has yet to look
        assert ended
        assert word.load() == 1
        word.close()
        memory.close()  # no BufferError: nobody holds the memory
        with pytest.raises(aiopark.ClosedError):
            await parker.park()
        parker.unpark()  # says nothing, and wakes nobody

    world.run(main)


def test_a_closed_parker_leaves_the_permit_of_the_word(world):
    word = aiopark.Word()
    parker = aiopark.Parker(word)
    word.unpark()
    parker.close()
    assert parker.timed_out()
    with pytest.raises(aiopark.ClosedError):
        world.run(parker.park)
    assert world.run(aiopark.Parker(word).park_timeout, 0) is True


def test_a_parker_that_nobody_closed_is_collected(world):
    word = aiopark.Word()

    async def main():
        parker = aiopark.Parker(word)
        await sleep_until_watched(parker)
        assert aiopark.statistics().watched_words == 1
        reference = weakref.ref(parker)
        del parker
        await anyio.sleep(0)  # trio keeps the last Cancelled, and so the frames that it went through, until then
        gc.collect()
        assert reference() is None
        await until(nothing_is_watched)

    world.run(main)
    block_until(lambda: not threads_that_watch(word))
    word.close()


def test_a_task_that_died_with_its_loop_is_collected_with_its_parker():
    word = aiopark.Word()
    loop = asyncio.new_event_loop()
    parker = aiopark.Parker(word)
    task = loop.create_task(parker.park())
    task._log_destroy_pending = False
    loop.run_until_complete(asyncio.sleep(0))
    assert aiopark.statistics().watched_words == 1
    loop.close()
    reference = weakref.ref(parker)
    del parker, task, loop
    gc.collect()
    assert reference() is None
    block_until(lambda: nothing_is_watched() and not threads_that_watch(word))


def test_the_next_park_may_run_on_another_loop():
    word = aiopark.Word()
    with aiopark.Parker(word) as parker:
        for _ in range(3):
            for world in installed(PLAIN_WORLDS):
                assert world.run(parker.park_timeout, 0.001) is False
                with in_thread(word.unpark):
                    world.run(parker.park)


def test_a_loop_that_stands_still_does_not_swallow_the_wake():
    """Its arm is taken off when another loop arms."""
    word = aiopark.Word()
    with aiopark.Parker(word) as parker:
        still = asyncio.new_event_loop()
        still.run_until_complete(sleep_until_watched(parker))

        async def main():
            with in_thread(lambda: (block_until(lambda: is_parked(parker)), word.unpark())):
                await parker.park()

        for world in installed(PLAIN_WORLDS):
            world.run(main)
            assert still.run_until_complete(parker.park_timeout(0.001)) is False
        still.close()


def test_a_dead_loop_eats_nothing():
    word = aiopark.Word()
    with aiopark.Parker(word) as parker:
        loop = asyncio.new_event_loop()
        task = loop.create_task(parker.park())
        task._log_destroy_pending = False
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        word.unpark()
        assert ASYNCIO.run(parker.park_timeout, 0) is True


def test_a_task_of_a_stopped_loop_resumes_when_it_runs_again():
    word = aiopark.Word()
    with aiopark.Parker(word) as parker:
        loop = asyncio.new_event_loop()
        task = loop.create_task(parker.park())
        loop.run_until_complete(asyncio.sleep(0))
        word.unpark()
        loop.run_until_complete(asyncio.wait_for(task, 20))
        loop.close()


@pytest.mark.parametrize("unparked", ["before it moves", "after it moved"])
def test_a_loop_that_goes_on_in_another_thread(unparked):
    """A ring is its thread's: the parked task gets a new one."""
    word = aiopark.Word()
    with aiopark.Parker(word) as parker:
        loop = asyncio.new_event_loop()
        task = loop.create_task(parker.park())
        with in_thread(loop.run_until_complete, asyncio.sleep(0)):
            pass
        if unparked == "before it moves":
            word.unpark()

        async def finish():
            if unparked == "after it moved":
                await asyncio.sleep(0.01)
                word.unpark()
            await asyncio.wait_for(task, 20)

        with in_thread(loop.run_until_complete, finish()):
            pass
        loop.close()


def test_many_words_unparked_at_once(world):
    async def main():
        words = [aiopark.Word() for _ in range(100)]
        parkers = [aiopark.Parker(word) for word in words]
        for _ in range(3):
            async with anyio.create_task_group() as tasks:
                for parker in parkers:
                    tasks.start_soon(parker.park)
                await until(lambda: all(map(is_parked, parkers)))
                with in_thread(lambda: [word.unpark() for word in words]):
                    pass
        for parker in parkers:
            parker.close()

    world.run(main)


def test_the_statistics_count(world, watcher):
    async def main():
        with aiopark.Parker(aiopark.Word()) as parker:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(parker.park)
                await until(lambda: is_parked(parker))
                statistics = aiopark.statistics()
                assert statistics.watched_words == statistics.parked_tasks == 1
                assert statistics.waiter_threads == (watcher == "threads")
                parker.word.unpark()

    world.run(main)


def test_a_thread_is_named_and_does_not_hold_the_interpreter(plain_world, watcher):
    word = aiopark.Word()
    with aiopark.Parker(word) as parker:
        plain_world.run(sleep_until_watched, parker)
        if watcher == "threads":
            (thread,) = threads_that_watch(word)
            assert thread.daemon
        else:
            assert not threads_that_watch(word)
