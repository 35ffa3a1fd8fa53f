"""ThreadWatch: the thread that waits for a word, its beginning, its end, and what fails."""

from __future__ import annotations

import asyncio
import errno
import gc
import mmap
import os
import threading

import pytest
from support import (
    ASYNCIO,
    PLAIN_WORLDS,
    Interrupted,
    asleep,
    block_until,
    in_a_fork,
    in_thread,
    installed,
    interrupted_at,
    is_ours,
    is_parked,
)

import aiopark
from aiopark import _word
from aiopark._os import Portable
from aiopark._watch import ThreadWatch, _threads, waiter_threads


class Hints:
    """Counts those that came."""

    def __init__(self):
        self.number = 0

    def __call__(self):
        self.number += 1


@pytest.fixture(autouse=True)
def no_thread_stays_behind():
    assert waiter_threads() == 0
    yield
    gc.collect()
    block_until(lambda: waiter_threads() == 0)


@pytest.fixture
def hints():
    return Hints()


@pytest.fixture
def word():
    return aiopark.Word()


@pytest.fixture
def watch(word, hints):
    watch = ThreadWatch(word, hints)
    yield watch
    watch.close()


def no_source(make):
    raise AssertionError("a thread asks no loop")


def arm(watch):
    watch.arm(1, no_source)


def test_nothing_runs_before_the_first_arm(watch):
    assert waiter_threads() == 0


def test_one_hint_for_each_arm(watch, word, hints):
    for number in range(1, 4):
        arm(watch)
        arm(watch)
        block_until(lambda: asleep(word.address) == 1)
        assert waiter_threads() == 1
        assert hints.number == number - 1
        word.unpark()
        block_until(lambda number=number: hints.number == number)
        block_until(lambda: asleep(word.address) == 0)
        word.store(1)


def test_a_permit_that_is_there_already(watch, word, hints):
    word.store(0)
    arm(watch)
    block_until(lambda: hints.number == 1)
    # Not armed, it does not look: the permit hints once.
    block_until(lambda: not watch._thread._armed)
    assert hints.number == 1


def test_a_value_that_is_no_permit_is_slept_on(watch, word, hints):
    word.store(1)
    arm(watch)
    block_until(lambda: asleep(word.address) == 1)
    word.store(7)
    word._wake_all()
    block_until(lambda: asleep(word.address) == 1)
    assert hints.number == 0
    word.unpark()
    block_until(lambda: hints.number == 1)


@pytest.mark.parametrize("state", ["armed", "idle"])
def test_close_waits_for_the_thread_and_lets_go_of_the_memory(hints, state):
    memory = mmap.mmap(-1, 4096)
    word = aiopark.Word.from_buffer(memory, shared=False)
    word.store(1)
    watch = ThreadWatch(word, hints)
    arm(watch)
    if state == "idle":
        word.unpark()
        block_until(lambda: hints.number == 1)
    watch.close()
    assert waiter_threads() == 0
    watch.close()
    word.close()
    memory.close()  # no BufferError


def test_close_in_its_own_hint(word):
    """A hint runs whatever wakes; the thread does not wait for itself."""

    def hint():
        watch.close()

    watch = ThreadWatch(word, hint)
    arm(watch)
    word.unpark()
    block_until(lambda: waiter_threads() == 0)


def test_a_watch_that_is_dropped_ends_its_thread(word, hints):
    watch = ThreadWatch(word, hints)
    arm(watch)
    block_until(lambda: asleep(word.address) == 1)
    del watch
    block_until(lambda: waiter_threads() == 0)


def test_a_watch_that_is_dropped_in_its_own_thread(word):
    watches = []
    watches.append(ThreadWatch(word, watches.clear))
    arm(watches[0])
    word.unpark()
    block_until(lambda: not watches and waiter_threads() == 0)


def test_the_threads_have_small_stacks_and_others_do_not(watch):
    before = threading.stack_size()
    sizes, start = [], threading.Thread.start

    def note(self):
        if self.name.startswith("aiopark-watch-"):  # the test runner starts some too
            sizes.append(threading.stack_size())
        start(self)

    threading.Thread.start = note
    try:
        arm(watch)
    finally:
        threading.Thread.start = start
    assert sizes == [_threads.STACK]
    assert threading.stack_size() == before


def test_no_thread_to_be_had(watch, word, hints, monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    before = threading.stack_size()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            arm(watch)
    assert threading.stack_size() == before
    arm(watch)
    word.unpark()
    block_until(lambda: hints.number == 1)


def test_an_interrupted_start_leaves_no_thread(watch, word, hints, monkeypatch):
    start = threading.Thread.start

    def interrupt(self):
        start(self)
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupt)
        with pytest.raises(Interrupted):
            arm(watch)
    block_until(lambda: waiter_threads() == 0)
    arm(watch)
    word.unpark()
    block_until(lambda: hints.number == 1)


def test_an_interrupted_arm_is_armed(watch, word, hints, monkeypatch):
    """Marked as armed, but not told: the thread would not look any more."""
    arm(watch)
    word.unpark()
    block_until(lambda: hints.number == 1)
    word.store(1)
    again, unpark = watch._thread._again, aiopark.ThreadParker.unpark
    calls = []

    def interrupt(self):
        if self is again and not calls:
            calls.append(True)
            raise Interrupted
        unpark(self)

    with monkeypatch.context() as patch:
        patch.setattr(aiopark.ThreadParker, "unpark", interrupt)
        with pytest.raises(Interrupted):
            arm(watch)
    assert calls
    arm(watch)
    word.unpark()
    block_until(lambda: hints.number == 2)


