"""nest_asyncio: a task's step runs the loop. Each case ends the process with 0, or hangs, or says what went wrong."""

from __future__ import annotations

import asyncio
import sys
import threading
import time

import nest_asyncio

import aiopark


def soon(parker):
    """Unpark from a thread, once a task is parked."""

    def run():
        while parker._cell.owner() is None:
            time.sleep(0.001)
        time.sleep(0.01)
        parker.unpark()

    threading.Thread(target=run, daemon=True).start()


def nested(coroutine):
    return asyncio.get_event_loop().run_until_complete(coroutine)


async def by_a_thread_inside():
    """A task that a thread has woken runs the loop, and parks in there; again and again."""
    outer = aiopark.Parker()
    for _ in range(3):
        soon(outer)
        await outer.park()

        async def inside():
            for _ in range(3):
                inner = aiopark.Parker()
                soon(inner)
                await asyncio.wait_for(inner.park(), 10)  # not park_timeout, which takes what it has slept through

        nested(inside())


async def one_outside_from_within():
    """A task that was parked before is woken while the nested loop runs, by a thread and by a task."""
    for by_thread in (True, False):
        outside = aiopark.Parker()
        task = asyncio.ensure_future(outside.park())
        await asyncio.sleep(0)
        first = aiopark.Parker()
        soon(first)
        await first.park()

        async def inside(by_thread=by_thread, outside=outside, task=task):
            if by_thread:
                soon(outside)
            else:
                outside.unpark()
            await asyncio.wait_for(task, 10)

        nested(inside())
        assert task.done()


async def one_inside_from_without():
    """A task that began to park in the nested loop is woken after that has ended."""
    inner, tasks = aiopark.Parker(), []
    first = aiopark.Parker()
    soon(first)
    await first.park()

    async def inside():
        tasks.append(asyncio.ensure_future(inner.park()))
        await asyncio.sleep(0.01)

    nested(inside())
    assert not tasks[0].done()
    soon(inner)
    await asyncio.wait_for(tasks[0], 10)


async def on_words():
    """A task that its word has woken runs the loop, in which another one parks, and one that was parked before."""
    with (
        aiopark.Word() as word,
        aiopark.Parker(word) as outer,
        aiopark.Word() as third,
        aiopark.Parker(third) as before,
    ):
        task = asyncio.ensure_future(before.park())
        threading.Timer(0.05, word.unpark).start()
        await outer.park()

        async def inside():
            with aiopark.Word() as another, aiopark.Parker(another) as inner:
                threading.Timer(0.05, another.unpark).start()
                await asyncio.wait_for(inner.park(), 10)
            threading.Timer(0.05, third.unpark).start()
            await asyncio.wait_for(task, 10)

        nested(inside())


async def on_a_word_that_slept_before():
    with (
        aiopark.Word() as word,
        aiopark.Parker(word) as outer,
        aiopark.Word() as other,
        aiopark.Parker(other) as before,
    ):
        task = asyncio.ensure_future(before.park())
        threading.Timer(0.05, word.unpark).start()
        await outer.park()

        async def inside():
            threading.Timer(0.05, other.unpark).start()
            await asyncio.wait_for(task, 10)

        nested(inside())


async def a_deadline_inside():
    outer = aiopark.Parker()
    soon(outer)
    await outer.park()
    assert nested(aiopark.Parker().park_timeout(0.01)) is False


def main():
    told = []
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.set_exception_handler(lambda _, context: told.append(context))
    nest_asyncio.apply()
    loop.run_until_complete(globals()[sys.argv[1]]())
    assert not told, told
    loop.close()


if __name__ == "__main__":
    main()
