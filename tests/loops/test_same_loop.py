"""Unparks from inside a task's step, on the waiter's own loop: one call_soon, no drain."""

from __future__ import annotations

import asyncio
import contextvars

import pytest
from support import in_thread, is_parked, parked_task, until

import aiopark
from aiopark._loops import running_loop
from aiopark._loops._asyncio import AsyncioBridge


@pytest.fixture
def counted(monkeypatch):
    """Count what the mailbox is given, and how often it is drained."""
    counts = {"post": 0, "drain": 0}
    for name in counts:
        original = getattr(AsyncioBridge, name)

        def count(self, *arguments, name=name, original=original):
            counts[name] += 1
            return original(self, *arguments)

        monkeypatch.setattr(AsyncioBridge, name, count)
    return counts


def counting_call_soon(loop_class):
    """Return a class of loop that counts its call_soon."""

    class Counting(loop_class):
        calls = 0

        def call_soon(self, *arguments, **options):
            self.calls += 1
            return super().call_soon(*arguments, **options)

    return Counting


@pytest.fixture
def counting(factory):
    plain = factory()
    plain.close()
    with asyncio.Runner(loop_factory=counting_call_soon(type(plain))) as runner:
        yield runner


def test_one_call_soon_each(counting, counted):
    async def main():
        parkers = [aiopark.Parker() for _ in range(2000)]
        tasks = [asyncio.create_task(parker.park()) for parker in parkers]
        await until(lambda: aiopark.statistics().parked_tasks == len(parkers))
        loop = asyncio.get_running_loop()
        before = loop.calls
        for parker in parkers:
            parker.unpark()
        assert loop.calls == before + len(parkers)
        await asyncio.wait(tasks)
        assert counted == {"post": 0, "drain": 0}
        assert aiopark.statistics().parked_tasks == 0

    counting.run(main())


def test_unparks_that_are_repeated_do_not_pile_up(counting, counted):
    async def main():
        parker = aiopark.Parker()
        task = await parked_task(parker)
        loop = asyncio.get_running_loop()
        before = loop.calls
        for _ in range(1000):
            parker.unpark()
        assert loop.calls == before + 1
        assert counted["post"] <= 1
        assert len(running_loop()._box) <= 1
        await task
        assert await parker.park_timeout(0.001) is False  # one permit, however many unparks

    counting.run(main())


def test_in_order(runner):
    async def main():
        order = []

        async def park(number):
            await parkers[number].park()
            order.append(number)

        parkers = [aiopark.Parker() for _ in range(50)]
        tasks = [asyncio.create_task(park(number)) for number in range(len(parkers))]
        await until(lambda: all(map(is_parked, parkers)))
        for parker in reversed(parkers):
            parker.unpark()
        await asyncio.wait(tasks)
        assert order == list(reversed(range(50)))

    runner.run(main())


def test_together_with_a_thread(runner):
    """Both wake the same sleep: it ends once."""

    async def main():
        parker = aiopark.Parker()
        for _ in range(100):
            task = await parked_task(parker)
            with in_thread(parker.unpark) as thread:
                parker.unpark()
                thread.join()
            await task
            await parker.park_timeout(0)  # the other permit, if there were two
            await asyncio.sleep(0)
            assert aiopark.statistics().parked_tasks == 0

    runner.run(main())


@pytest.mark.parametrize("then", ["cancel", "unpark"])
def test_a_cancellation_and_an_unpark_in_one_step(runner, then):
    async def main():
        parker = aiopark.Parker()
        task = await parked_task(parker)
        if then == "cancel":
            parker.unpark()
            task.cancel()
        else:
            task.cancel()
            parker.unpark()
        await asyncio.wait([task])
        taken = not task.cancelled()
        assert taken + await parker.park_timeout(0) == 1
        assert aiopark.statistics().parked_tasks == 0

    runner.run(main())


def test_the_context_of_the_sleeper_and_not_of_the_waker(runner):
    variable = contextvars.ContextVar("variable")

    async def park(parker):
        variable.set("sleeper")
        await parker.park()
        return variable.get()

    async def main():
        parker = aiopark.Parker()
        variable.set("waker")
        task = asyncio.create_task(park(parker))
        await until(lambda: is_parked(parker))
        parker.unpark()
        assert await task == "sleeper"

    runner.run(main())


def test_a_loop_that_closes_in_between_eats_nothing(factory):
    """The step was scheduled, and never comes."""
    parker, loop = aiopark.Parker(), factory()

    async def main():
        task = await parked_task(parker)
        parker.unpark()
        loop.stop()
        return task

    try:
        task = loop.run_until_complete(main())
    except RuntimeError:
        task = None  # uvloop stops at once
    loop.close()
    if task is not None:
        task._log_destroy_pending = False
    taken = task is not None and task.done()
    assert taken + asyncio.run(parker.park_timeout(0)) == 1
