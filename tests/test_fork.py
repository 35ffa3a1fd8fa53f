"""In the child of a fork everything starts fresh: nothing hangs, nobody is a ghost."""

from __future__ import annotations

import asyncio
import mmap
import os
import threading
from contextlib import contextmanager

import anyio
import pytest
from support import PLAIN_WORLDS, WATCHERS, block_until, each, in_a_fork, in_thread, installed, is_parked, run_program

import aiopark
from aiopark.lowlevel import default_backend

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@contextmanager
def parked_in_a_thread(world, parker):
    """A task of another thread's loop is parked meanwhile; it must come through unharmed."""
    with in_thread(world.run, parker.park):
        block_until(lambda: is_parked(parker) and aiopark.statistics().parked_tasks == 1)
        yield
        assert is_parked(parker)  # what the child did is not seen here
        parker.unpark()


def test_the_child_parks_where_a_task_of_the_parent_is_parked(plain_world):
    parker = aiopark.Parker()

    def check():
        assert aiopark.statistics().parked_tasks == 0
        for world in installed(PLAIN_WORLDS):
            assert world.run(parker.park_timeout, 0.001) is False
            parker.unpark()
            assert world.run(parker.park_timeout, 10) is True

            async def woken_by_a_thread():
                with in_thread(lambda: (block_until(lambda: is_parked(parker)), parker.unpark())):
                    await parker.park()

            world.run(woken_by_a_thread)

    with parked_in_a_thread(plain_world, parker):
        in_a_fork(check)


def test_the_child_does_not_ring_the_parents_loop(plain_world):
    """An unpark in the child reaches nobody in the parent."""
    parker = aiopark.Parker()

    def check():
        for _ in range(10):
            parker.unpark()

    with parked_in_a_thread(plain_world, parker):
        bridge = parker._cell["owner"]._bridge
        drains = bridge._drains
        in_a_fork(check)
        assert bridge._drains == drains


def test_a_stored_permit_is_copied_with_the_memory():
    parker = aiopark.Parker()
    parker.unpark()

    def check():
        assert asyncio.run(parker.park_timeout(0)) is True

    in_a_fork(check)
    assert asyncio.run(parker.park_timeout(0)) is True


def test_a_fork_inside_a_task_of_a_running_loop(plain_world):
    async def main():
        parker, other = aiopark.Parker(), aiopark.Parker()
        await parker.park_timeout(0.0001)

        def check():
            # The child runs a loop of its own, on a thread of its own: the parent's still counts as running here.
            def run():
                assert plain_world.run(parker.park_timeout, 0.001) is False
                other.unpark()
                assert plain_world.run(other.park_timeout, 10) is True

            with in_thread(run):
                pass

        in_a_fork(check)
        with in_thread(parker.unpark):
            await parker.park()

    plain_world.run(main)


def test_fork_while_other_threads_unpark_and_take_over():
    """No lock of ours can be held by a thread that is not there in the child."""
    parker, stop = aiopark.Parker(), threading.Event()

    def unpark():
        while not stop.is_set():
            parker.unpark()

    def check():
        asyncio.run(parker.park_timeout(0))
        parker.unpark()
        assert asyncio.run(parker.park_timeout(0)) is True

    with in_thread(unpark), in_thread(unpark):
        try:
            for _ in range(10):
                in_a_fork(check)
        finally:
            stop.set()


# --- words ---


@contextmanager
def word_of(kind):
    """Give a word of its own memory, or in memory that the child shares."""
    if kind == "private":
        yield aiopark.Word()
        return
    if not default_backend().supports_shared:
        pytest.skip("this backend reaches no other process")
    with mmap.mmap(-1, 4096) as memory:
        word = aiopark.Word.from_buffer(memory)
        word.store(1)
        yield word
        word.close()


async def in_time(parker):
    with anyio.fail_after(20):
        await parker.park()


async def woken_by_a_thread(parker):
    with in_thread(lambda: (block_until(lambda: is_parked(parker)), parker.word.unpark())):
        await parker.park()


