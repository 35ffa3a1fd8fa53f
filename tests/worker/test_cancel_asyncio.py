"""Cancellation by asyncio's own means: Task.cancel, timeout, TaskGroup, wait_for; and anyio's scopes among them."""

from __future__ import annotations

import asyncio
import sys
import threading

import anyio
import pytest
from support import PATIENCE, WORLDS, Held, each, until

import aiopark


@pytest.fixture(params=each([world for world in WORLDS if world.backend == "asyncio"]))
def loops(request):
    return request.param


def test_every_cancellation_counts(loops):
    """However many come while the function runs, one CancelledError comes out, the last, and `cancelling` has them."""

    async def main():
        held = Held()
        interrupted = threading.Event()
        async with aiopark.Worker() as worker:
            seen = []

            async def call():
                try:
                    await worker.run(held, interrupt=interrupted.set)
                except asyncio.CancelledError as error:
                    seen.append((error.args, asyncio.current_task().cancelling()))
                    raise

            task = asyncio.create_task(call())
            await until(held.runs)
            for number in range(3):
                task.cancel(number)
                await asyncio.sleep(0.001)
            assert not task.done()
            held.release()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert seen == [((2,), 3)]

    loops.run(main)


def test_two_cancellations_in_one_pass(loops):
    async def main():
        held = Held()
        async with aiopark.Worker() as worker:
            task = asyncio.create_task(worker.run(held, interrupt=held.interrupt))
            await until(held.runs)
            task.cancel()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert held.ended == 1
            assert len(held.interrupts) == 1

    loops.run(main)


def test_timeout(loops):
    async def main():
        async with aiopark.Worker() as worker:
            held = Held(ValueError("interrupted"))
            with pytest.raises(TimeoutError) as caught:
                async with asyncio.timeout(0.01):
                    await worker.run(held, interrupt=held.interrupt)
            assert asyncio.current_task().cancelling() == 0
            assert held.ended == len(held.threads)
            assert caught.value.__cause__.__context__ in (held.outcome, None)
            assert await worker.run(len, "abc") == 3

    loops.run(main)


def test_a_timeout_inside_of_a_cancelled_task(loops):
    """Both come while the function runs: the timeout lets the cancellation pass."""

    async def main():
        held = Held()
        interrupted = threading.Event()
        async with aiopark.Worker() as worker:

            async def call():
                async with asyncio.timeout(PATIENCE) as timeout:
                    timeouts.append(timeout)
                    await worker.run(held, interrupt=interrupted.set)

            timeouts = []
            task = asyncio.create_task(call())
            await until(held.runs)
            timeouts[0].reschedule(asyncio.get_running_loop().time())
            await until(interrupted.is_set)
            task.cancel()
            await asyncio.sleep(0.001)
            held.release()
            with pytest.raises(asyncio.CancelledError):
                await task

    loops.run(main)


def test_task_group(loops):
    """A sibling that fails cancels the caller; the group ends when the function has, with the sibling's error only."""

    async def main():
        held = Held(ValueError("interrupted"))

        async def fail():
            await until(held.runs)
            raise KeyError("the sibling's")

        async def both(*coroutines):
            async with asyncio.TaskGroup() as tasks:
                for coroutine in coroutines:
                    tasks.create_task(coroutine)

        async with aiopark.Worker() as worker:
            with pytest.raises(ExceptionGroup) as caught:
                await both(worker.run(held, interrupt=held.interrupt), fail())
            assert [type(error) for error in caught.value.exceptions] == [KeyError]
            assert held.ended == 1
            if sys.version_info >= (3, 13):  # before that, a TaskGroup does not take back that it cancelled its parent
                assert asyncio.current_task().cancelling() == 0

    loops.run(main)


def test_wait_for(loops):
    async def main():
        async with aiopark.Worker() as worker:
            held = Held()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(worker.run(held, interrupt=held.interrupt, on_dropped=held.on_dropped), 0.01)
            assert held.ended == len(held.dropped) == len(held.threads)

    loops.run(main)


def test_cancel_of_the_task_beside_a_cancelled_scope_of_anyio(loops):
    """The scope's cancellation came first. The task's own one is not lost in the scope."""

    async def main():
        held = Held()
        interrupted = threading.Event()
        async with aiopark.Worker() as worker:

            async def call():
                with anyio.CancelScope() as scope:
                    scopes.append(scope)
                    await worker.run(held, interrupt=interrupted.set)
                after.append("the scope swallowed it")

            scopes, after = [], []
            task = asyncio.create_task(call())
            await until(held.runs)
            scopes[0].cancel()
            await until(interrupted.is_set)
            task.cancel()
            await asyncio.sleep(0.001)
            held.release()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert after == []

    loops.run(main)


def test_an_inner_scope_that_is_cancelled_ends_there(loops):
    async def main():
        held = Held()
        async with aiopark.Worker() as worker:
            with anyio.fail_after(PATIENCE), anyio.move_on_after(0.01) as scope:
                await worker.run(held, interrupt=held.interrupt)
            assert scope.cancelled_caught
            assert asyncio.current_task().cancelling() == 0
            await anyio.sleep(0)
            assert await worker.run(len, "abc") == 3

    loops.run(main)


def test_run_in_executor(loops, make):
    async def main():
        loop = asyncio.get_running_loop()
        async with make() as worker:
            assert await loop.run_in_executor(worker, pow, 2, 10) == 1024
            first = [Held() for _ in range(worker._crew.size)]
            running = [loop.run_in_executor(worker, held) for held in first]
            await until(lambda: all(held.runs() for held in first))
            never = Held()
            future = loop.run_in_executor(worker, never)
            future.cancel()
            await until(lambda: worker.statistics().queued == 0)
            for held in first:
                held.release()
            assert await asyncio.gather(*running) == ["result"] * len(first)
            assert never.threads == []

    loops.run(main)
