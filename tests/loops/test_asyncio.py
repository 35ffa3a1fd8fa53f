"""asyncio and uvloop: what is special to them."""

from __future__ import annotations

import asyncio
import contextvars
import errno
import gc
import os
import signal
import socket
import sys
import threading
import time
import weakref

import psutil
import pytest
from support import block_until, in_thread, is_installed, is_parked, needs, storm, switch_interval

import aiopark
from aiopark._loops import _asyncio, running_loop

if sys.platform == "win32":
    import winloop

    FACTORIES = [asyncio.ProactorEventLoop, asyncio.SelectorEventLoop, winloop.new_event_loop]
elif is_installed("uvloop"):
    import uvloop

    FACTORIES = [asyncio.new_event_loop, uvloop.new_event_loop]
else:
    FACTORIES = [asyncio.new_event_loop, pytest.param(None, id="uvloop", marks=needs("uvloop"))]

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


@pytest.fixture(params=FACTORIES, ids=lambda factory: factory.__module__.partition(".")[0] + "." + factory.__name__)
def runner(request):
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner


async def parked_task(parker):
    task = asyncio.create_task(parker.park())
    while not is_parked(parker):
        await asyncio.sleep(0)
    return task


# --- cancellation ---


def test_the_message_of_a_cancellation_comes_back(runner):
    async def main():
        task = await parked_task(aiopark.Parker())
        task.cancel("the reason")
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert caught.value.args == ("the reason",)

    runner.run(main())


def test_a_cancellation_without_a_message_has_none(runner):
    async def main():
        task = await parked_task(aiopark.Parker())
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert caught.value.args == ()

    runner.run(main())


def test_cancelling_before_the_first_step(runner):
    async def main():
        parker = aiopark.Parker()
        task = asyncio.create_task(parker.park())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not is_parked(parker)

    runner.run(main())


@pytest.mark.parametrize("permit", [False, True])
def test_asyncio_timeout_and_wait_for(runner, permit):
    async def main():
        parker = aiopark.Parker()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await parker.park()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(parker.park(), 0.001)
        if permit:
            parker.unpark()
        assert await asyncio.wait_for(parker.park_timeout(0.001), 10) is permit

    runner.run(main())


def test_a_shielded_park_outlives_the_cancellation(runner):
    async def main():
        parker = aiopark.Parker()
        task = await parked_task(parker)
        outer = asyncio.ensure_future(asyncio.shield(task))
        await asyncio.sleep(0)
        outer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await outer
        parker.unpark()
        await task

    runner.run(main())


def test_a_cancellation_that_comes_after_the_wake_is_for_the_next_await(runner):
    """The task is woken, and cancels itself before it awaits again."""

    async def main():
        parker = aiopark.Parker()

        async def work():
            await parker.park()
            asyncio.current_task().cancel()
            await parker.park()

        task = asyncio.create_task(work())
        while not is_parked(parker):
            await asyncio.sleep(0)
        parker.unpark()
        with pytest.raises(asyncio.CancelledError):
            await task
        parker.unpark()
        assert await parker.park_timeout(0) is True

    runner.run(main())


# --- what the resumed task finds ---


def test_the_resumed_task_is_current_and_has_its_context(runner):
    variable = contextvars.ContextVar("variable", default="outside")

    async def main():
        parker = aiopark.Parker()

        async def work():
            variable.set("inside")
            await parker.park()
            return variable.get(), asyncio.current_task().get_name()

        task = asyncio.create_task(work(), name="worker")
        while not is_parked(parker):
            await asyncio.sleep(0)
        assert "unparked" not in repr(task)
        assert "parked" in repr(task)
        with in_thread(parker.unpark):
            assert await task == ("inside", "worker")
        assert variable.get() == "outside"

    runner.run(main())


def test_tasks_written_in_python(runner):
    async def main():
        asyncio.get_running_loop().set_task_factory(
            lambda loop, coro, **options: asyncio.tasks._PyTask(coro, loop=loop, **options)
        )
        parker = aiopark.Parker()
        task = asyncio.create_task(parker.park())
        await asyncio.sleep(0)
        assert is_parked(parker)
        parker.unpark()
        await task
        cancelled = asyncio.create_task(parker.park())
        await asyncio.sleep(0)
        cancelled.cancel("why")
        with pytest.raises(asyncio.CancelledError, match="why"):
            await cancelled

    runner.run(main())