@contextmanager
def parked_on_a_word(world, parker, finish):
    """A task of another thread's loop is parked on the word meanwhile, and goes on with the same ring or thread."""

    async def main():
        await parker.park()
        for _ in range(5):
            await woken_by_a_thread(parker)

    with in_thread(world.run, main):
        block_until(lambda: is_parked(parker) and aiopark.statistics().watched_words == 1)
        yield
        finish()


@pytest.mark.parametrize("kind", ["private", "shared"])
def test_the_child_parks_on_a_word_of_its_own_while_the_parent_is_parked(plain_world, watcher, kind):
    with word_of(kind) as other, aiopark.Parker(other) as parker_of_child, aiopark.Parker(aiopark.Word()) as parker:

        def check():
            statistics = aiopark.statistics()
            assert statistics.parked_tasks == statistics.watched_words == statistics.waiter_threads == 0
            for world in installed(PLAIN_WORLDS):
                for one in (parker_of_child, parker):
                    assert world.run(one.park_timeout, 0.001) is False
                    for _ in range(3):
                        world.run(woken_by_a_thread, one)

        with parked_on_a_word(plain_world, parker, parker.word.unpark):
            in_a_fork(check)
            assert is_parked(parker)  # the child's copy of the word is not this one


def test_the_child_unparks_the_parent(plain_world, watcher):
    with word_of("shared") as word, aiopark.Parker(word) as parker:

        def finish():
            in_a_fork(word.unpark)

        with parked_on_a_word(plain_world, parker, finish):
            pass


def test_the_parent_unparks_the_child(plain_world, watcher):
    """Which takes the word over: the parent's task is gone there."""
    with word_of("shared") as word, word_of("shared") as ready, aiopark.Parker(word) as parker:

        def check():
            ready.unpark()
            plain_world.run(in_time, parker)

        def unpark():
            aiopark.ThreadParker(ready).park()
            word.unpark()

        with in_thread(unpark):
            in_a_fork(check)


def test_the_permit_of_a_private_word_is_copied(watcher):
    with aiopark.Parker(aiopark.Word()) as parker:
        parker.word.unpark()

        def check():
            assert asyncio.run(parker.park_timeout(0)) is True

        in_a_fork(check)
        check()


@pytest.mark.parametrize("kind", ["private", "shared"])
@pytest.mark.parametrize("end", ["close", "collect"])
def test_the_child_closes_the_parents_parker(plain_world, watcher, end, kind):
    """It neither wakes nor waits for what watches in the parent."""
    with word_of(kind) as word:
        parkers = [aiopark.Parker(word)]

        def check():
            if end == "close":
                parkers[0].close()
            parkers.clear()
            with aiopark.Parker(aiopark.Word()) as parker:
                asyncio.run(woken_by_a_thread(parker))

        with parked_on_a_word(plain_world, parkers[0], word.unpark):
            in_a_fork(check)
        parkers[0].close()


def test_a_fork_inside_a_task_that_watches_words(plain_world, watcher):
    async def main():
        parkers = [aiopark.Parker(aiopark.Word()) for _ in range(3)]
        for parker in parkers:
            await woken_by_a_thread(parker)

        def check():
            def run():
                for parker in parkers:
                    assert plain_world.run(parker.park_timeout, 0.001) is False
                    plain_world.run(woken_by_a_thread, parker)

            with in_thread(run):
                pass

        in_a_fork(check)
        for parker in parkers:
            await woken_by_a_thread(parker)
            parker.close()

    plain_world.run(main)


@pytest.mark.parametrize("world", each(PLAIN_WORLDS))
@pytest.mark.parametrize("watcher", WATCHERS)
def test_how_the_child_ends(world, watcher):
    """By its own finalizers, or by none: nothing is said, and the parent goes on."""
    options = ("-W", "ignore::DeprecationWarning")
    run = run_program("forks", world.name, options=options, AIOPARK_WATCHER=watcher)
    assert (run.returncode, run.stdout, run.stderr) == (0, "the parent ends\n", "")