def fail_once(monkeypatch, error):
    """Let the next wait on a word in a watch thread fail. Gives a list, which is empty once it did."""
    wait, to_come = _word.Word._wait, [OSError(error, "once")]

    def failing(self, seen):
        if to_come:
            raise to_come.pop()
        wait(self, seen)

    monkeypatch.setattr(_word.Word, "_wait", failing)
    return to_come


def test_a_wait_that_fails_is_told_by_the_next_arm_once(watch, word, hints, monkeypatch):
    fail_once(monkeypatch, errno.ENOMEM)
    arm(watch)
    block_until(lambda: hints.number == 1 and waiter_threads() == 0)
    with pytest.raises(OSError, match="once"):
        arm(watch)
    arm(watch)
    word.unpark()
    block_until(lambda: hints.number == 2)


@pytest.mark.parametrize("world", installed(PLAIN_WORLDS), ids=lambda world: world.name)
def test_a_park_whose_wait_failed_raises_and_the_next_one_works(world, monkeypatch):
    monkeypatch.setattr(aiopark._parker, "watch", ThreadWatch)
    fail_once(monkeypatch, errno.ENOMEM)

    async def main():
        with aiopark.Parker(aiopark.Word()) as parker:
            with pytest.raises(OSError, match="once"):
                await parker.park()
            with in_thread(lambda: (block_until(lambda: is_parked(parker)), parker.word.unpark())):
                await parker.park()

    world.run(main)


@pytest.mark.parametrize("when", ["before", "after"])
def test_close_by_another_thread_while_the_first_arm_starts_the_thread(hints, monkeypatch, when):
    """Whichever comes first: no thread stays, and nobody holds the memory."""
    memory = mmap.mmap(-1, 4096)
    word = aiopark.Word.from_buffer(memory, shared=False)
    word.store(1)
    watch = ThreadWatch(word, hints)
    start = _threads.WatchThread.start

    def meanwhile(self):
        if when == "after":
            start(self)
        with in_thread(watch.close):
            pass
        if when == "before":
            start(self)

    monkeypatch.setattr(_threads.WatchThread, "start", meanwhile)
    arm(watch)
    block_until(lambda: waiter_threads() == 0)
    word.close()
    memory.close()


def test_close_races_the_first_park(monkeypatch):
    monkeypatch.setattr(aiopark._parker, "watch", ThreadWatch)

    async def main():
        for i in range(50):
            memory = mmap.mmap(-1, 4096)
            word = aiopark.Word.from_buffer(memory, shared=False)
            word.store(1)
            parker = aiopark.Parker(word)

            def close(parker=parker, i=i):
                block_until(lambda: is_parked(parker))
                for _ in range(i * 10):
                    pass
                parker.close()

            with in_thread(close), pytest.raises(aiopark.ClosedError):
                await parker.park()
            assert waiter_threads() == 0
            word.close()
            memory.close()

    ASYNCIO.run(main)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("end", ["close", "drop"])
def test_a_child_of_a_fork_starts_its_own(word, hints, end):
    watches = [ThreadWatch(word, hints)]
    arm(watches[0])
    block_until(lambda: waiter_threads() == 1)

    def child():
        assert waiter_threads() == 0
        if end == "close":
            watches[0].close()  # does not wait for a thread that is not there
        else:
            watches.clear()
        assert hints.number == 0
        watch = ThreadWatch(word, hints)
        arm(watch)
        assert waiter_threads() <= 1
        word.unpark()
        block_until(lambda: hints.number == 1)
        watch.close()
        assert waiter_threads() == 0

    in_a_fork(child)
    word.unpark()
    block_until(lambda: hints.number == 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_of_a_fork_arms_the_same_watch(watch, word, hints):
    arm(watch)
    block_until(lambda: waiter_threads() == 1)

    def child():
        arm(watch)
        word.unpark()
        block_until(lambda: hints.number == 1)
        watch.close()
        assert waiter_threads() == 0

    in_a_fork(child)
    assert hints.number == 0
    word.unpark()
    block_until(lambda: hints.number == 1)


@pytest.mark.raises_anywhere
@pytest.mark.parametrize("event", ["calls", "lines"])
def test_an_exception_anywhere_in_arm_loses_no_hint(word, event):
    """Interrupted, the task tries again: the hint comes."""

    def one(number):
        hints = Hints()
        watch = ThreadWatch(word, hints)
        word.store(1)
        arm(watch)
        word.unpark()
        block_until(lambda: hints.number == 1)
        word.store(1)
        with interrupted_at(number, event, is_ours) as hit:
            arm(watch)
        arm(watch)
        word.unpark()
        block_until(lambda: hints.number >= 2)
        watch.close()
        return hit

    number = 1
    while one(number):
        number += 1
    assert number > 5


def test_a_watch_of_a_loop_that_died_ends_with_its_parker(monkeypatch):
    monkeypatch.setattr(aiopark._parker, "watch", ThreadWatch)
    loop = asyncio.new_event_loop()
    parker = aiopark.Parker(aiopark.Word())
    task = loop.create_task(parker.park())
    task._log_destroy_pending = False
    loop.run_until_complete(asyncio.sleep(0))
    assert waiter_threads() == 1
    loop.close()
    del parker, task, loop
    gc.collect()
    block_until(lambda: waiter_threads() == 0)


def test_portable_words_are_watched_too(hints, monkeypatch):
    monkeypatch.setattr(_word, "default_backend", Portable.create)
    word = aiopark.Word()
    watch = ThreadWatch(word, hints)
    arm(watch)
    block_until(lambda: asleep(word.address) == 1)
    word.unpark()
    block_until(lambda: hints.number == 1)
    watch.close()
