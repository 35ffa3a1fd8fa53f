"""ThreadWatch: the thread that waits for a word, its beginning, its end, and what fails."""

from __future__ import annotations

import errno
import gc
import mmap
import threading

import pytest
from support import (
    ASYNCIO,
    PLAIN_WORLDS,
    Interrupted,
    asleep,
    block_until,
    in_thread,
    installed,
    is_parked,
)

import aiopark
from aiopark._cell import _cell
from aiopark._thread_waiter import ThreadWaiter
from aiopark._watch import ThreadWatch, _threads, waiter_threads
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


@pytest.mark.parametrize("seen", [1, 0, 7, 2**32 - 1])
def test_it_sleeps_while_the_word_holds_what_the_owner_saw(watch, word, hints, seen):
    """Whatever that is: only another value is news, and a wake is none."""
    word.store(seen)
    arm(watch, seen)
    for _ in range(3):
        block_until(lambda: asleep(word.address) == 1)
        word.wake()
        assert hints.number == 0
    word.store(seen ^ 1)
    word.wake()
    block_until(lambda: hints.number == 1)


def test_an_owner_that_saw_something_else_since(watch, word, hints):
    """It was hinted, saw another value, sleeps again: the thread sleeps on what it saw last."""
    for seen in (1, 7, 0, 2):
        word.store(seen)
        arm(watch, seen)
        block_until(lambda: asleep(word.address) == 1)
        word.store(seen + 100)
        before = hints.number
        word.wake()
        block_until(lambda before=before: hints.number == before + 1)


def test_it_is_not_armed_any_more_when_it_hints(word):
    """The owner, woken by the hint, may arm at once: that arm counts."""
    armed = []
    watch = ThreadWatch(cell_of(word), lambda: armed.append(watch._thread._armed))
    for number in range(1, 4):
        word.store(1)
        arm(watch)
        assert watch._thread._armed
        word.unpark()
        block_until(lambda number=number: len(armed) == number)
    assert armed == [False] * 3
    watch.close()


def test_an_owner_that_arms_inside_of_the_hint(word):
    """While the thread is still in there: the arm is not overwritten."""
    hints = []

    def hint():
        hints.append(True)
        if len(hints) < 5:
            word.store(1)
            arm(watch)

    watch = ThreadWatch(cell_of(word), hint)
    arm(watch)
    for number in range(1, 6):
        block_until(lambda: asleep(word.address) == 1)
        word.unpark()
        block_until(lambda number=number: len(hints) == number)
    watch.close()


@pytest.mark.parametrize("state", ["armed", "idle"])
def test_close_waits_for_the_thread_and_lets_go_of_the_memory(hints, state):
    memory = mmap.mmap(-1, 4096)
    word = aiopark.Word.from_buffer(memory, shared=False)
    word.store(1)
    watch = ThreadWatch(cell_of(word), hints)
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

    watch = ThreadWatch(cell_of(word), hint)
    arm(watch)
    word.unpark()
    block_until(lambda: waiter_threads() == 0)


@pytest.mark.parametrize("state", ["armed", "idle"])
def test_close_later_does_not_wait_for_the_thread(word, hints, state):
    """As finalizers must: what they interrupt may hold what the thread needs."""
    watch = ThreadWatch(cell_of(word), hints)
    arm(watch)
    block_until(lambda: asleep(word.address) == 1)
    if state == "idle":
        word.unpark()
        block_until(lambda: hints.number == 1)
    repeat, repeating = _cell.Cell._wake_until, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "join", None)
        patch.setattr(_cell.Cell, "_wake_until", lambda *them: (repeating.append(threading.get_ident()), repeat(*them)))
        watch.close_later()
        block_until(lambda: waiter_threads() == 0)
    assert threading.get_ident() not in repeating
    watch.close_later()


def test_close_later_in_its_own_hint(word):
    watch = ThreadWatch(cell_of(word), lambda: (watch.close_later(),))
    arm(watch)
    word.unpark()
    block_until(lambda: waiter_threads() == 0)


def test_the_size_of_stacks_is_left_alone(watch, monkeypatch):
    """It is the whole process': threads that the program starts meanwhile would get small ones, and crash."""
    monkeypatch.setattr(threading, "stack_size", lambda *_: pytest.fail("asked for, or set"))
    arm(watch)
    assert waiter_threads() == 1


def test_no_thread_to_be_had(watch, word, hints, monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for _ in range(2):
            with pytest.raises(OSError, match=r"no thread to watch the word at 0x.*: can't start new thread") as caught:
                arm(watch)
            assert caught.value.errno == errno.EAGAIN
    arm(watch)
    word.unpark()
    block_until(lambda: hints.number == 1)


@pytest.mark.parametrize("when", ["it has begun", "it has yet to begin"])
def test_an_interrupted_start_leaves_no_thread(watch, word, hints, monkeypatch, when):
    start, begin = threading.Thread.start, threading.Event()
    run = _threads.WatchThread._run

    def interrupt(self):
        start(self)
        if when == "it has yet to begin":
            self._ident = None  # as if the interruption came before that
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(_threads.WatchThread, "_run", lambda self: (begin.wait(20), run(self)))
        patch.setattr(threading.Thread, "start", interrupt)
        with pytest.raises(Interrupted):
            arm(watch)
        begin.set()
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
    again, wake = watch._thread._again, ThreadWaiter.wake
    calls = []

    def interrupt(self):
        if self is again and not calls:
            calls.append(True)
            raise Interrupted
        wake(self)

    with monkeypatch.context() as patch:
        patch.setattr(ThreadWaiter, "wake", interrupt)
        with pytest.raises(Interrupted):
            arm(watch)
    assert calls
    arm(watch)
    word.unpark()
    block_until(lambda: hints.number == 2)


def fail_once(monkeypatch, error):
    """Let the next wait on a cell in a watch thread fail."""
    sleep, to_come = _cell.Cell._sleep_until, [OSError(error, "once")]

    def failing(*arguments):
        if to_come:
            raise to_come.pop()
        return sleep(*arguments)

    monkeypatch.setattr(_cell.Cell, "_sleep_until", failing)


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
    watch = ThreadWatch(cell_of(word), hints)
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


def test_close_while_the_thread_has_an_ident_but_may_not_be_joined_yet(watch, monkeypatch):
    closing = threading.Event()
    goes_on = threading.Thread._set_native_id

    def begin(self):
        if self.name.startswith("aiopark-watch-"):
            block_until(closing.is_set)
        goes_on(self)

    def close():
        block_until(lambda: watch._thread is not None and watch._thread.thread.ident is not None)
        threading.Timer(0.01, closing.set).start()
        watch.close()
        assert waiter_threads() == 0

    monkeypatch.setattr(threading.Thread, "_set_native_id", begin)
    with in_thread(close):
        arm(watch)


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
