"""Word.wait_while: closed, collected, several loops, dead ones, forks, other processes."""

from __future__ import annotations

import asyncio
import gc
import mmap
import os
import threading
import weakref

import anyio
import pytest
from support import (
    ASYNCIO,
    PLAIN_WORLDS,
    asleep,
    block_until,
    in_a_fork,
    in_thread,
    installed,
    nothing_is_watched,
    until,
    waiting,
)

import aiopark
from aiopark._word import cell_of
from aiopark.lowlevel import default_backend

pytestmark = pytest.mark.usefixtures("watcher", "nothing_stays_behind")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def change(word, value):
    word.store(value)
    word.wake()


# --- close ---


@pytest.mark.parametrize("by", ["the loop", "another thread"])
def test_close_ends_all_tasks(world, by):
    async def main():
        memory = mmap.mmap(-1, 4096)
        word = aiopark.Word.from_buffer(memory, shared=False)
        ended = []

        async def wait(value):
            with pytest.raises(aiopark.ClosedError):
                await word.wait_while(value)
            ended.append(value)

        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(wait, 0)
            await until(lambda: waiting(word) == 10)
            if by == "the loop":
                word.close()
            else:
                with in_thread(word.close):
                    pass
            memory.close()  # no BufferError: nobody holds it
        assert ended == [0] * 10
        word.close()
        await until(nothing_is_watched)

    world.run(main)


@pytest.mark.parametrize("number", [1, 5])
def test_close_ends_all_threads(number):
    memory = mmap.mmap(-1, 4096)
    word = aiopark.Word.from_buffer(memory, shared=False)
    ended = []

    def wait():
        with pytest.raises(aiopark.ClosedError):
            word.blocking_wait_while(0)
        ended.append(True)

    threads = [threading.Thread(target=wait) for _ in range(number)]
    for thread in threads:
        thread.start()
    block_until(lambda: asleep(word.address) == number)
    word.close()
    memory.close()  # they have noticed
    for thread in threads:
        thread.join(20)
    assert len(ended) == number


def test_close_races_the_first_wait(plain_world):
    async def main():
        for i in range(50):
            memory = mmap.mmap(-1, 4096)
            word = aiopark.Word.from_buffer(memory, shared=False)

            def close(word=word, i=i):
                block_until(lambda: cell_of(word).groups)
                for _ in range(i * 20):
                    pass
                word.close()

            with in_thread(close), anyio.fail_after(20), pytest.raises(aiopark.ClosedError):
                await word.wait_while(0)
            memory.close()
        await until(nothing_is_watched)

    plain_world.run(main)


@pytest.mark.parametrize("how", ["close", "change"])
def test_while_the_watch_is_being_armed(plain_world, watcher, monkeypatch, how):
    """In the middle of the arm, by another thread: neither is missed."""
    from aiopark import _waiting

    make = _waiting.watch

    def watch(cell, hint):
        made = make(cell, hint)
        return Meanwhile(made)

    class Meanwhile:
        def __init__(self, watch):
            self.watch = watch

        def arm(self, seen, source_of):
            with in_thread(happen):
                pass
            self.watch.arm(seen, source_of)

        def close(self):
            self.watch.close()

        def close_later(self):
            self.watch.close_later()

    def happen():
        if how == "close":
            word.close()
        else:
            change(word, 1)

    monkeypatch.setattr(_waiting, "watch", watch)
    memory = mmap.mmap(-1, 4096)
    word = aiopark.Word.from_buffer(memory, shared=False)

    async def main():
        with anyio.fail_after(20):
            if how == "close":
                with pytest.raises(aiopark.ClosedError):
                    await word.wait_while(0)
            else:
                assert await word.wait_while(0) is True
        await until(nothing_is_watched)

    plain_world.run(main)
    word.close()
    memory.close()


# --- loops ---


def test_several_loops_and_threads_at_once():
    with aiopark.Word() as word:
        ended, worlds = [], installed(PLAIN_WORLDS) * 2

        async def main():
            async with anyio.create_task_group() as tasks:
                for _ in range(10):
                    tasks.start_soon(wait)

        async def wait():
            ended.append(await word.wait_while(1))

        threads = [threading.Thread(target=world.run, args=(main,)) for world in worlds]
        threads += [threading.Thread(target=lambda: ended.append(word.blocking_wait_while(1))) for _ in range(3)]
        for thread in threads:
            thread.start()
        block_until(lambda: waiting(word) == 10 * len(worlds) and len(cell_of(word).groups) == len(worlds))
        change(word, 0)
        for thread in threads:
            thread.join(20)
        assert ended == [True] * (10 * len(worlds) + 3)
        assert not cell_of(word).groups


