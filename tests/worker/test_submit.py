"""A Worker as a concurrent.futures.Executor."""

from __future__ import annotations

import concurrent.futures
import queue
import threading

import anyio
import pytest
from support import PATIENCE, Held, block_until, in_thread, queued, until

import aiopark


def block(worker):
    """Have every thread of the worker run something; release it later."""
    held = [Held() for _ in range(worker._crew.size)]
    for one in held:
        worker.submit(one)
    block_until(lambda: all(one.runs() for one in held))
    return held


def release(held):
    for one in held:
        one.release()


def test_results_and_exceptions(make):
    with make() as worker:
        assert isinstance(worker, concurrent.futures.Executor)
        assert worker.submit(pow, 2, 10).result() == 1024
        assert worker.submit(dict, self=1).result() == {"self": 1}
        for kind in (ZeroDivisionError, SystemExit, StopIteration, concurrent.futures.CancelledError):

            def fail(kind=kind):
                raise kind

            assert type(worker.submit(fail).exception()) is kind
        assert worker.submit(len, "abc").result() == 3


def test_map_wait_and_as_completed(make):
    with make() as worker:
        assert list(worker.map(pow, range(10), [2] * 10)) == [number**2 for number in range(10)]
        futures = [worker.submit(len, "x" * number) for number in range(10)]
        assert {future.result() for future in concurrent.futures.as_completed(futures, PATIENCE)} == set(range(10))


def test_the_state_of_the_future(make):
    with make() as worker:
        held = Held()
        running = worker.submit(held)
        block_until(held.runs)
        assert running.running()
        assert not running.cancel()
        held.release()
        assert running.result() == "result"


def test_a_future_that_is_cancelled_in_the_queue(make):
    with make() as worker:
        held = block(worker)
        never = Held()
        future = worker.submit(never)
        assert worker.statistics().queued == 1
        assert future.cancel()
        assert worker.statistics().queued == 0  # its place is free at once
        done, _ = concurrent.futures.wait([future], PATIENCE)
        assert done == {future}
        release(held)
        assert worker.submit(len, "abc").result() == 3
        assert never.threads == []


def test_cancelled_while_the_thread_takes_it(make):
    """Each function runs, or its Future is cancelled; never both."""
    ran = []
    with make() as worker:
        futures = []
        for number in range(500):
            future = worker.submit(ran.append, number)
            if number % 3:
                future.cancel()
            futures.append(future)
        concurrent.futures.wait(futures, PATIENCE)
    assert sorted(ran) == [number for number, future in enumerate(futures) if not future.cancelled()]


def test_from_many_threads(make):
    counted = []
    with make() as worker:

        def submit():
            for _ in range(100):
                worker.submit(counted.append, threading.current_thread())

        with in_thread(submit), in_thread(submit), in_thread(submit):
            pass
        worker.shutdown()
    assert len(counted) == 300


def test_limit_refuses_what_nobody_waits_for(make):
    with make(limit=2) as worker:
        held = block(worker)
        futures = [worker.submit(len, "abc") for _ in range(2)]
        with pytest.raises(queue.Full, match=r"2 calls wait in the queue already: await run\(\)"):
            worker.submit(len, "abc")
        assert worker.statistics().queued == 2
        futures[0].cancel()
        futures[0] = worker.submit(len, "abcd")  # there is a place again
        release(held)
        assert [future.result() for future in futures] == [4, 3]


def test_limit_lets_those_who_wait_wait_longer(world):
    """Their functions run in the order of the calls all the same."""

    async def main():
        order = []
        async with aiopark.Worker(limit=2) as worker, anyio.create_task_group() as tasks:
            held = block(worker)
            for number in range(5):
                tasks.start_soon(worker.run, order.append, number)
                await queued(worker, number + 1)
            assert (worker.statistics().queued, worker.statistics().waiting) == (2, 3)
            with pytest.raises(queue.Full):
                worker.submit(order.append, 5)
            release(held)
        assert order == list(range(5))

    world.run(main)


def test_shutdown_lets_the_queue_run(make):
    ran = []
    worker = make()
    held = block(worker)
    for number in range(5):
        worker.submit(ran.append, number)
    worker.shutdown(wait=False)
    with pytest.raises(aiopark.ClosedError, match="the Worker was closed: make a new one"):
        worker.submit(len, "abc")
    assert ran == []
    release(held)
    worker.shutdown()
    assert sorted(ran) == list(range(5))


def test_shutdown_that_drops_the_queue(make):
    worker = make()
    held = block(worker)
    future = worker.submit(len, "abc")
    worker.shutdown(wait=False, cancel_futures=True)
    assert future.cancelled()
    assert concurrent.futures.wait([future], PATIENCE).done == {future}
    release(held)
    worker.shutdown()


def test_a_function_may_submit_to_its_own(world, make):
    async def main():
        async with make() as worker:
            future = await worker.run(worker.submit, len, "abc")
            await until(future.done)
            assert future.result() == 3

    world.run(main)
