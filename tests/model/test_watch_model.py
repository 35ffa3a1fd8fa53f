"""The real Parker, ThreadParker, watches, LoopRing and Lease over a scripted kernel: no schedule loses a wake-up."""

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

from aiopark import ClosedError, Parker, ThreadParker, Word, _parker, _thread_parker
from aiopark._cell import PARKED, _cell, _lease
from aiopark._cell import PERMIT as WORD_PERMIT
from aiopark._permit import CLOSED
from aiopark._watch import _kernel_wait, _loop_ring, _threads
from aiopark._watch._kernel_wait import KernelWait
from aiopark._watch._loop_ring import LoopRing
from aiopark._watch._threads import ThreadWatch, WatchThread
from aiopark._watch._uring import RingWatch
from aiopark._word import cell_of
from greenlet import getcurrent
from model.explore import LostError, SteppedDict, explore, nap, step, wait_for
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
        self.thread = SimpleNamespace(ident=1, join=lambda: wait_for(lambda: self.ended))
        self.ended = False

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


@pytest.fixture(autouse=True)
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


def test_a_watch_thread_hints_whoever_parks(monkeypatch):
    """Two permits in turn: the second may come while the thread is still on its way from the first."""
    monkeypatch.setattr(_threads, "WatchThread", SteppedWatchThread)

    def make():
        world = World(monkeypatch, ThreadWatch)
        watch = world.parker._tenancy._watch
        thread = watch._thread = SteppedWatchThread(world.kernel.cell, watch._hint)

        def finish():
            wait_for(lambda: world.taken == 2)
            world.parker.close()

        def check():
            assert thread.failure is None
            assert thread.ended
            world.check_free()

        monkeypatch.setattr(ScriptedLoop, "source", None)  # a thread needs none
        return [world.park(2), world.unpark(2), thread.run, finish], check

    assert explore(make, preemptions=1) > 100


@pytest.mark.parametrize("few", [_loop_ring.FEW, -1], ids=["hinted early", "asked first"])
def test_a_ring_hints_whoever_parks(monkeypatch, few):
    monkeypatch.setattr(_loop_ring, "FEW", few)

    def make():
        world = World(monkeypatch, RingWatch, RingLoop)

        def store():
            """Deposit a permit with a handle, wake later: the ring sees it early, or not."""
            wait_for(lambda: world.taken == 2)
            world.kernel.value = WORD_PERMIT
            world.kernel.wake_one()

        return [world.park(3), world.unpark(2), store], lambda: None

    assert explore(make, preemptions=2) > 500


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


def test_a_word_is_free_once_its_parker_is_closed_and_nobody_parks(monkeypatch):
    assert closing(monkeypatch) > 100


def test_a_thread_is_closed_wherever_it_is(monkeypatch):
    """ThreadParker.close on a word: the look at CLOSED and the sleep are not one step."""
    monkeypatch.setattr(_thread_parker, "Lease", stepped_lease())
    seen = set()

    def make():
        world = World(monkeypatch, ThreadWatch)
        world.parker.close()
        parker, outcomes = ThreadParker(world.word), []
        parker._cell = SteppedPermitCell("ThreadParker", None)

        def park():
            try:
                outcomes.append(parker._park(math.inf))
            except ClosedError:
                outcomes.append("ClosedError")

        def check():
            assert len(outcomes) == 1
            assert (outcomes == [True]) + (world.kernel.number == WORD_PERMIT) == 1
            seen.add(outcomes[0])
            world.check_free()

        return [park, parker.close, world.kernel.unpark], check

    assert explore(make, preemptions=2) > 50
    assert seen == {True, "ClosedError"}


def stepped_lease():
    class SteppedLease(_lease.Lease):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self._term = SteppedDict(self._term)

    return SteppedLease


def test_threads_that_end_one_lease_at_once_end_no_other(monkeypatch):
    kind = stepped_lease()

    def make():
        word = Word()
        Kernel(word)
        old, new, refused = (kind(cell_of(word), lambda: "x", lambda: False) for _ in range(2)), [], []
        old, heir = old
        old.take()

        def take():
            try:
                heir.take()
                new.append(heir)
            except RuntimeError:
                refused.append(True)

        def check():
            assert len(new) + len(refused) == 1
            lease = dict.get(cell_of(word).place.lease, _lease.LEASE)
            assert lease is (heir if new else None)

        return [old.end, old.end, take], check

    assert explore(make) > 50


# --- the same explorer finds what would go wrong without the re-checks ---


