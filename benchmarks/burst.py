"""A thread unparks many parked tasks: seconds a task until the last of them ran, and until the thread is done.

Against one `loop.call_soon_threadsafe(future.set_result)` a task.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from typing import TYPE_CHECKING

from _report import Row
from _runner import Benchmark, main

import aiopark

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

FUTURE = "call_soon_threadsafe + Future"
AIOPARK = "aiopark.Parker"


async def burst(waits: list[Awaitable[object]], wake: Callable[[], object]) -> dict[str, float]:
    async def wait(one: Awaitable[object]) -> None:
        await one

    tasks = [asyncio.create_task(wait(one)) for one in waits]
    await asyncio.sleep(0.01)
    spent = 0.0

    def unpark_all() -> None:
        nonlocal spent
        begin = time.perf_counter()
        wake()
        spent = time.perf_counter() - begin

    thread = threading.Thread(target=unpark_all)
    start = time.perf_counter()
    thread.start()
    await asyncio.wait(tasks)
    elapsed = time.perf_counter() - start
    thread.join()
    return {"all": elapsed / len(tasks), "thread": spent / len(tasks)}


async def futures(count: int) -> dict[str, float]:
    loop = asyncio.get_running_loop()
    pending: list[asyncio.Future[None]] = [loop.create_future() for _ in range(count)]

    def wake_all() -> None:
        for future in pending:
            loop.call_soon_threadsafe(future.set_result, None)

    return await burst(list(pending), wake_all)


async def parkers(count: int) -> dict[str, float]:
    pending = [aiopark.Parker() for _ in range(count)]

    def unpark_all() -> None:
        for parker in pending:
            parker.unpark()

    return await burst([parker.park() for parker in pending], unpark_all)


BENCHMARKS = [
    Benchmark(
        title="burst: a thread wakes {:,} tasks, a task",
        contestants={FUTURE: futures, AIOPARK: parkers},
        rows=[
            Row(
                contestant=AIOPARK,
                against=FUTURE,
                measure="all",
                goal={"asyncio": 0.45, "uvloop": 0.85},
                bound={"asyncio": 0.75, "uvloop": 1.80},
            ),
            Row(name="the same, what the thread spends", contestant=AIOPARK, against=FUTURE, measure="thread"),
        ],
        count=5000,
        rounds=25,
    )
]

if __name__ == "__main__":
    sys.exit(main(*BENCHMARKS))