def test_a_step_that_fails_is_told_to_the_loop_and_harms_no_other(runner):
    async def main():
        told = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        bad, good = aiopark.Parker(), aiopark.Parker()
        bad_task, good_task = await parked_task(bad), await parked_task(good)
        error = RuntimeError("a broken task class")

        def broken(_):
            raise error

        waiter = bad._cell["owner"]
        [callback], waiter._callback = waiter._callback, [broken]
        with in_thread(lambda: (bad.unpark(), good.unpark())):
            await good_task
        assert [context["exception"] for context in told] == [error]
        asyncio.get_running_loop().call_soon(callback, waiter)
        await bad_task

    runner.run(main())


# --- ringing ---


def test_an_unpark_inside_a_task_of_the_loop_needs_no_doorbell(runner, monkeypatch):
    async def main():
        parker = aiopark.Parker()
        task = await parked_task(parker)
        bridge = running_loop()
        if bridge._doorbell is not None:
            monkeypatch.setattr(type(bridge._doorbell()), "ring", lambda _: pytest.fail("rang"))
        parker.unpark()
        await task

    runner.run(main())


def test_an_unpark_in_a_plain_callback_wakes(runner):
    async def main():
        parker = aiopark.Parker()
        asyncio.get_running_loop().call_later(0.001, parker.unpark)
        await parker.park()

    runner.run(main())


@posix
def test_a_signal_handler_wakes_a_loop_that_waits_in_the_kernel(runner):
    async def main():
        parker = aiopark.Parker()
        with storm(parker.unpark):
            for _ in range(20):
                await parker.park()

    runner.run(main())


@posix
def test_a_signal_handler_that_interrupts_a_task_wakes_another(runner):
    async def main():
        parker = aiopark.Parker()
        previous = signal.signal(signal.SIGUSR1, lambda *_: parker.unpark())
        try:
            task = await parked_task(parker)
            signal.raise_signal(signal.SIGUSR1)
            await task
        finally:
            signal.signal(signal.SIGUSR1, previous)

    runner.run(main())


def test_a_burst_of_unparks_rings_once(runner, monkeypatch):
    async def main():
        parkers = [aiopark.Parker() for _ in range(200)]
        tasks = [await parked_task(parker) for parker in parkers]
        bridge, rings = running_loop(), []
        ring = type(bridge)._ring
        monkeypatch.setattr(type(bridge), "_ring", lambda self: rings.append(self) or ring(self))
        with in_thread(lambda: [parker.unpark() for parker in parkers]) as burst:
            burst.join()  # blocks the loop, so nothing is drained meanwhile
            assert len(rings) == 1
            await asyncio.gather(*tasks)

    runner.run(main())


def test_a_producer_that_never_stops_does_not_starve_the_loop(runner):
    async def main():
        parker, stop, turns = aiopark.Parker(), threading.Event(), []

        def produce():
            while not stop.is_set():
                parker.unpark()

        async def consume():
            while not stop.is_set():
                await parker.park()

        left, right = socket.socketpair()
        with in_thread(produce), left, right:
            task = asyncio.create_task(consume())
            reader, writer = await asyncio.open_connection(sock=left)
            right.setblocking(False)
            for turn in range(20):  # I/O and timers go on
                right.send(b"x")
                assert await reader.readexactly(1) == b"x"
                await asyncio.sleep(0.0005)
                turns.append(turn)
            stop.set()
            parker.unpark()
            await task
            writer.close()
        assert len(turns) == 20

    runner.run(main())


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("factory", FACTORIES)
def test_an_exit_out_of_one_woken_task_loses_no_other_wake(error, factory):
    loop = factory()
    parkers = [aiopark.Parker() for _ in range(5)]
    woken = []

    async def park(index):
        await parkers[index].park()
        woken.append(index)
        if index == 1:
            raise error

    async def park_all():
        return [asyncio.create_task(park(index)) for index in range(len(parkers))]

    try:
        tasks = loop.run_until_complete(park_all())
        loop.run_until_complete(asyncio.sleep(0))
        with in_thread(lambda: [parker.unpark() for parker in parkers]):
            pass
        with pytest.raises(error):
            loop.run_until_complete(asyncio.gather(*tasks))
        loop.run_until_complete(asyncio.wait([tasks[index] for index in (0, 2, 3, 4)], timeout=30))
        assert sorted(woken) == [0, 1, 2, 3, 4]
        assert isinstance(tasks[1].exception(), error)
    finally:
        loop.close()