def test_a_lease_that_ended_without_taking_the_waits_off_would_leave_one_that_swallows_a_wake(monkeypatch):
    def end(self):
        self._term.clear()
        self.cell.place.lease.pop(_lease.LEASE, None)

    monkeypatch.setattr(_lease.Lease, "end", end)
    with pytest.raises((LostError, AssertionError)):
        closing(monkeypatch)


def test_if_close_looked_for_a_park_before_it_said_closed_the_word_would_never_be_free(monkeypatch):
    class LooksTooEarly(Parker):
        __slots__ = ()

        def close(self):
            unused = self._cell.owner() is None
            self._cell.close()
            self._tenancy._watch.close()
            if unused:
                self._tenancy._lease.end()

    # The park that ends looks for CLOSED before it leaves the slot: both orders wrong, nobody ends the lease.
    def end_if_unused(self):
        pass

    monkeypatch.setattr(_parker._Tenancy, "end_if_unused", end_if_unused)
    with pytest.raises((LostError, AssertionError, RuntimeError)):
        closing(monkeypatch, parker_kind=LooksTooEarly)


def test_if_the_state_changed_before_the_hint_an_interrupted_hint_would_be_lost(monkeypatch):
    """complete and look hint first: one that was interrupted is done again."""
    interrupt = []

    def hint():
        hints.append(True)
        if interrupt:
            interrupt.clear()
            raise KeyboardInterrupt

    for act in (lambda wait: wait.complete(0), KernelWait.look):
        hints = []
        word = Word()
        wait = KernelWait(object(), cell_of(word), PARKED, hint)
        word.store(WORD_PERMIT)
        interrupt.append(True)
        with pytest.raises(KeyboardInterrupt):
            act(wait)
        assert wait.state is _kernel_wait.WAITING
        act(wait)
        assert len(hints) == 2
        assert wait.state is not _kernel_wait.WAITING


def test_if_a_hinted_wait_were_taken_for_one_that_waits_a_wake_would_be_lost(monkeypatch):
    """The task that was hinted early goes to sleep again, while the kernel has completed its wait already."""

    class AsksNobody(LoopRing):
        __slots__ = ()

        def _arm(self, wait, cell, seen, hint):
            if wait is not None and wait.state is not _kernel_wait.OVER:
                wait.seen = seen  # stays HINTED: what completes it hints nobody
                return wait
            return super()._arm(wait, cell, seen, hint)

    def make():
        world = World(monkeypatch, RingWatch, partial(RingLoop, kind=AsksNobody))
        return [world.park(3), world.unpark(3)], lambda: None

    with pytest.raises(LostError):
        explore(make, preemptions=2)


def test_if_a_task_armed_before_it_looked_at_the_word_nothing_would_be_lost_but_the_other_way_round(monkeypatch):
    """A watch compares with what the owner saw: one that compared with what it sees itself sleeps through a permit."""

    class SeesForItself(LoopRing):
        __slots__ = ()

        def _arm(self, wait, cell, seen, hint):
            return super()._arm(wait, cell, cell.memory.value, hint)

    def make():
        world = World(monkeypatch, RingWatch, partial(RingLoop, kind=SeesForItself))
        return [world.park(1), world.unpark(1)], lambda: None

    with pytest.raises(LostError):
        explore(make, preemptions=2)


def test_a_watch_thread_that_disarmed_after_its_hint_would_lose_the_next(monkeypatch):
    class DisarmsTooLate(SteppedWatchThread):
        def _run(self):
            try:
                while not self.closing:
                    if self._armed:
                        self._cell.sleep_until(lambda value: value != self._seen, lambda: self.closing, self, None)
                        self._hint()
                        self._armed = False
                    self._again.sleep(math.inf)
            except ClosedError:
                pass

    monkeypatch.setattr(ScriptedLoop, "source", None)

    def make():
        world = World(monkeypatch, ThreadWatch)
        watch = world.parker._tenancy._watch
        thread = watch._thread = DisarmsTooLate(world.kernel.cell, watch._hint)
        return [world.park(2), world.unpark(2), thread.run], lambda: None

    with pytest.raises(LostError):
        explore(make, preemptions=2)


def test_the_model_runs_the_real_code(monkeypatch):
    world = World(monkeypatch, RingWatch, RingLoop)
    assert type(world.loop.ring) is LoopRing
    assert world.parker._park.__func__ is Parker._park
    assert CLOSED not in world.parker._cell
