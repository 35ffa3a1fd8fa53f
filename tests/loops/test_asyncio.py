"""asyncio and uvloop: what is special to them."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import time

import pytest
from support import in_thread, is_parked, parked_task

import aiopark
from aiopark._loops import _asyncio, running_loop

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


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
        callback, waiter._callback = waiter._callback, broken
        with in_thread(lambda: (bad.unpark(), good.unpark())):
            await good_task
        assert [context["exception"] for context in told] == [error]
        asyncio.get_running_loop().call_soon(callback, waiter)
        await bad_task

    runner.run(main())


# --- timers ---


def test_a_timer_that_fires_early_is_set_again():
    class EarlyTimers(asyncio.SelectorEventLoop):
        early = 0

        def call_at(self, when, callback, *args, **options):
            if EarlyTimers.early < 3:
                EarlyTimers.early += 1
                when = self.time()
            return super().call_at(when, callback, *args, **options)

    async def main():
        loop = asyncio.get_running_loop()
        deadline = loop.time() + 0.2
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
            parker._cell.hint()
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
