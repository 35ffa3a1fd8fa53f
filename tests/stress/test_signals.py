"""Signals that interrupt aiopark's own code, at every line and at random."""

from __future__ import annotations

import asyncio
import sys
from contextlib import contextmanager

import anyio
import pytest
from support import in_thread, is_ours, is_parked, storm, until

import aiopark
from aiopark._loops import running_loop

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


def test_a_handler_unparks_the_parker_whose_code_it_interrupts(world):
    """The storm deposits; the main task takes, again and again, and is never left asleep."""
    unparks = [0]
    parker = aiopark.Parker()

    def handler():
        unparks[0] += 1
        parker.unpark()

    async def main():
        with storm(handler):
            for _ in range(150):
                await parker.park()
                for _ in range(20):
                    parker.unpark()
                    parker.unpark_lock().unpark()
                assert await parker.park_timeout(0) is True

    world.run(main)
    assert unparks[0] > 0


def test_a_handler_unparks_other_tasks_while_threads_do_too(plain_world):
    parkers = [aiopark.Parker() for _ in range(10)]

    def unpark_all():
        for parker in parkers:
            parker.unpark()

    async def work(parker):
        for _ in range(50):
            await parker.park()

    async def main():
        with storm(unpark_all), in_thread(thread):
            async with anyio.create_task_group() as tasks:
                for parker in parkers:
                    tasks.start_soon(work, parker)

    def thread():
        for _ in range(50):
            unpark_all()

    plain_world.run(main)


class Interrupted(Exception):  # noqa: N818  # like KeyboardInterrupt
    pass


@contextmanager
def at_line(number, action):
    """Run the action when aiopark is about to execute its number-th line, as a signal handler might."""
    count = [0]

    def trace(frame, event, _):
        if not is_ours(frame.f_code.co_filename):
            return None
        if event == "line":
            count[0] += 1
            if count[0] == number:
                sys.settrace(None)
                action()
        return trace

    previous = sys.gettrace()
    sys.settrace(trace)
    try:
        yield count
    finally:
        sys.settrace(previous)


@contextmanager
def at_call(number, action, functions=None):
    """Run the action where CPython runs signal handlers: when a function begins, and after a call of a C function.

    In all of aiopark, or in the named functions of it.
    """
    count = [0]

    def profile(frame, event, _):
        if not is_ours(frame.f_code.co_filename):
            return
        if event in {"call", "c_return"} and (functions is None or frame.f_code.co_name in functions):
            count[0] += 1
            if count[0] == number:
                sys.setprofile(None)
                action()

    sys.setprofile(profile)
    try:
        yield count
    finally:
        sys.setprofile(None)


async def parked(parker):
    task = asyncio.ensure_future(parker.park())
    while not is_parked(parker):
        await asyncio.sleep(0)
    return task


@pytest.mark.parametrize("where", ["in a task", "in a thread", "in a callback"])
def test_an_exception_at_any_line_of_unpark_leaves_it_done_or_not_begun(where):
    """A signal handler that raises (Ctrl-C) inside unpark: the permit and the wake go together."""

    def interrupt():
        raise Interrupted

    async def one(number):
        parker = aiopark.Parker()
        task = await parked(parker)
        outcome = []

        def unpark():
            try:
                with at_line(number, interrupt):
                    parker.unpark()
            except Interrupted:
                outcome.append("interrupted")
            else:
                outcome.append("done")

        if where == "in a task":
            unpark()
        elif where == "in a callback":
            asyncio.get_running_loop().call_soon(unpark)
        else:
            with in_thread(unpark):
                pass
        while not outcome:
            await asyncio.sleep(0)
        if parker.timed_out() and not task.done():
            assert outcome == ["interrupted"]  # at the first line, before anything was done
            parker.unpark()
        await asyncio.wait_for(task, 30)
        assert await parker.park_timeout(0) is False
        # Nothing stays behind: the next unpark works as ever.
        task = await parked(parker)
        with in_thread(parker.unpark):
            await asyncio.wait_for(task, 30)
        return outcome[0]

    async def main():
        await aiopark.Parker().park_timeout(0)
        outcomes = [await one(number) for number in range(1, 60)]
        first_done = outcomes.index("done")
        assert first_done > 8  # the lines really were interrupted
        assert set(outcomes[first_done:]) == {"done"}

    asyncio.run(main())