def test_a_ring_that_was_answered_already_is_no_error(runner):
    """As when an exception ends a pass of the loop between the selector and the answer."""

    async def main():
        told = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        parker = aiopark.Parker()
        task = await parked_task(parker)
        if running_loop()._doorbell is None:
            pytest.skip("this loop has no doorbell")
        doorbell = running_loop()._doorbell()
        doorbell.answer()
        doorbell.ring()
        doorbell.answer()
        doorbell.answer()
        with in_thread(parker.unpark):
            await task
        assert not told

    runner.run(main())


def test_a_drain_that_the_loop_forgot_deafens_nobody(runner):
    """A signal handler that raises at the first line of a callback: the loop has taken it, and runs on without it."""

    async def main():
        first, second = aiopark.Parker(), aiopark.Parker()
        tasks = [await parked_task(first), await parked_task(second)]
        bridge = running_loop()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(bridge), "drain", lambda self: None)  # what call_soon gets is lost
            first.unpark()
            await asyncio.sleep(0)
        with in_thread(second.unpark):
            await asyncio.wait_for(asyncio.gather(*tasks), 30)

    runner.run(main())


# --- loops that have no doorbell, or another one ---


class NoReaders(asyncio.SelectorEventLoop):
    def add_reader(self, fd, callback, *args):
        raise NotImplementedError


def round_trips(factory, rounds=200):
    there, back = aiopark.Parker(), aiopark.ThreadParker()

    def partner():
        for _ in range(rounds):
            back.park()
            there.unpark()

    async def main():
        for _ in range(rounds):
            back.unpark()
            await there.park()
        return running_loop()

    with in_thread(partner), asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main())


def test_a_loop_that_watches_no_descriptors():
    bridge = round_trips(NoReaders)
    assert bridge._doorbell is None
    # The bridge is kept for the next park, and at the closed loop's door there is nobody.
    parker = aiopark.Parker()
    parker._cell["owner"] = bridge.waiter()
    parker.unpark()


def test_a_failing_call_soon_threadsafe_surfaces():
    class Broken(NoReaders):
        broken = False

        def call_soon_threadsafe(self, *args, **options):
            if self.broken:
                raise RuntimeError("broken")
            return super().call_soon_threadsafe(*args, **options)

    async def main():
        parker = aiopark.Parker()
        task = await parked_task(parker)
        loop = asyncio.get_running_loop()
        loop.broken = True
        with pytest.raises(RuntimeError, match="broken"), in_thread(parker.unpark):
            pass
        loop.broken = False
        with in_thread(parker.unpark):
            await task

    with asyncio.Runner(loop_factory=Broken) as runner:
        runner.run(main())


@pytest.mark.skipif(
    not hasattr(os, "eventfd"), reason="the socket pair is this system's doorbell anyway, if it has one"
)
@pytest.mark.parametrize("factory", FACTORIES)
def test_a_socket_pair_as_the_doorbell(factory, monkeypatch):
    monkeypatch.delattr(os, "eventfd")
    bridge = round_trips(factory)
    assert bridge._doorbell is not None


