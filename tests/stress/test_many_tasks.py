"""100,000 tasks parked at once: no thread, and hardly more memory than asyncio.Event takes."""

from __future__ import annotations

import asyncio
import gc
import threading
import tracemalloc

import anyio
import pytest
from support import ASYNCIO, in_thread, until

import aiopark


@pytest.fixture
def no_collections():
    """The collector would go through all tasks again and again."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collections")
def test_a_thread_unparks_100_000_tasks(plain_world):
    count = 100_000 if plain_world is ASYNCIO else 20_000

    async def main():
        parkers = [aiopark.Parker() for _ in range(count)]
        returned = []

        async def park(parker):
            await parker.park()
            returned.append(None)

        threads = threading.active_count()
        async with anyio.create_task_group() as tasks:
            for parker in parkers:
                tasks.start_soon(park, parker)
            await until(lambda: aiopark.statistics().parked_tasks == count)
            assert threading.active_count() == threads
            statistics = aiopark.statistics()
            assert statistics.waiter_threads == statistics.watched_words == 0
            with in_thread(lambda: [parker.unpark() for parker in parkers]):
                await until(lambda: len(returned) == count)
        assert aiopark.statistics().parked_tasks == 0

    plain_world.run(main)


def bytes_a_task(wait, count=10_000):
    async def main():
        gc.collect()
        tracemalloc.start()
        try:
            tasks = [asyncio.create_task(wait()) for _ in range(count)]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            gc.collect()
            used, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        return used / count

    return asyncio.run(main())


def test_memory_a_task_against_asyncio_event():
    event = bytes_a_task(lambda: asyncio.Event().wait())
    parker = bytes_a_task(lambda: aiopark.Parker().park())
    assert parker <= 1.2 * event, f"{parker:.0f} bytes a parked task, {event:.0f} for asyncio.Event"
