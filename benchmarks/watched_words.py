"""Many words, a task parked on each: memory and threads a word, and seconds until all of the tasks ran.

    python benchmarks/watched_words.py [--rounds 5]

The words are unparked by a native thread, one after the other. The reference is as many tasks parked on a Parker with
no word, which a thread of Python unparks. Each setting runs in a process of its own, round by round.

RSS is what the process grew by while the tasks parked, the tasks included. Kernel is what the machine's Slab and
KernelStack grew by meanwhile, so other processes count too: on a machine that is busy it is a guess. Linux. Exit status
1 if the ring takes a thread.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
from _measure import pin_to_one_core
from _native import partner, watcher
from rich.console import Console
from rich.table import Table

import aiopark

NO_WORD = "(no word)"
RING = "io_uring"
THREADS = "threads"
WATCHERS = {RING: "uring", THREADS: "threads"}
SETTINGS = [
    (way, count)
    for count in (1_000, 10_000, 30_000)
    for way in (NO_WORD, RING, THREADS)
    if way != THREADS or count == 1_000
]

Result = dict[str, float]


def kernel_memory() -> int:
    """Give the bytes that the kernel keeps for its own structures, of all processes; 0 if it does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("Slab:", "KernelStack:")))


async def measure(way: str, count: int) -> Result:
    process = psutil.Process()
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
    with watcher(WATCHERS.get(way, "threads")):
        warm = aiopark.Parker(None if way == NO_WORD else aiopark.Word())
        (task,) = await park([warm])
        warm.unpark()
        await task
        warm.close()

        rss, kernel, threads = process.memory_info().rss, kernel_memory(), process.num_threads()
        words = [] if way == NO_WORD else [aiopark.Word() for _ in range(count)]
        parkers = [aiopark.Parker(word) for word in words] or [aiopark.Parker() for _ in range(count)]
    start = time.perf_counter()
    tasks = await park(parkers)
    parking = time.perf_counter() - start
    result = {
        "threads": process.num_threads() - threads,
        "rss": (process.memory_info().rss - rss) / count,
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


def in_a_process(way: str, count: int) -> Result:
    command = [sys.executable, __file__, "--one", way, str(count)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: Result = json.loads(done.stdout)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        way, count = arguments.one
        print(json.dumps(asyncio.run(measure(way, int(count)))))
        sys.stdout.flush()
        os._exit(0)  # nobody measures how long it takes to free all of them
    pinned = pin_to_one_core()
    rounds: dict[tuple[str, int], list[Result]] = {setting: [] for setting in SETTINGS}
    for _ in range(arguments.rounds):
        for setting in SETTINGS:
            rounds[setting].append(in_a_process(*setting))
    table = Table(title=f"tasks parked on words, Python {sys.version.split()[0]}, {pinned}")
    for column in ("words", "watched by", "threads", "RSS B", "kernel B", "park µs", "unpark µs", "wake µs", "ratio"):
        table.add_column(column, justify="left" if column == "watched by" else "right")
    for (way, count), results in rounds.items():

        def median(key: str, results: list[Result] = results) -> float:
            return statistics.median(result[key] for result in results)

        base = rounds[NO_WORD, count]
        ratio = statistics.median(one["wake"] / other["wake"] for one, other in zip(results, base, strict=True))
        table.add_row(
            f"{count:,}", way, f"{median('threads'):.0f}", f"{median('rss'):,.0f}", f"{median('kernel'):,.0f}",
            *(f"{median(key) * 1e6:.1f}" for key in ("park", "unpark", "wake")), f"{ratio:.2f}",
        )  # fmt: skip
    console = Console(width=100)
    console.print(table)
    console.print(
        "All but the threads: a word. Unpark: until the unparking thread was done. Wake: until all tasks ran."
    )
    taken = max(result["threads"] for (way, _), results in rounds.items() if way == RING for result in results)
    console.print(f"  threads that the ring takes: {taken:.0f}, at most 0: {'NOT REACHED' if taken else 'kept'}")
    return 1 if taken else 0


if __name__ == "__main__":
    sys.exit(main())