@pytest.mark.skipif(sys.platform == "win32", reason="no loop of Windows has a doorbell")
def test_a_full_socket_pair_rings_already(monkeypatch):
    monkeypatch.delattr(os, "eventfd", raising=False)

    def fill(doorbell):
        while True:
            doorbell._sender.send(b"1" * 4096)

    async def main():
        parker = aiopark.Parker()
        task = await parked_task(parker)
        doorbell = running_loop()._doorbell()
        with pytest.raises(BlockingIOError):
            fill(doorbell)
        doorbell.ring()
        with in_thread(parker.unpark):
            await task

    asyncio.run(main())


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX descriptors")
@pytest.mark.parametrize("call", ["eventfd", "add_reader"])
def test_without_a_descriptor_to_be_had_the_loops_own_self_pipe_must_do(call, monkeypatch):
    def none_left(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    if call == "eventfd":
        monkeypatch.setattr(os, "eventfd", none_left, raising=False)
    else:
        monkeypatch.setattr(asyncio.SelectorEventLoop, "add_reader", none_left)
    assert round_trips(asyncio.SelectorEventLoop)._doorbell is None


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX descriptors")
def test_any_other_failure_to_make_a_doorbell_surfaces(monkeypatch):
    def refused(*_):
        raise OSError(errno.EPERM, "seccomp says no")

    monkeypatch.setattr(os, "eventfd", refused, raising=False)
    parker = aiopark.Parker()
    parker.unpark()
    with pytest.raises(PermissionError, match="seccomp says no"):
        asyncio.run(parker.park())
    monkeypatch.undo()
    assert asyncio.run(parker.park_timeout(0)) is True


# --- the life of loops ---


@pytest.mark.parametrize("factory", FACTORIES)
def test_a_dead_loop_eats_nothing(factory):
    parker = aiopark.Parker()
    loop = factory()
    task = loop.create_task(parker.park())
    loop.run_until_complete(asyncio.sleep(0.001))
    assert is_parked(parker)
    loop.close()
    with in_thread(parker.unpark):
        pass
    parker.unpark()
    with asyncio.Runner(loop_factory=factory) as runner:
        assert runner.run(parker.park_timeout(0)) is True
        assert runner.run(parker.park_timeout(0)) is False
    task._log_destroy_pending = False
    task.get_coro().close()
    del task
    with asyncio.Runner(loop_factory=factory) as runner:
        assert runner.run(parker.park_timeout(0)) is False


@pytest.mark.parametrize("factory", FACTORIES)
def test_unparks_race_with_the_death_of_the_loop(factory):
    """Whenever the unpark comes, the park took the permit or the next one does."""
    for _ in range(60):
        parker, taken = aiopark.Parker(), []
        loop = factory()

        async def park(parker=parker, taken=taken):
            await parker.park()
            taken.append(True)

        task = loop.create_task(park())
        loop.run_until_complete(asyncio.sleep(0))
        with in_thread(parker.unpark):
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()
        task._log_destroy_pending = False
        stored = asyncio.run(parker.park_timeout(0))
        assert stored + len(taken) == 1
        del task


@pytest.mark.parametrize("factory", FACTORIES)
def test_tasks_on_a_stopped_loop_resume_when_it_runs_again(factory):
    parker = aiopark.Parker()
    loop = factory()
    try:
        task = loop.create_task(parker.park())
        loop.run_until_complete(asyncio.sleep(0.001))
        with in_thread(lambda: [parker.unpark() for _ in range(1000)]):
            pass
        assert len(task._fut_waiter._bridge._box) == 1  # a storm leaves one post
        assert not task.done()
        loop.run_until_complete(asyncio.wait_for(task, 30))
    finally:
        loop.close()


@pytest.mark.parametrize("factory", FACTORIES)
def test_a_loop_that_moves_to_another_thread_keeps_its_bridge(factory):
    loop = factory()

    async def main():
        await aiopark.Parker().park_timeout(0)
        return running_loop()

    try:
        first = loop.run_until_complete(main())
        moved = []
        with in_thread(lambda: moved.append(loop.run_until_complete(main()))):
            pass
        assert moved == [first]
        assert loop.run_until_complete(main()) is first
    finally:
        loop.close()


@pytest.mark.skipif(sys.platform == "win32", reason="counts POSIX descriptors")
@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.parametrize("eventfd", [True, False], ids=["eventfd", "socketpair"])
def test_300_loops_leave_no_descriptor_behind(factory, eventfd, monkeypatch):
    if not eventfd:
        monkeypatch.delattr(os, "eventfd", raising=False)

    async def main():
        parker = aiopark.Parker()
        with in_thread(parker.unpark):
            await parker.park()

    process = psutil.Process()
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())  # libuv opens a pipe once a process
    gc.collect()
    before = process.num_fds()
    gc.disable()  # they go with their loop, not when the collector comes by
    try:
        for _ in range(300):
            with asyncio.Runner(loop_factory=factory) as runner:
                runner.run(main())
        assert process.num_fds() == before
    finally:
        gc.enable()


@posix
def test_a_loop_that_is_never_closed_gives_its_descriptor_to_the_collector(recwarn):
    process = psutil.Process()
    gc.collect()
    before = process.num_fds()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(aiopark.Parker().park_timeout(0))
    assert process.num_fds() > before
    del loop
    gc.collect()
    assert process.num_fds() == before
    assert {warning.category for warning in recwarn} <= {ResourceWarning}  # asyncio's own, for the loop


