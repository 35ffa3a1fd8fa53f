"""ThreadWatch across forks, interruptions and dead loops."""

from __future__ import annotations

import asyncio
import gc
import os

import pytest
from support import (
    asleep,
    block_until,
    in_a_fork,
    interrupted_at,
    is_ours,
)

import aiopark
from aiopark._cell import _cell
from aiopark._os import Portable
from aiopark._watch import ThreadWatch, waiter_threads
from aiopark._word import cell_of


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
    watch = ThreadWatch(cell_of(word), hints)
    yield watch
    watch.close()


def no_source(make):
    raise AssertionError("a thread asks no loop")


def arm(watch, seen=1):
    watch.arm(seen, no_source)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("end", ["close", "close_later"])
def test_a_child_of_a_fork_starts_its_own(word, hints, end):
    of_parent = ThreadWatch(cell_of(word), hints)
    arm(of_parent)
    block_until(lambda: waiter_threads() == 1)

    def child():
        assert waiter_threads() == 0
        getattr(of_parent, end)()  # does not wait for a thread that is not there
        assert hints.number == 0
        watch = ThreadWatch(cell_of(word), hints)
        arm(watch)
        assert waiter_threads() <= 1
        word.unpark()
        block_until(lambda: hints.number == 1)
        watch.close()
        assert waiter_threads() == 0

    in_a_fork(child)
    word.unpark()
    block_until(lambda: hints.number == 1)
    of_parent.close()


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
        watch = ThreadWatch(cell_of(word), hints)
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
    monkeypatch.setattr(_cell, "default_backend", Portable.create)
    word = aiopark.Word()
    watch = ThreadWatch(cell_of(word), hints)
    arm(watch)
    block_until(lambda: asleep(word.address) == 1)
    word.unpark()
    block_until(lambda: hints.number == 1)
    watch.close()