@pytest.mark.parametrize("kept", ["the word", "nothing"])
def test_a_loop_that_dies(kept):
    """Its tasks are collected, and the next loop waits as if they had never been."""
    word = aiopark.Word()
    loop = asyncio.new_event_loop()
    task = loop.create_task(word.wait_while(1))
    task._log_destroy_pending = False
    loop.run_until_complete(asyncio.sleep(0))
    assert waiting(word) == 1
    loop.close()
    reference = weakref.ref(task)
    del task, loop
    if kept == "nothing":
        del word
    gc.collect()
    assert reference() is None
    block_until(nothing_is_watched)
    if kept == "the word":
        assert not cell_of(word).groups

        async def main():
            with in_thread(lambda: (block_until(lambda: waiting(word)), change(word, 0))):
                assert await word.wait_while(1) is True

        ASYNCIO.run(main)
        word.close()


def test_a_loop_that_stands_still_swallows_no_wake():
    with aiopark.Word() as word:
        still = asyncio.new_event_loop()
        task = still.create_task(word.wait_while(1))
        still.run_until_complete(asyncio.sleep(0.001))

        async def main():
            with in_thread(lambda: (block_until(lambda: waiting(word) == 2), change(word, 0))):
                with anyio.fail_after(20):
                    await word.wait_while(1)

        ASYNCIO.run(main)
        assert still.run_until_complete(asyncio.wait_for(task, 20)) is True
        still.close()


def test_a_loop_that_goes_on_in_another_thread():
    with aiopark.Word() as word:
        loop = asyncio.new_event_loop()
        task = loop.create_task(word.wait_while(1))
        with in_thread(loop.run_until_complete, asyncio.sleep(0)):
            pass
        change(word, 0)
        with in_thread(loop.run_until_complete, asyncio.wait_for(task, 20)):
            pass
        loop.close()


@pytest.mark.parametrize("how", ["park", "wait_while"])
def test_a_task_that_nobody_but_the_loop_refers_to_is_not_collected(world, how):
    """Native code and other processes, which may wake it, hold no references."""
    native, done = bytearray(b"\1\0\0\0"), []

    async def job():
        with aiopark.Word.from_buffer(native, shared=False) as word:
            if how == "park":
                with aiopark.Parker(word) as parker:
                    await parker.park()
            else:
                await word.wait_while(1)
            done.append(True)

    async def main():
        if world.backend == "asyncio":
            asyncio.get_running_loop().create_task(job())  # that is the point
        else:
            import trio

            trio.lowlevel.spawn_system_task(job)
        await until(lambda: aiopark.statistics().watched_words == 1 and aiopark.statistics().parked_tasks == 1)
        for _ in range(3):
            gc.collect()
        with aiopark.Word.from_buffer(native, shared=False) as other, in_thread(other.unpark):
            await until(lambda: done)

    world.run(main)


# --- forks and other processes ---


@needs_fork
def test_a_child_of_a_fork_starts_fresh(plain_world):
    with aiopark.Word() as word:

        async def main():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(word.wait_while, 1)
                await until(lambda: waiting(word) == 1)
                thread = threading.Thread(target=word.blocking_wait_while, args=(1,))
                thread.start()
                block_until(lambda: len(cell_of(word).sleepers) >= 1)
                with in_thread(in_a_fork, child):
                    pass
                change(word, 0)
                thread.join(20)

        async def of_child():
            with in_thread(lambda: (block_until(lambda: waiting(word) >= 1), change(word, 0))):
                with anyio.fail_after(20):
                    assert await word.wait_while(1) is True

        def child():
            ASYNCIO.run(of_child)
            word.store(1)
            with in_thread(word.blocking_wait_while, 1):
                change(word, 2)
            word.close()

        plain_world.run(main)


@needs_fork
@pytest.mark.skipif(not default_backend().supports_shared, reason="this backend reaches no other process")
def test_a_wake_by_another_process(plain_world):
    with mmap.mmap(-1, 4096) as memory, aiopark.Word.from_buffer(memory, 64) as word:

        async def main():
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(word.wait_while, 0)
                await until(lambda: waiting(word) == 3)
                with in_thread(in_a_fork, lambda: change(word, 9)):
                    await until(lambda: waiting(word) == 0)
            assert word.load() == 9

        plain_world.run(main)