def test_an_unpark_at_any_line_of_everything_is_not_lost(plain_world):
    """A handler unparks while the loop's thread is anywhere in parking, draining or unparking."""

    async def one(number):
        parker, other = aiopark.Parker(), aiopark.Parker()
        taken = [0]

        async def work():
            while taken[0] < 3:
                await parker.park()
                taken[0] += 1
                other.unpark()
                await other.park_timeout(0)

        async with anyio.create_task_group() as tasks:
            with at_line(number, parker.unpark) as count:
                tasks.start_soon(work)
                for turn in range(3):
                    await until(lambda turn=turn: (taken[0] >= turn and is_parked(parker)) or taken[0] >= 3)
                    parker.unpark()
                await until(lambda: taken[0] >= 3 or is_parked(parker))
            while taken[0] < 3:  # the handler's permit may have merged with one that was stored
                parker.unpark()
                await anyio.sleep(0)
            tasks.cancel_scope.cancel()
        assert not is_parked(parker)
        return count[0]

    async def main():
        await aiopark.Parker().park_timeout(0)
        running_loop()
        number, last = 1, 0
        while True:
            with anyio.fail_after(30):
                last = await one(number)
            if last < number:
                break
            number += 1
        assert number > 60

    plain_world.run(main)


def test_a_raising_handler_inside_a_park_loses_no_permit(world):
    """Ctrl-C in the middle of a park: the park raises, and the permit stays."""

    def interrupt():
        raise Interrupted

    async def one(number):
        parker = aiopark.Parker()
        parker.unpark()
        try:
            with at_call(number, interrupt):
                taken = await parker.park_timeout(0)
        except Interrupted:
            taken = False
        assert not is_parked(parker)
        return taken, await parker.park_timeout(0)

    async def main():
        await aiopark.Parker().park_timeout(0)
        outcomes = [await one(number) for number in range(1, 40)]
        assert [taken for taken, _ in outcomes].index(True) > 5
        for number, (taken, stored) in enumerate(outcomes, 1):
            assert taken + stored == 1, f"interrupted at {number}"

    world.run(main)


@pytest.mark.parametrize("number", range(1, 14))
def test_a_handler_that_cancels_the_task_while_it_is_resumed(number):
    """asyncio.run has Ctrl-C cancel the main task right in the signal handler: it is stepped once all the same."""

    async def main():
        parker = aiopark.Parker()
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        told = []
        loop.set_exception_handler(lambda _, context: told.append(context))
        count = [0]

        def trace(frame, event, _):
            if frame.f_code.co_name in {"_end_sleep", "resume"} and is_ours(frame.f_code.co_filename):
                if event == "line":
                    count[0] += 1
                    if count[0] == number:
                        sys.settrace(None)
                        task.cancel()
                return trace
            return None

        loop.call_soon(sys.settrace, trace)
        loop.call_soon(parker.unpark)
        cancelled = 0
        try:
            await parker.park()
        except asyncio.CancelledError:
            cancelled += 1
        finally:
            sys.settrace(None)
        try:
            await asyncio.sleep(0.005)
        except asyncio.CancelledError:
            cancelled += 1
        assert cancelled <= 1
        assert task.cancelling() == cancelled
        await asyncio.sleep(0.005)
        assert not told
        assert aiopark.statistics().parked_tasks == 0

    asyncio.run(main())


def test_a_raising_handler_inside_the_mailbox_deafens_no_loop():
    """Whoever was to be woken just then may have to wait for the next ring; every later unpark works."""

    def interrupt():
        raise Interrupted

    async def one(number):
        first, second = aiopark.Parker(), aiopark.Parker()
        task = await parked(first)
        with at_call(number, interrupt, {"answer", "drain"}) as count, in_thread(first.unpark):
            await asyncio.wait([task], timeout=10)
        assert task.done(), f"interrupted at {number}"
        task = await parked(second)
        with in_thread(second.unpark):
            await asyncio.wait_for(task, 10)
        return count[0]

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        number = 1
        while await one(number) >= number:
            number += 1
        assert number > 4

    asyncio.run(main())
