"""close, aclose and the blocks: they wait for what runs, and drop what is in the queue."""

from __future__ import annotations

import concurrent.futures
import threading
import time
from collections import deque

import anyio
import pytest
from support import Caller, Crew, Held, block_until, in_thread, queued, until

import aiopark
from aiopark._worker._crew import WorkerThread


async def busy(worker, tasks, **options):
    """Return functions that run on all threads, and the callers of two more that are in the queue."""
    held = [Held() for _ in range(worker._crew.size)]
    for one in held:
        tasks.start_soon(Caller(worker, one))
    await until(lambda: all(one.runs() for one in held))
    waiting = [Caller(worker, Held(), **options) for _ in range(2)]
    for caller in waiting:
        tasks.start_soon(caller)
    await queued(worker, 2)
    return held, waiting


def test_aclose(world, make):
    async def main():
        worker = make()
        closed = []
        async with anyio.create_task_group() as tasks:
            held, waiting = await busy(worker, tasks)
            future = worker.submit(len, "abc")

            async def close():
                await worker.aclose()
                closed.append([one.ended for one in held])

            tasks.start_soon(close)
            tasks.start_soon(close)
            await until(lambda: all(caller.over for caller in waiting))
            for caller in waiting:
                assert type(caller.error) is aiopark.DroppedError
                assert isinstance(caller.error, concurrent.futures.CancelledError)
                assert isinstance(caller.error, aiopark.ClosedError)
                assert "never runs" in str(caller.error)
                assert not caller._function.runs()
            with pytest.raises(concurrent.futures.CancelledError):
                future.result()
            with pytest.raises(aiopark.ClosedError, match="the Worker was closed: make a new one"):
                await worker.run(len, "abc")
            assert closed == []
            for one in held:
                one.release()
        assert closed == [[1] * len(held)] * 2
        assert not any(one.threads[0].is_alive() for one in held)
        await worker.aclose()
        assert worker.statistics().threads == 0
        assert "closed" in repr(worker)

    world.run(main)


def test_close_from_another_thread(world, make):
    async def main():
        worker = make()
        async with anyio.create_task_group() as tasks:
            held, waiting = await busy(worker, tasks)
            with in_thread(worker.close) as closer:
                await until(lambda: all(caller.over for caller in waiting))
                assert closer.is_alive()
                for one in held:
                    one.release()
                await until(lambda: not closer.is_alive())
            assert not any(one.threads[0].is_alive() for one in held)

    world.run(main)


def test_aclose_waits_through_cancellations(world):
    async def main():
        worker = aiopark.Worker()
        held = Held()
        over = []

        async def close():
            with anyio.CancelScope() as scope:
                scopes.append(scope)
                await worker.aclose()
            over.append((held.ended, scope.cancelled_caught))

        scopes = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(worker.run, held)
            await until(held.runs)
            tasks.start_soon(close)
            await until(lambda: scopes and "closed" in repr(worker))
            scopes[0].cancel()
            await anyio.sleep(0.002)
            assert over == []
            held.release()
        assert over[0][0] == 1

    world.run(main)


def test_an_error_in_the_block_is_not_lost(world, make):
    async def fail():
        async with make() as worker:
            await worker.run(len, "abc")
            raise KeyError("mine")

    def blocking_fail():
        with make() as worker:
            worker.blocking_run(len, "abc")
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        world.run(fail)
    with pytest.raises(KeyError, match="mine"):
        blocking_fail()


def test_without_a_call_there_is_nothing_to_close(world, make):
    async def main():
        async with make() as worker:
            pass
        await worker.aclose()
        with pytest.raises(aiopark.ClosedError):
            await worker.run(len, "abc")

    world.run(main)
    worker = make()
    worker.close()
    worker.close()
    with pytest.raises(aiopark.ClosedError):
        worker.blocking_run(len, "abc")
    assert worker.statistics().threads == 0


def test_a_function_that_closes_its_own_worker(world, make):
    async def main():
        worker = make()
        await worker.run(worker.close)
        await until(lambda: worker.statistics().threads == 0)
        worker = make()
        await worker.run(world.run, worker.aclose)
        await worker.aclose()

    world.run(main)


def test_close_while_the_first_thread_is_being_started(make, monkeypatch):
    """It waits for that one, too."""
    worker, closers, ended = make(), Crew(), []
    start = WorkerThread.start

    def start_late(thread):
        def close():
            worker.close()
            ended.append(thread.ident is not None and not thread.is_alive())

        closers.start(close)
        block_until(worker._crew.queue.is_closed)
        time.sleep(0.01)  # one that does not wait would be over now
        start(thread)

    monkeypatch.setattr(WorkerThread, "start", start_late)
    with closers, pytest.raises(aiopark.ClosedError):
        worker.blocking_run(len, "abc")
    assert ended == [True]


def test_closed_between_entering_and_looking(make):
    """A thread took it first: it ran, and the caller hears the result."""
    ran = []

    class Line(deque):
        def append(self, call):
            super().append(call)
            worker._crew._hint()
            block_until(lambda: ran)
            worker.close()

    worker = make()
    worker._crew.queue._line = Line()
    assert worker.blocking_run(lambda: ran.append(True) or "result") == "result"
    assert worker.statistics().threads == 0
    assert ran == [True]


def test_close_while_others_call(make):
    """Each of them hears the result, or that it never ran: and so it is."""
    for _ in range(30):
        worker = make()
        ran, told, refused = [], [], []

        def call(worker=worker, ran=ran, told=told, refused=refused):
            for number in range(1000):
                key = (threading.get_ident(), number)
                try:
                    worker.blocking_run(ran.append, key)
                    told.append(key)
                except aiopark.ClosedError:
                    refused.append(key)
                    return

        with in_thread(call), in_thread(call):
            block_until(lambda told=told: len(told) > 3)
            worker.close()
        assert sorted(told) == sorted(ran)
        assert len(refused) == 2
