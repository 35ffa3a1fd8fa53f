"""A Worker that is forgotten, forked, or there when the interpreter ends."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import weakref

import pytest
from support import PATIENCE, PLAIN_WORLDS, Held, World, block_until, each, in_a_fork, in_thread, run_program, until

import aiopark


def test_one_that_is_forgotten_ends_its_thread(make):
    worker = make(name="forgotten")
    thread = worker.blocking_run(threading.current_thread)
    with pytest.warns(ResourceWarning, match=r"aiopark\.Worker\w* 'forgotten' was never closed"):  # noqa: PT031
        del worker
        gc.collect()
    thread.join()


def test_one_that_never_ran_or_was_closed_is_forgotten_in_silence(make, recwarn):
    closed = make()
    closed.blocking_run(len, "abc")
    closed.close()
    alive = [weakref.ref(closed), weakref.ref(make())]
    del closed
    gc.collect()
    assert [reference() for reference in alive] == [None, None]
    assert not recwarn


def test_what_was_submitted_runs_though_the_worker_is_forgotten(make):
    """As with every Executor."""
    ran, held = [], Held()
    worker = make()
    worker.submit(held)
    block_until(held.runs)
    for number in range(5):
        worker.submit(ran.append, number)
    del worker
    gc.collect()
    with pytest.warns(ResourceWarning):  # noqa: PT031
        held.release()
        block_until(lambda: len(ran) == 5)
        block_until(lambda: not held.threads[0].is_alive())


@pytest.mark.parametrize(
    "case",
    [
        "idle", "a_loop_that_ended", "a_function_that_runs", "a_server_thread", "a_worker_that_uses_another",
        "a_storm_of_calls", "first_used_at_the_end", "without_the_hook", "in_atexit", "unclosed_on_a_daemon",
    ],
)  # fmt: skip
def test_the_end_of_the_interpreter(case):
    run = run_program("worker_exits", case, options=("-X", "dev"))
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.splitlines() in (["done"], [])


fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@fork
def test_the_child_of_a_fork_starts_fresh(make):
    with make() as worker:
        held = [Held() for _ in range(worker._crew.size)]
        futures = [worker.submit(one) for one in (*held, Held())]
        block_until(lambda: all(one.runs() for one in held))

        def check():
            assert worker.statistics() == aiopark.WorkerStatistics(0, 0, 0, 0, None)
            assert worker.blocking_run(pow, 2, 10) == 1024
            assert asyncio.run(worker.run(pow, 2, 10)) == 1024
            worker.close()
            assert worker.statistics().threads == 0

        in_a_fork(check)
        assert worker.statistics().queued == 1
        futures.pop().cancel()
        for one in held:
            one.release()
        assert [future.result() for future in futures] == ["result"] * len(futures)


@fork
def test_a_closed_one_stays_closed_in_the_child():
    worker = aiopark.Worker()
    worker.close()

    def check():
        with pytest.raises(aiopark.ClosedError):
            worker.blocking_run(len, "abc")

    in_a_fork(check)


@fork
def test_a_function_that_forks(make):
    with make() as worker:

        def function():
            in_a_fork(lambda: worker.blocking_run(len, "abc"))
            return "the parent's"

        assert worker.blocking_run(function) == "the parent's"


@pytest.mark.parametrize("world", each(PLAIN_WORLDS))
def test_a_loop_after_another(world: World) -> None:
    """A Worker belongs to no loop."""
    with aiopark.Worker() as worker:
        for _ in range(3):
            assert world.run(worker.run, pow, 2, 10) == 1024


def test_no_thread_can_be_started(monkeypatch, make):
    """The caller is told, nothing stays in the queue, and later it works."""
    with make() as worker:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            ran = []
            with pytest.raises(RuntimeError, match="can't start new thread"):
                worker.blocking_run(ran.append, 1)
            with pytest.raises(RuntimeError, match="can't start new thread"):
                worker.submit(ran.append, 1)
        assert worker.statistics().queued == 0
        assert worker.blocking_run(len, "abc") == 3
        assert ran == []


def test_a_pool_makes_do_with_the_threads_that_it_has(monkeypatch):
    with aiopark.WorkerPool(2) as pool:
        held = Held()
        future = pool.submit(held)
        block_until(held.runs)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            second = pool.submit(len, "abc")
        held.release()
        assert (future.result(), second.result()) == ("result", 3)


def refuse(self):
    raise RuntimeError("can't start new thread")


def test_two_callers_that_start_the_first_thread():
    """A Worker has one thread, whoever comes first."""
    for _ in range(50):
        barrier = threading.Barrier(3)
        threads = set()
        with aiopark.Worker() as worker:

            def call(barrier=barrier, threads=threads, worker=worker):
                barrier.wait()
                threads.add(worker.blocking_run(threading.current_thread))

            with in_thread(call), in_thread(call), in_thread(call):
                pass
            assert len(threads) == 1


@pytest.fixture(params=each([world for world in PLAIN_WORLDS if world.backend == "asyncio"]))
def asyncio_world(request):
    """Of trio, no task outlives its loop."""
    return request.param


def test_a_coroutine_that_is_thrown_away(asyncio_world):
    """In the queue it never runs; running, it goes on alone, uninterrupted, as nobody can wait for it."""
    held, never = Held(), Held()
    coroutines = []

    async def main():
        for function in (held, never):
            coroutine = worker.run(function, interrupt=function.interrupt, on_dropped=function.on_dropped)
            coroutine.send(None)
            coroutines.append(coroutine)
        await until(held.runs)

    with aiopark.Worker() as worker:
        asyncio_world.run(main)
        for coroutine in coroutines:
            coroutine.close()
        assert worker.statistics().queued == 0
        held.release()
        block_until(lambda: held.dropped)
        assert held.dropped == [(held.threads[0], "result")]
        assert (held.interrupts, never.threads) == ([], [])


def test_a_loop_that_died_harms_nobody(asyncio_world):
    """Its task is never stepped again. The thread goes on; the result is disposed of with the task."""
    held = Held()

    async def started():
        while not held.runs():
            await asyncio.sleep(0.001)

    with aiopark.Worker() as worker:
        loop = asyncio_world.new_event_loop()
        task = loop.create_task(worker.run(held, on_dropped=held.on_dropped))
        task._log_destroy_pending = False
        loop.run_until_complete(started())
        loop.close()
        held.release()
        assert worker.blocking_run(len, "abc", timeout=PATIENCE) == 3
        del task, loop
        gc.collect()
        block_until(lambda: held.dropped)
        assert held.dropped == [(held.threads[0], "result")]
