"""asyncio inside of trio and trio inside of asyncio: each task parks on its own loop."""

from __future__ import annotations

import asyncio
import sys

import pytest
from support import NO_TRIO, UNDER_WINE, block_until, in_thread, is_parked, needs, run_program

import aiopark
from aiopark._loops import running_loop

if UNDER_WINE:
    pytest.skip(NO_TRIO, allow_module_level=True)
trio = pytest.importorskip("trio")


def kind():
    return type(running_loop()).__name__


async def park_and_be_woken():
    parker = aiopark.Parker()
    with in_thread(lambda: (block_until(lambda: is_parked(parker)), parker.unpark())):
        await parker.park()
    assert await parker.park_timeout(0.001) is False
    return kind()


def test_trio_run_inside_of_an_asyncio_task():
    async def outer():
        before = await park_and_be_woken()
        inside = trio.run(park_and_be_woken)
        return before, inside, await park_and_be_woken()

    assert asyncio.run(outer()) == ("AsyncioBridge", "TrioBridge", "AsyncioBridge")


def test_trio_run_inside_of_an_asyncio_task_that_never_parked():
    async def outer():
        return trio.run(park_and_be_woken), kind()

    assert asyncio.run(outer()) == ("TrioBridge", "AsyncioBridge")


def test_trio_run_inside_of_an_asyncio_callback():
    async def outer():
        kinds = []
        asyncio.get_running_loop().call_soon(lambda: kinds.append(trio.run(park_and_be_woken)))
        await asyncio.sleep(0.001)
        while not kinds:
            await asyncio.sleep(0.001)
        return kinds, await park_and_be_woken()

    assert asyncio.run(outer()) == (["TrioBridge"], "AsyncioBridge")


def test_an_asyncio_task_is_unparked_from_the_trio_run_inside_of_another():
    async def outer():
        parker = aiopark.Parker()
        task = asyncio.create_task(parker.park())
        while not is_parked(parker):
            await asyncio.sleep(0)

        async def inner():
            parker.unpark()
            await trio.sleep(0)

        trio.run(inner)
        await asyncio.wait_for(task, 30)

    asyncio.run(outer())


@pytest.mark.skipif(sys.platform == "win32", reason="the host needs a loop that trio can ring")
def test_guest_mode_with_parks_of_both_at_once():
    async def host():
        loop = asyncio.get_running_loop()
        done = loop.create_future()

        async def guest():
            kinds = [await park_and_be_woken() for _ in range(3)]
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(park_and_be_woken)
            return kinds

        trio.lowlevel.start_guest_run(
            guest, run_sync_soon_threadsafe=loop.call_soon_threadsafe, done_callback=done.set_result
        )
        kinds = [await park_and_be_woken() for _ in range(3)]
        assert set(kinds) == {"AsyncioBridge"}
        assert set((await done).unwrap()) == {"TrioBridge"}
        assert await park_and_be_woken() == "AsyncioBridge"

    asyncio.run(host())


@needs("trio_asyncio")
@pytest.mark.parametrize("first", ["trio_asyncio", "aiopark"])
def test_asyncio_tasks_inside_of_trio(first):
    """trio-asyncio patches asyncio for the whole process, also for those that were imported before."""
    run = run_program("inside_trio", first, options=("-W", "ignore::DeprecationWarning"))
    kinds = ["TrioBridge", "TrioBridge", "AsyncioBridge", "TrioBridge", "AsyncioBridge", "TrioBridge", "AsyncioBridge"]
    assert (run.returncode, run.stdout.split(), run.stderr) == (0, kinds, "")


def test_asyncio_run_inside_of_a_trio_task():
    """It blocks the trio run meanwhile, and works, as asyncio's own futures do there. sniffio says trio there."""

    async def main():
        before = await park_and_be_woken()
        inside = asyncio.run(park_and_be_woken())
        return before, inside, await park_and_be_woken()

    assert trio.run(main) == ("TrioBridge", "AsyncioBridge", "TrioBridge")


def test_a_trio_without_in_trio_task(monkeypatch):
    """It came with trio 0.29: an older one disturbs nobody."""
    monkeypatch.delattr(trio.lowlevel, "in_trio_task", raising=False)
    assert asyncio.run(aiopark.Parker().park_timeout(0)) is False
    assert trio.run(aiopark.Parker().park_timeout, 0) is False
