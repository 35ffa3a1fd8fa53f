"""All on one loop: a task unparks others, two tasks wake each other, and a park that finds its permit.

Against a bare Future, which only works on one loop. Seconds of the processor an operation: nothing here ever sleeps,
and what else the machine does while it runs does not count.
"""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from time import process_time
from typing import TYPE_CHECKING

from _report import Row
from _runner import Benchmark, main
from round_trip import Future, Parker, Waiter

import aiopark

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

FUTURE = "Future.set_result"
SLEEP = "sleep(0)"
AIOPARK = "aiopark.Parker"


class BareFuture(Future):
    """Woken by its own loop only."""

    def wake(self) -> None:
        self.future.set_result(None)


async def fan_out(waits: list[Awaitable[object]], wakes: list[Callable[[], object]]) -> float:
    """Wake all from one task; until the last of them ran."""

    async def wait(one: Awaitable[object]) -> None:
        await one

    tasks = [asyncio.create_task(wait(one)) for one in waits]
    await asyncio.sleep(0.005)
    start = process_time()
    for wake in wakes:
        wake()
    await asyncio.wait(tasks)
    return (process_time() - start) / len(tasks)


async def fan_out_futures(count: int) -> float:
    loop = asyncio.get_running_loop()
    futures: list[asyncio.Future[None]] = [loop.create_future() for _ in range(count)]
    return await fan_out(list(futures), [partial(future.set_result, None) for future in futures])


async def fan_out_parkers(count: int) -> float:
    parkers = [aiopark.Parker() for _ in range(count)]
    return await fan_out([parker.park() for parker in parkers], [parker.unpark for parker in parkers])


async def ping_pong(make: Callable[[], Waiter], count: int) -> float:
    here, there = make(), make()

    async def pong() -> None:
        for _ in range(count):
            await there.wait()
            there.prepare()
            here.wake()

    there.prepare()
    other = asyncio.create_task(pong())
    await asyncio.sleep(0)
    start = process_time()
    for _ in range(count):
        here.prepare()
        there.wake()
        await here.wait()
    elapsed = process_time() - start
    await other
    return elapsed / count


async def checkpoint(count: int) -> float:
    start = process_time()
    for _ in range(count):
        await asyncio.sleep(0)
    return (process_time() - start) / count


async def permit_in_store(count: int) -> float:
    parker = aiopark.Parker()
    park, unpark = parker.park, parker.unpark
    start = process_time()
    for _ in range(count):
        unpark()
        await park()
    return (process_time() - start) / count


BENCHMARKS = [
    Benchmark(
        title="same_loop: a task wakes {:,} tasks of its loop, a task",
        contestants={FUTURE: fan_out_futures, AIOPARK: fan_out_parkers},
        rows=[
            Row(
                contestant=AIOPARK,
                against=FUTURE,
                goal={"asyncio": 1.15, "uvloop": 1.30},
                bound={"asyncio": 1.80, "uvloop": 2.60},
            )
        ],
        count=2000,
        rounds=40,
    ),
    Benchmark(
        title="same_loop: a task wakes a task of its loop, which wakes it",
        contestants={FUTURE: partial(ping_pong, BareFuture), AIOPARK: partial(ping_pong, Parker)},
        rows=[
            Row(
                contestant=AIOPARK,
                against=FUTURE,
                goal={"asyncio": 1.30, "uvloop": 1.50},
                bound={"asyncio": 2.40, "uvloop": 3.80},
            )
        ],
        count=1000,
        rounds=40,
    ),
    Benchmark(
        title="same_loop: unpark, and park with the permit in store",
        contestants={SLEEP: checkpoint, AIOPARK: permit_in_store},
        rows=[Row(contestant=AIOPARK, against=SLEEP)],
        count=5000,
        rounds=40,
    ),
]

if __name__ == "__main__":
    sys.exit(main(*BENCHMARKS))
