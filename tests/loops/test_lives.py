"""The life of loops of asyncio and uvloop, and what is left of them and of their tasks."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import sys
import weakref

import psutil
import pytest
from support import block_until, in_thread, is_parked, parked_task, switch_interval

import aiopark
from aiopark._loops import running_loop

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


# --- the life of loops ---


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
    gc.disable()
    try:
        runner.close()
        block_until(lambda: reference() is None)
    finally:
        gc.enable()


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
        assert parker._cell["owner"].never_wakes()
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
