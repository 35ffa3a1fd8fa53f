"""A kernel whose waits and wakes are steps, and a word, a loop and a ring on it: what the models of watches share."""

from __future__ import annotations

import errno
import gc
import math
import weakref
from collections import deque
from functools import partial
from types import SimpleNamespace
from typing import ClassVar

import pytest
from greenlet import getcurrent

from aiopark import Parker, ThreadParker, Word, _parker
from aiopark._cell import PARKED, _cell, _lease
from aiopark._cell import PERMIT as WORD_PERMIT
from aiopark._watch import _loop_ring, _threads
from aiopark._watch._loop_ring import LoopRing
from aiopark._watch._threads import WatchThread
from aiopark._watch._uring import RingWatch
from aiopark._word import cell_of
from model.explore import SteppedDict, explore, nap, step, wait_for
from model.scripted import ScriptedLoop, ScriptedWaiter, SteppedPermitCell, script


class Kernel:
    """The memory of one word and the queue of who waits there; a wake of one wakes the one that waits for longest."""

    def __init__(self, word):
        self.cell = cell = cell_of(word)
        self.memory, self.number = cell.memory, PARKED
        self.queue = deque()
        cell.memory = self
        cell._sleep, cell._wake_all = self.sleep, self.wake_all
        cell.sleepers = SteppedDict()
        cell.place.lease = SteppedDict()

    @property
    def value(self):
        step()
        return self.number

    @value.setter
    def value(self, value):
        step()
        self.number = value

    def sleep(self, seen, deadline):
        step()
        woken = []
        if self.number == seen:  # the kernel compares and goes to sleep in one step
            self.queue.append(lambda: woken.append(True))
            wait_for(lambda: woken)

    def wake_one(self):
        step()
        if self.queue:
            self.queue.popleft()()

    def wake_all(self):
        step()
        while self.queue:
            self.queue.popleft()()

    def unpark(self):
        """As native code does, or another process: it wakes one, and one is enough."""
        self.value = WORD_PERMIT
        self.wake_one()


class SteppedWatchThread(WatchThread):
    """Its thread is an actor of the explorer."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.thread = SimpleNamespace(ident=1)
        self.ended = False

    def join(self):
        wait_for(lambda: self.ended)

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

    def run(self):
        self._run()
        self.ended = True


class ScriptedRing:
    """The kernel's ring: a wait that is submitted is queued at its word, or completes; a completion rings the loop."""

    kernels: ClassVar[dict[int, Kernel]] = {}

    def __init__(self, loop):
        self.loop = loop
        self.queued, self.completed = deque(), deque()
        self.closed = False

    def prepare(self, address, expected, number):
        self.queued.append((self.kernels[address], expected, number))
        return True

    def submit(self, *, get_events=False):
        while self.queued:
            step()
            kernel, expected, number = self.queued.popleft()
            if kernel.number == expected:
                kernel.queue.append(partial(self.complete, number, 0))
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
        self.closed = True


class RingLoop(ScriptedLoop):
    """An event loop in one actor: while its task sleeps it looks, and asks the kernel once the task sleeps again."""

    def __init__(self, monkeypatch, kind=LoopRing):
        super().__init__()
        monkeypatch.setattr(_loop_ring, "Ring", lambda *_: ScriptedRing(self))
        self.ring = kind(-1)
        self.rung = self.unsettled = False

    def source(self, make):
        return self.ring

    def waiter(self):
        return RingWaiter(self)


class RingWaiter(ScriptedWaiter):
    def __await__(self):
        loop = self.loop
        while not self.woken:
            if loop.unsettled:
                loop.ring.after_drain()
                loop.unsettled = False
                continue
            wait_for(lambda: self.woken or loop.rung)
            if loop.rung:
                loop.rung, loop.unsettled = False, True
                loop.ring.before_drain()
        return iter(())


@pytest.fixture
def scripted(monkeypatch):
    clock = script(monkeypatch)
    monkeypatch.setattr(_cell, "full_fence", lambda: None)
    monkeypatch.setattr(_threads, "full_fence", lambda: None)
    monkeypatch.setattr(_threads, "threading", SimpleNamespace(current_thread=getcurrent, Thread=lambda **_: None))
    monkeypatch.setattr(_cell, "time", SimpleNamespace(sleep=lambda _: nap(), monotonic=lambda: 0.0))
    monkeypatch.setattr(_cell, "_thread", SimpleNamespace(get_ident=lambda: id(getcurrent())))
    # No finalizer takes steps in a later schedule.
    quiet = SimpleNamespace(finalize=lambda *_: SimpleNamespace(), ref=weakref.ref)
    monkeypatch.setattr(_parker, "weakref", quiet)
    monkeypatch.setattr(LoopRing, "__del__", lambda self: None)
    gc.disable()
    yield clock
    gc.enable()


class World:
    def __init__(self, monkeypatch, watch, loop=None):
        monkeypatch.setattr(_parker, "watch", watch)
        self.patch = monkeypatch
        self.word = Word()
        self.kernel = Kernel(self.word)
        ScriptedRing.kernels = {self.word.address: self.kernel}
        self.loop = ScriptedLoop() if loop is None else loop(monkeypatch)
        self.outcomes = []
        self.parker = self.new_parker()

    def new_parker(self):
        """On the word, over a permit cell whose operations are steps."""
        cells = []

        def cell(kind, name):
            cells.append(SteppedPermitCell(kind, name))
            return cells[0]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("aiopark._base_parker.PermitCell", cell)
            return Parker(self.word)

    @property
    def taken(self):
        return self.outcomes.count(True)

    def unpark(self, times):
        """Each once the one before was taken, so that as many are taken as were deposited."""

        def actor():
            for i in range(times):
                wait_for(lambda: self.taken == i)  # noqa: B023  # called in this round only
                self.kernel.unpark()

        return actor

    def park(self, times, parker=None, deadline=math.inf):
        def actor():
            for _ in range(times):
                self.outcomes.append(self.loop.run((parker or self.parker)._park(self.loop, deadline)))

        return actor

    def check_free(self):
        assert self.kernel.cell.current_lease() is None
        assert not self.kernel.queue


def closing(monkeypatch, kind=LoopRing, preemptions=2, parker_kind=None):
    """A task parks while the Parker is closed; then a thread parks on the word, which native code unparks once."""

    def make():
        world = World(monkeypatch, RingWatch, partial(RingLoop, kind=kind))
        if parker_kind is not None:
            world.parker.__class__ = parker_kind
        parker, done = world.parker, []

        def close():
            parker.close()
            wait_for(lambda: world.outcomes)
            done.append(ThreadParker(world.word).park_timeout(math.inf))

        def unpark():
            wait_for(lambda: world.outcomes and dict.__len__(world.kernel.cell.sleepers))
            world.kernel.unpark()

        def check():
            assert world.outcomes == ["ClosedError"]
            assert done == [True]
            world.check_free()

        return [world.park(1), close, unpark], check

    return explore(make, preemptions)


def stepped_lease():
    class SteppedLease(_lease.Lease):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self._term = SteppedDict(self._term)

    return SteppedLease
