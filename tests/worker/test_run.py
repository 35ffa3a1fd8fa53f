"""What run gives back, where the function runs, and in which order."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import gc
import sys
import threading
import weakref

import anyio
import pytest
from support import PLAIN_WORLDS, Caller, Held, block_until, in_thread, installed, queued, until

import aiopark

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="default")


def test_the_result_and_the_arguments(world, make):
    def function(*arguments, **keywords):
        return arguments, keywords

    async def main():
        async with make() as worker:
            assert await worker.run(function) == ((), {})
            assert await worker.run(function, 1, self=2, function=3) == ((1,), {"self": 2, "function": 3})

    world.run(main)


@pytest.mark.parametrize(
    "error",
    [ValueError("x"), KeyError(1), concurrent.futures.CancelledError(), aiopark.ClosedError("x"), GeneratorExit()],
    ids=repr,
)
def test_the_caller_raises_what_the_function_raises(world, make, error):
    def function():
        raise error

    async def main():
        async with make() as worker:
            with pytest.raises(type(error)) as caught:
                await worker.run(function)
            assert caught.value is error
            assert await worker.run(len, "abc") == 3  # the thread goes on

    world.run(main)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_what_ends_a_loop_ends_it(plain_world, make, kind):
    """As under to_thread: the exception goes through the task to whoever runs the loop."""
    worker = make()

    def function():
        raise kind(3)

    with pytest.raises((kind, BaseExceptionGroup)):  # a group on trio
        plain_world.run(worker.run, function)
    assert worker.blocking_run(len, "abc") == 3
    worker.close()


def test_stop_iteration_is_no_result(world):
    """A coroutine cannot raise it (PEP 479); under to_thread it hangs, or is a TypeError."""

    async def main():
        async with aiopark.Worker() as worker:
            with pytest.raises(RuntimeError, match="StopIteration") as caught:
                await worker.run(next, iter(()))
            assert isinstance(caught.value.__cause__, StopIteration)

    world.run(main)


def test_a_cancelled_error_of_the_function_is_told_as_it_is():
    """And it is no cancellation: nobody asked for one."""

    def function():
        raise asyncio.CancelledError("mine")

    async def main():
        async with aiopark.Worker() as worker:
            with pytest.raises(asyncio.CancelledError, match="mine"):
                await worker.run(function)
            assert asyncio.current_task().cancelling() == 0

    asyncio.run(main())


def test_one_thread_for_all_functions_and_none_before_the_first(world):
    async def main():
        before = threading.active_count()
        async with aiopark.Worker(name="db") as worker:
            assert threading.active_count() == before
            assert worker.statistics().threads == 0
            threads = {await worker.run(threading.current_thread) for _ in range(10)}
            (thread,) = threads
            assert thread is not threading.current_thread()
            assert (thread.name, thread.daemon, worker.statistics().threads) == ("db", False, 1)
        assert not thread.is_alive()

    world.run(main)


def test_a_thread_that_a_daemon_starts_is_none(make):
    worker = make()
    with in_thread(lambda: block_until(lambda: worker.blocking_run(len, "x"))) as daemon:
        assert daemon.daemon
        daemon.join()
    assert worker.blocking_run(threading.current_thread).daemon is False
    worker.close()


def test_first_come_first_served(world):
    async def main():
        order = []
        async with aiopark.Worker() as worker, anyio.create_task_group() as tasks:
            held = Held()
            tasks.start_soon(worker.run, held)
            await until(held.runs)
            for number in range(20):
                if number % 2:
                    tasks.start_soon(worker.run, order.append, number)
                else:
                    worker.submit(order.append, number)
                await queued(worker, number + 1)
            held.release()
        assert order == list(range(20))

    world.run(main)


def test_the_threads_of_a_pool_run_side_by_side(world):
    async def main():
        barrier = threading.Barrier(3)
        async with aiopark.WorkerPool(3, name="pool") as pool, anyio.create_task_group() as tasks:
            for _ in range(9):
                tasks.start_soon(pool.run, barrier.wait)
        assert pool.statistics().threads == 0

    world.run(main)


def test_a_pool_starts_no_thread_that_it_does_not_need(world):
    async def main():
        async with aiopark.WorkerPool(3) as pool:
            for _ in range(5):
                await pool.run(len, "abc")
                await until(lambda: all(thread.sleeps for thread in pool._crew.threads.values()))
            assert pool.statistics().threads == 1

    world.run(main)


def test_no_call_sleeps_beside_an_idle_thread(world):
    """Of two calls that come at once, the hints of both may go to one thread."""

    async def main():
        async with aiopark.WorkerPool(2) as pool:
            barrier = threading.Barrier(2)
            for _ in range(200):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(pool.run, barrier.wait)
                    tasks.start_soon(pool.run, barrier.wait)

    world.run(main)


def test_several_loops_and_threads_at_once(make):
    each = 50
    with make() as worker:

        async def main():
            for number in range(each):
                assert await worker.run(pow, number, 2) == number**2

        def block():
            for number in range(each):
                assert worker.blocking_run(pow, number, 2) == number**2

        worlds = installed(PLAIN_WORLDS)
        threads = [threading.Thread(target=world.run, args=(main,)) for world in worlds]
        threads.append(threading.Thread(target=block))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def test_context_variables_travel(world, make):
    def change():
        before = variable.get()
        variable.set("the thread's")
        return before

    async def main():
        variable.set("the task's")
        async with make() as worker:
            assert await worker.run(change) == "the task's"
            assert variable.get() == "the task's"
            assert await worker.run(change) == "the task's"  # not that of the one before

    world.run(main)
    with make() as worker:
        assert worker.blocking_run(change) == "default"
        token = variable.set("the submitter's")
        assert worker.submit(change).result() == "the submitter's"
        variable.reset(token)


def test_current_worker(world, make):
    async def main():
        async with make() as worker, make() as other:
            assert aiopark.current_worker() is None
            assert await worker.run(aiopark.current_worker) is worker
            assert await worker.run(other.blocking_run, aiopark.current_worker) is other
            assert worker.submit(aiopark.current_worker).result() is worker

    world.run(main)


def test_a_function_may_not_wait_for_its_own_worker(world, make):
    def inside(worker):
        ways = [
            lambda: worker.blocking_run(len, "abc"),
            lambda: world.run(worker.run, len, "abc"),
        ]
        for way in ways:
            with pytest.raises(RuntimeError, match=r"call that function directly, or submit\(\) it"):
                way()
        return worker.submit(len, "abc")

    async def main():
        async with make() as worker:
            future = await worker.run(inside, worker)
            await until(future.done)
            assert future.result() == 3

    world.run(main)


def test_a_function_may_call_back_into_the_loop(world, make):
    async def answer():
        await anyio.sleep(0)
        return 42

    def function(token):
        return anyio.from_thread.run(answer, token=token)

    async def main():
        async with make() as worker:
            assert await worker.run(function, anyio.lowlevel.current_token()) == 42

    world.run(main)


def test_it_is_a_checkpoint(world):
    """Other tasks run meanwhile, even if the function has ended before the task sleeps."""

    async def main():
        async with aiopark.Worker() as worker, anyio.create_task_group() as tasks:
            ran = []

            async def other():
                ran.append(True)

            tasks.start_soon(other)
            for _ in range(10):
                await worker.run(len, "abc")
            assert ran

    world.run(main)


def test_no_event_loop():
    worker = aiopark.Worker()
    with pytest.raises(RuntimeError, match="no event loop runs here"):
        worker.run(len, "abc").send(None)
    assert worker.statistics().queued == 0


def test_statistics_and_repr(world):
    async def main():
        async with aiopark.Worker(name="db", limit=1) as worker, anyio.create_task_group() as tasks:
            assert repr(worker) == "<aiopark.Worker 'db' idle>"
            held = Held()
            for _ in range(3):
                tasks.start_soon(Caller(worker, held))
            await until(held.runs)
            await queued(worker, 2)
            assert worker.statistics() == aiopark.WorkerStatistics(queued=1, waiting=1, running=1, threads=1, limit=1)
            assert repr(worker) == "<aiopark.Worker 'db' 1 running, 2 queued>"
            held.release()
        assert repr(worker) == "<aiopark.Worker 'db' closed>"

    world.run(main)
    with aiopark.WorkerPool(2) as pool:
        assert repr(pool) == f"<aiopark.WorkerPool {id(pool):#x} idle>"


def test_nothing_keeps_arguments_results_and_exceptions(plain_world):
    class Thing:
        pass

    def fail(thing):
        raise ValueError(thing)

    async def main():
        async with aiopark.Worker() as worker:
            thing = Thing()
            alive = weakref.ref(thing)
            assert await worker.run(lambda thing: thing, thing) is thing
            try:
                await worker.run(fail, thing)
            except ValueError:
                pass
            del thing

            def is_gone():
                if not getattr(sys, "_is_gil_enabled", lambda: True)():
                    gc.collect()  # a free-threaded build may leave to it what another thread has made
                return alive() is None

            await until(is_gone)  # the thread has let go of it when it sleeps

    gc.disable()
    try:
        plain_world.run(main)
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"name": b"db"}, TypeError, "the name of a Worker must be a string, not bytes"),
        ({"limit": "1"}, TypeError, "the limit of a Worker must be an integer, not '1'"),
        ({"limit": True}, TypeError, "the limit of a Worker must be an integer, not True"),
        ({"limit": 0}, ValueError, "the limit of a Worker must be at least 1, not 0"),
    ],
)
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        aiopark.Worker(**options)


@pytest.mark.parametrize(
    ("n", "error"), [(0, ValueError), (-1, ValueError), ("2", TypeError), (1.0, TypeError), (True, TypeError)]
)
def test_bad_sizes(n, error):
    with pytest.raises(error, match="the number of threads of a WorkerPool must be"):
        aiopark.WorkerPool(n)
