"""A native thread unparks for each item that it puts into a ring, with and without coalescing: the time an item.

`aiopark_unpark` makes a system call for each item. `aiopark_unpark_coalesced` makes one only if there was no permit, so
if the consumer may sleep. The consumer takes all that the ring holds and parks: once a native thread, once a task. Not
pinned: the two sides run at the same time, on all cores. Linux.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from ctypes import addressof, c_int, c_uint, c_uint32, c_void_p
from typing import TYPE_CHECKING

from _native import compiled
from _report import Row
from _runner import NO_LOOP, Benchmark, Contestants, cores, main

import aiopark

if TYPE_CHECKING:
    import asyncio
    import ctypes
    from collections.abc import Callable, Coroutine, Iterator
    from typing import Any

EACH, COALESCED = "aiopark_unpark", "aiopark_unpark_coalesced"
ALL_CORES = cores()  # before the runner pins


def by_thread(ring: ctypes.CDLL, items: int, coalesced: bool) -> float:
    word = c_uint32(1)
    before = time.perf_counter()
    ring.start(items, addressof(word), coalesced)
    ring.consume()
    took = time.perf_counter() - before
    ring.finish()  # before the word goes: the item is there before the producer unparks for it
    return took / items


async def by_task(ring: ctypes.CDLL, items: int, coalesced: bool) -> float:
    with aiopark.Word() as word, aiopark.Parker(word) as parker:
        before = time.perf_counter()
        ring.start(items, word.address, coalesced)
        while ring.take() < items:
            await parker.park()
        took = time.perf_counter() - before
        ring.finish()
    return took / items


@contextmanager
def on_all_cores() -> Iterator[ctypes.CDLL]:
    ring = compiled("coalesced.c")
    ring.start.restype, ring.start.argtypes = None, [c_uint, c_void_p, c_int]
    ring.take.restype, ring.take.argtypes = c_uint, []
    ring.consume.restype, ring.consume.argtypes = None, []
    ring.finish.restype, ring.finish.argtypes = None, []
    pinned = cores()
    os.sched_setaffinity(0, ALL_CORES)
    try:
        yield ring
    finally:
        os.sched_setaffinity(0, pinned)


@contextmanager
def threads(_: asyncio.Runner) -> Iterator[Contestants]:
    with on_all_cores() as ring:
        yield {EACH: lambda items: by_thread(ring, items, False), COALESCED: lambda items: by_thread(ring, items, True)}


@contextmanager
def tasks(_: asyncio.Runner) -> Iterator[Contestants]:
    def contestant(coalesced: bool) -> Callable[[int], Coroutine[Any, Any, float]]:
        return lambda items: by_task(ring, items, coalesced)

    with on_all_cores() as ring:
        yield {EACH: contestant(False), COALESCED: contestant(True)}


def refusal() -> str | None:
    return None if sys.platform == "linux" else "the ring is Linux' own"


BENCHMARKS = [
    Benchmark(
        title="coalesced: a native thread puts {:,} items into a ring, a native thread takes them",
        contestants=threads,
        rows=[Row(contestant=COALESCED, against=EACH, goal={NO_LOOP: 0.1}, bound={NO_LOOP: 0.25})],
        count=1_000_000,
        rounds=9,
        loops=[NO_LOOP],
        refusal=refusal,
    ),
    Benchmark(
        title="coalesced: a native thread puts {:,} items into a ring, a task takes them",
        contestants=tasks,
        rows=[Row(contestant=COALESCED, against=EACH, goal={"asyncio": 0.1, "uvloop": 0.1})],
        count=1_000_000,
        rounds=9,
        refusal=refusal,
    ),
]

if __name__ == "__main__":
    sys.exit(main(*BENCHMARKS))
