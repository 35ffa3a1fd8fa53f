"""Many words, a task parked on each: memory and threads a word, and seconds until all of the tasks ran.

The words are unparked by a native thread, one after the other. The reference is as many tasks parked on a Parker with
no word, which a thread of Python unparks. Each sample is taken in a process of its own, on asyncio.

RSS is what the process grew by while the tasks parked, the tasks included. Kernel is what the machine's Slab and
KernelStack grew by meanwhile, so other processes count too: on a machine that is busy it is a guess. Unpark: until the
unparking thread was done. Wake: until all tasks ran. Linux.
"""

from __future__ import annotations

import asyncio
import ctypes
import sys
import threading
import time
from functools import partial
from pathlib import Path

import psutil
from _native import no_ring, partner, process
from _report import Row
from _runner import Benchmark, main

import aiopark

NO_WORD = "no word"
RING = "io_uring"
THREADS = "watch threads"


def kernel_memory() -> int:
    """Return the bytes that the kernel keeps for its own structures, of all processes; 0 if it does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("Slab:", "KernelStack:")))


async def measure(way: str, count: int) -> dict[str, float]:
    this = psutil.Process()
    library = partner()
    done_at = ctypes.c_int64()
    last_ran = 0

    async def wait(parker: aiopark.Parker) -> None:
        nonlocal last_ran
        await parker.park()
        last_ran = time.monotonic_ns()

    async def park(parkers: list[aiopark.Parker]) -> list[asyncio.Task[None]]:
        tasks = [asyncio.create_task(wait(parker)) for parker in parkers]
        while aiopark.statistics().parked_tasks < len(tasks):
            await asyncio.sleep(0)
        return tasks

    # What is made once in a process does not count.
    warm = aiopark.Parker(None if way == NO_WORD else aiopark.Word())
    (task,) = await park([warm])
    warm.unpark()
    await task
    warm.close()

    rss, kernel, threads = this.memory_info().rss, kernel_memory(), this.num_threads()
    words = [] if way == NO_WORD else [aiopark.Word() for _ in range(count)]
    parkers = [aiopark.Parker(word) for word in words] or [aiopark.Parker() for _ in range(count)]
    start = time.perf_counter()
    tasks = await park(parkers)
    parking = time.perf_counter() - start
    result = {
        "threads": this.num_threads() - threads,
        "rss": (this.memory_info().rss - rss) / count,
        "kernel": (kernel_memory() - kernel) / count,
        "park": parking / count,
    }
    assert aiopark.statistics().waiter_threads == (count if way == THREADS else 0)

    def unpark_all() -> None:
        for parker in parkers:
            parker.unpark()
        done_at.value = time.monotonic_ns()

    begin = time.monotonic_ns()
    if words:
        addresses = (ctypes.c_void_p * count)(*(word.address for word in words))
        begin = time.monotonic_ns()
        library.start_unparking(addresses, count, done_at)
        await asyncio.wait(tasks)
        library.finish()
    else:
        thread = threading.Thread(target=unpark_all)
        thread.start()
        await asyncio.wait(tasks)
        thread.join()
    result["unpark"] = (done_at.value - begin) / count / 1e9
    result["wake"] = (last_ran - begin) / count / 1e9
    for parker in parkers:
        parker.close()
    return result


def sample(way: str, count: int) -> dict[str, float]:
    with process("uring" if way == RING else "threads") as pool:
        return pool.submit(measured, way, count).result()


def measured(way: str, count: int) -> dict[str, float]:
    return asyncio.run(measure(way, count))


def rows(way: str) -> list[Row]:
    """Return what to tell of the tasks that wait this way."""
    told = partial(Row, contestant=way, against="")
    taken = {"asyncio": 0.0} if way == RING else {}
    return [
        told(name=f"{way}: threads", measure="threads", unit="threads", bound=taken),
        told(name=f"{way}: RSS", measure="rss", unit="B"),
        told(name=f"{way}: kernel", measure="kernel", unit="B"),
        told(name=f"{way}: park", measure="park"),
        told(name=f"{way}: unpark", measure="unpark"),
        Row(name=f"{way}: wake", contestant=way, against=NO_WORD, measure="wake"),
    ]


BENCHMARKS = [
    Benchmark(
        title="watched_words: {:,} words, a word",
        contestants={way: partial(sample, way) for way in ways},
        rows=[row for way in ways for row in rows(way)],
        count=count,
        rounds=5,
        loops=["asyncio"],
        refusal=no_ring,
    )
    for count, ways in ((1_000, (NO_WORD, RING, THREADS)), (10_000, (NO_WORD, RING)), (30_000, (NO_WORD, RING)))
]

if __name__ == "__main__":
    sys.exit(main(*BENCHMARKS))