def test_the_bridge_of_a_closed_loop_is_freed_at_once(runner):
    async def main():
        await aiopark.Parker().park_timeout(0.0001)
        return weakref.ref(running_loop())

    reference = runner.run(main())
    has_doorbell = reference()._doorbell is not None
    gc.disable()
    try:
        runner.close()
        if not has_doorbell:  # the loop keeps nothing of ours: the thread does, until its next loop
            asyncio.run(aiopark.Parker().park_timeout(0))
        block_until(lambda: reference() is None)
    finally:
        gc.enable()


@pytest.mark.parametrize("factory", FACTORIES)
def test_loops_on_many_threads_at_once(factory):
    """A bridge is not found by another thread before it is whole."""

    def work():
        for _ in range(300):
            parker = aiopark.Parker()
            parker.unpark()
            with asyncio.Runner(loop_factory=factory) as runner:
                runner.run(parker.park())

    with switch_interval(1e-6), in_thread(work), in_thread(work), in_thread(work):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="counts POSIX descriptors")
@pytest.mark.parametrize("eventfd", [True, False], ids=["eventfd", "socketpair"])
@pytest.mark.parametrize("factory", FACTORIES)
def test_the_descriptor_closes_with_its_loop_though_a_park_is_pending(factory, eventfd, monkeypatch):
    if not eventfd:
        monkeypatch.delattr(os, "eventfd", raising=False)
    process = psutil.Process()
    parkers, tasks = [], []
    factory().close()
    gc.collect()
    before = process.num_fds()
    for _ in range(10):
        loop, parker = factory(), aiopark.Parker()
        task = loop.create_task(parker.park())
        loop.run_until_complete(asyncio.sleep(0.001))
        assert is_parked(parker)
        loop.close()
        task._log_destroy_pending = False
        parkers.append(parker)
        tasks.append(task)
    assert process.num_fds() == before
    assert aiopark.statistics().parked_tasks == 0
    for parker in parkers:
        parker.unpark()
        assert asyncio.run(parker.park_timeout(0)) is True


def test_the_loop_keeps_no_context_of_the_task_that_parked_first(runner):
    variable = contextvars.ContextVar("variable")

    class Request:
        pass

    async def main():
        request = Request()
        variable.set(request)
        await aiopark.Parker().park_timeout(0.0001)
        return weakref.ref(request)

    reference = runner.run(main(), context=contextvars.Context())
    gc.collect()
    assert reference() is None


# --- coroutines that are thrown away ---


@pytest.mark.parametrize("closed", [True, False])
def test_finalizers_in_a_cycle_find_no_descriptor_that_is_somebody_elses(closed, monkeypatch, recwarn):
    """The collector runs finalizers in any order: one that unparks may come after the doorbell's own."""
    unparked = []

    class Owner:
        def __init__(self):
            self.parker = aiopark.Parker()
            self.cycle = self

        def __del__(self):
            self.parker.unpark()
            unparked.append(True)

    def make():
        async def main():
            owner = Owner()

            async def park(owner):
                await owner.parker.park()

            task = loop.create_task(park(owner))
            task._log_destroy_pending = False
            while not is_parked(owner.parker):
                await asyncio.sleep(0)

        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        if closed:
            loop.close()

    unraisable = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    for _ in range(5):
        make()
        gc.collect()
    asyncio.run(aiopark.Parker().park_timeout(0))  # without a doorbell, the thread keeps its last loop's bridge
    gc.collect()
    assert len(unparked) == 5
    assert unraisable == []


def test_a_cancelled_park_leaves_no_cycle(runner):
    class Local:
        pass

    async def park():
        local = Local()
        references.append(weakref.ref(local))
        await aiopark.Parker().park()

    async def main():
        task = asyncio.create_task(park())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel("why")
        await asyncio.wait([task])
        del task
        await asyncio.sleep(0)

    references = []
    gc.collect()
    gc.disable()
    try:
        runner.run(main())
        assert references[0]() is None
    finally:
        gc.enable()


