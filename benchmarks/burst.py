"""One thread unparks 5,000 parked tasks: seconds until the last of them ran, and until the thread is done.

    python benchmarks/burst.py [--rounds 9] [--tasks 5000]

Against one `loop.call_soon_threadsafe(future.set_result)` a task. Exit status 1 if a bound fails.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import threading
import time
from typing import TYPE_CHECKING

from _measure import LIBUV, Rounds, pin_to_one_core, show

import aiopark

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

REFERENCE = "call_soon_threadsafe + Future"
AIOPARK = "aiopark.Parker"


async def burst(waits: list[Awaitable[object]], wake: Callable[[], object]) -> tuple[float, float]:
    """Give the seconds a task until all of them ran, and those that the thread spent."""

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
    return elapsed / len(tasks), spent / len(tasks)


async def futures(count: int) -> tuple[float, float]:
    loop = asyncio.get_running_loop()
    pending: list[asyncio.Future[None]] = [loop.create_future() for _ in range(count)]

    def wake_all() -> None:
        for future in pending:
            loop.call_soon_threadsafe(future.set_result, None)

    return await burst(list(pending), wake_all)


async def parkers(count: int) -> tuple[float, float]:
    pending = [aiopark.Parker() for _ in range(count)]

    def unpark_all() -> None:
        for parker in pending:
            parker.unpark()

    return await burst([parker.park() for parker in pending], unpark_all)


async def contest(rounds: int, count: int) -> tuple[Rounds, Rounds]:
    total: Rounds = {REFERENCE: [], AIOPARK: []}
    thread: Rounds = {REFERENCE: [], AIOPARK: []}
    for _ in range(rounds):
        for name, ways in ((REFERENCE, futures), (AIOPARK, parkers)):
            elapsed, spent = await ways(count)
            total[name].append(elapsed)
            thread[name].append(spent)
    return total, thread


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--tasks", type=int, default=5000)
    arguments = parser.parse_args()
    pinned = pin_to_one_core()
    results: dict[str, Rounds] = {}
    for name, run in (("asyncio", asyncio.run), (LIBUV.__name__, LIBUV.run)):
        results[name], results[f"{name}, thread"] = run(contest(arguments.rounds, arguments.tasks))
    kept = show(
        f"{arguments.tasks:,} tasks unparked in a burst, per task, Python {sys.version.split()[0]}, {pinned}",
        results,
        REFERENCE,
        [("asyncio", AIOPARK, REFERENCE, 0.65)],
    )
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
