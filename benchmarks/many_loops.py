"""A park on one of 1,000 open loops that run in turn, against one on the only loop.

A run of a loop costs more than a park, and more with 1,000 of them, which do not stay in the processor's cache. So a
run with one park is measured, and a run with none beside it: the second ratio is what 1,000 loops cost without aiopark.
Seconds of the processor, as nothing here sleeps.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import contextmanager
from functools import partial
from time import process_time
from typing import TYPE_CHECKING

from _report import Row
from _runner import Benchmark, Contestants, main

import aiopark

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

ONE = "a park, 1 loop"
MANY = "a park, 1,000 loops"
BARE_ONE = "sleep(0), 1 loop"
BARE_MANY = "sleep(0), 1,000 loops"


async def park() -> None:
    parker = aiopark.Parker()
    parker.unpark()
    await parker.park()


async def sleep() -> None:
    await asyncio.sleep(0)


def runs(loops: list[asyncio.AbstractEventLoop], step: Callable[[], Awaitable[None]], count: int) -> float:
    start = process_time()
    for index in range(count):
        loops[index % len(loops)].run_until_complete(step())
    return (process_time() - start) / count


@contextmanager
def loops(runner: asyncio.Runner) -> Iterator[Contestants]:
    one = runner.get_loop()
    many = [type(one)() for _ in range(1000)]
    runs(many, park, len(many))  # what a loop's first park sets up does not count
    yield {
        ONE: partial(runs, [one], park),
        MANY: partial(runs, many, park),
        BARE_ONE: partial(runs, [one], sleep),
        BARE_MANY: partial(runs, many, sleep),
    }
    for loop in many:
        loop.close()


BENCHMARKS = [
    Benchmark(
        title="many_loops: run a loop for a park",
        contestants=loops,
        rows=[
            Row(
                contestant=MANY,
                against=ONE,
                goal={"asyncio": 1.10, "uvloop": 1.10},
                bound={"asyncio": 1.40, "uvloop": 1.40},
            ),
            Row(contestant=BARE_MANY, against=BARE_ONE),
        ],
        count=1000,
        rounds=20,
    )
]

if __name__ == "__main__":
    sys.exit(main(*BENCHMARKS))