def test_a_closed_coroutine_leaves_no_owner(runner):
    async def main():
        parker = aiopark.Parker()
        task = await parked_task(parker)
        task._log_destroy_pending = False
        task.get_coro().close()
        assert parker._cell["owner"].gone()
        with in_thread(parker.unpark):
            pass
        await parker.park()
        assert not is_parked(parker)
        while aiopark.statistics().parked_tasks:
            await asyncio.sleep(0)

    runner.run(main())


def test_a_task_that_the_collector_takes(runner):
    async def main():
        told = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["message"]))
        parker = aiopark.Parker()
        task = await parked_task(parker)
        assert aiopark.statistics().parked_tasks == 1
        reference = weakref.ref(parker)
        del task, parker
        gc.collect()
        assert reference() is None
        assert told == ["Task was destroyed but it is pending!"]
        while aiopark.statistics().parked_tasks:
            await asyncio.sleep(0)

    runner.run(main())


# --- timers ---


def test_a_timer_that_fires_early_is_set_again():
    class EarlyTimers(asyncio.SelectorEventLoop):
        early = 0

        def call_at(self, when, callback, *args, **options):
            remaining = when - self.time()
            if remaining > 0.001:
                EarlyTimers.early += 1
                when = self.time() + remaining / 2
            return super().call_at(when, callback, *args, **options)

    async def main():
        loop = asyncio.get_running_loop()
        deadline = loop.time() + 0.02
        assert await aiopark.Parker().park_until(deadline) is False
        assert loop.time() >= deadline

    with asyncio.Runner(loop_factory=EarlyTimers) as runner:
        runner.run(main())
    assert EarlyTimers.early >= 2


def test_a_woken_park_cancels_its_timer(runner):
    async def main():
        parker = aiopark.Parker()
        task = asyncio.create_task(parker.park_timeout(3600))
        while not is_parked(parker):
            await asyncio.sleep(0)
        timer = parker._cell["owner"]._timer
        parker.unpark()
        assert await task is True
        assert timer.cancelled()
        task = asyncio.create_task(parker.park_timeout(3600))
        while not is_parked(parker):
            await asyncio.sleep(0)
        timer = parker._cell["owner"]._timer
        task.cancel()
        await asyncio.wait([task])
        assert timer.cancelled()

    runner.run(main())


def test_a_spurious_wake_keeps_the_slot(runner):
    """No other park comes in between, however often the first is woken for nothing."""

    async def main():
        parker = aiopark.Parker()
        task = await parked_task(parker)
        for _ in range(3):
            first = parker._cell["owner"]
            parker._wake()
            while parker._cell["owner"] is first:
                with pytest.raises(RuntimeError, match="already parked"):
                    await parker.park()
                await asyncio.sleep(0)
        parker.unpark()
        await task

    runner.run(main())


def test_asyncio_tasks_inside_of_trio_tasks_park_on_asyncio(monkeypatch):
    """As trio-asyncio has it."""
    trio = pytest.importorskip("trio")
    monkeypatch.setattr(trio.lowlevel, "in_trio_task", lambda: True)

    async def main():
        return type(running_loop())

    assert asyncio.run(main()) is _asyncio.AsyncioBridge


def test_a_trio_that_is_too_old_is_told_and_does_not_disturb_asyncio(monkeypatch):
    """That is one without in_trio_task: it came with trio 0.29."""
    trio = pytest.importorskip("trio")
    monkeypatch.delattr(trio.lowlevel, "in_trio_task")
    assert asyncio.run(aiopark.Parker().park_timeout(0)) is False
    with pytest.raises(RuntimeError, match=r"trio 0\.29 or later"):
        trio.run(aiopark.Parker().park)


def test_the_waiter_speaks_the_future_protocol(runner):
    async def main():
        parker = aiopark.Parker()
        task = await parked_task(parker)
        waiter = parker._cell["owner"]
        assert isinstance(waiter, _asyncio.AsyncioWaiter)
        assert asyncio.isfuture(waiter)
        assert waiter.get_loop() is asyncio.get_running_loop()
        assert (waiter.done(), waiter.cancelled()) == (False, False)
        task.cancel()
        assert (waiter.done(), waiter.cancelled()) == (True, True)
        assert not waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    runner.run(main())


def test_a_blocked_loop_wakes_later(runner):
    async def main():
        parker = aiopark.Parker()
        task = await parked_task(parker)
        with in_thread(parker.unpark) as thread:
            thread.join()
            time.sleep(0)
        await task

    runner.run(main())
