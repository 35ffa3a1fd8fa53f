"""The real Parker, WatchThread, RingWatch and LoopRing over a scripted kernel: no schedule loses a wake-up."""

from __future__ import annotations

import errno
import math
from collections import deque
from functools import partial
from typing import ClassVar

import pytest

from aiopark import _parker
from aiopark._parker import Parker
from aiopark._watch import _loop_ring, _threads
from aiopark._watch._loop_ring import LoopRing
from aiopark._watch._threads import ThreadWatch, WatchThread
from aiopark._watch._uring import RingWatch
from aiopark._word import PARKED, Word
from aiopark._word import PERMIT as WORD_PERMIT
from model.explore import SteppedDict, explore, step, wait_for
from model.test_parker_model import ScriptedLoop, ScriptedWaiter


class ScriptedWord(Word):
    """A word whose loads, stores, waits and wakes are steps; a wake wakes the one that waits for longest."""

    __slots__ = ("queue", "value")

    def __init__(self):
        super().__init__()
        self.value = PARKED
        self.queue = deque()

    def load(self):
        step()
        return self.value

    def _take_now(self):
        step()
        taken = self.value == WORD_PERMIT
        if taken:
            self.value = PARKED
        return taken

    def _wait(self, seen):
        step()
        woken = []
        if self.value == seen:  # the kernel compares and goes to sleep in one step
            self.queue.append(lambda: woken.append(True))
            wait_for(lambda: woken)

    def wake_one(self):
        step()
        if self.queue:
            self.queue.popleft()()

    def _wake_all(self):
        step()
        while self.queue:
            self.queue.popleft()()

    def unpark(self):
        step()
        self.value = WORD_PERMIT
        self.wake_one()


class ScriptedThreadParker:
    def __init__(self):
        self.permit = False

    def park(self):
        step()
        wait_for(lambda: self.permit)
        self.permit = False

    def unpark(self):
        step()
        self.permit = True


class SteppedWatchThread(WatchThread):
    """Its thread is an actor of the explorer."""

    @property
    def _armed(self):
        step()
        return self.__armed

    @_armed.setter
    def _armed(self, value):
        step()
        self.__armed = value

    def start(self):
        pass


class World:
    def __init__(self, monkeypatch, watch):
        monkeypatch.setattr(_parker, "watch", watch)
        self.word = ScriptedWord()
        self.parker = Parker(self.word)
        cell = self.parker._cell
        self.parker._watch._hint = self.hint
        object.__setattr__(self.parker, "_cell", SteppedDict(cell))
        self.loop = ScriptedLoop()
        self.taken = 0

    def hint(self):
        waiter = self.parker._cell.get("owner")
        if waiter is not None:
            waiter.wake()

    def unpark(self, times):
        """Each once the one before was taken, so that as many are taken as were deposited."""

        def actor():
            for i in range(times):
                wait_for(lambda: self.taken == i)  # noqa: B023  # called in this round only
                self.word.unpark()

        return actor

    def park(self, times, deadline=math.inf):
        def actor():
            while self.taken < times:
                coroutine = self.parker._park(self.loop, deadline)
                with pytest.raises(StopIteration) as stop:
                    coroutine.send(None)
                self.taken += stop.value.value
                deadline_passed = not stop.value.value
                if deadline_passed:
                    self.loop.now = 0.0

        return actor


def test_a_watch_thread_hints_whoever_parks(monkeypatch):
    """Two permits in turn: the second may come while the thread is still on its way from the first."""
    monkeypatch.setattr(_threads, "ThreadParker", ScriptedThreadParker)
    monkeypatch.setattr(ScriptedLoop, "source", None, raising=False)  # a thread needs none

    def make():
        world = World(monkeypatch, ThreadWatch)
        thread = world.parker._watch._thread = SteppedWatchThread(world.word, world.hint)
        ended = []

        def watch():
            thread._run()
            ended.append(True)

        def finish():
            wait_for(lambda: world.taken == 2)
            thread.closing = True
            while not ended:
                thread._again.permit = True
                world.word.wake_one()
                wait_for(lambda: ended or world.word.queue)  # it was on its way to sleep

        def check():
            assert thread.failure is None
            world.parker._watch._thread = None  # else its finalizer takes steps in a later schedule

        return [world.park(2), world.unpark(2), watch, finish], check

    assert explore(make, preemptions=1) > 100


class ScriptedRing:
    """The kernel's ring: a wait that is submitted is queued at its word, or completes; a completion rings the loop."""

    words: ClassVar[dict[int, ScriptedWord]] = {}

    def __init__(self, loop):
        self.loop = loop
        self.queued = deque()
        self.completed = deque()

    def prepare(self, address, expected, number):
        self.queued.append((self.words[address], expected, number))
        return True

    def submit(self):
        while self.queued:
            step()
            word, expected, number = self.queued.popleft()
            if word.value == expected:
                word.queue.append(partial(self.complete, number, 0))
            else:
                self.complete(number, -errno.EAGAIN)

    def complete(self, number, result):
        self.completed.append((number, result))
        self.loop.rung = True

    def has_more(self):
        step()
        return bool(self.completed)

    def completions(self):
        taken = []
        step()
        while self.completed:
            taken.append(self.completed.popleft())
            step()
        return taken

    def close(self):
        pass


class RingLoop(ScriptedLoop):
    """An event loop in one actor: while its task sleeps it collects, and it settles when the task sleeps again."""

    def __init__(self, monkeypatch):
        super().__init__()
        monkeypatch.setattr(_loop_ring, "Ring", lambda *_: ScriptedRing(self))
        self.ring = LoopRing(-1)
        self.rung = self.unsettled = False

    def source(self, make):
        return self.ring

    def waiter(self):
        return RingWaiter(self)


class RingWaiter(ScriptedWaiter):
    def __await__(self):
        loop = self.loop
        while True:
            if loop.unsettled:
                loop.ring.settle()
                loop.unsettled = False
            if self.woken:
                return iter(())
            wait_for(lambda: self.woken or loop.rung)
            if loop.rung:
                loop.rung, loop.unsettled = False, True
                loop.ring.collect()
            if self.woken:
                return iter(())


@pytest.mark.parametrize("few", [_loop_ring.FEW, -1], ids=["hinted early", "asked first"])
def test_a_ring_hints_whoever_parks(monkeypatch, few):
    monkeypatch.setattr(_loop_ring, "FEW", few)
    monkeypatch.setattr(_loop_ring, "holds_permit", lambda memory: memory.value == WORD_PERMIT)

    def make():
        world = World(monkeypatch, RingWatch)
        world.loop = RingLoop(monkeypatch)
        ScriptedRing.words = {world.word.address: world.word}
        world.memory, world.word._cell = world.word._cell, world.word  # what the ring looks at; its address stays taken

        def store():
            """Deposit a permit with a handle, wake later: the ring sees it early, or not."""
            wait_for(lambda: world.taken == 2)
            step()
            world.word.value = WORD_PERMIT
            step()
            world.word.wake_one()

        def check():
            world.parker._watch._stopped = True  # no finalizer takes steps in a later schedule
            world.loop.ring._retire()

        return [world.park(3), world.unpark(2), store], check

    assert explore(make, preemptions=2) > 500
