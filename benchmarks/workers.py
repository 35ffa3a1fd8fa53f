"""A call of a function on another thread, there and back; and one task that parks on several Parkers at once.

Seconds a call, of the clock: most of it is two switches of threads. The function does nothing.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from contextlib import contextmanager
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from _report import Row
from _runner import LIBUV, Benchmark, main, mean_step

import aiopark

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from _runner import Contestants

TO_THREAD = "asyncio.to_thread"
ANYIO = "anyio.to_thread.run_sync"
EXECUTOR = "loop.run_in_executor"
WORKER = "aiopark.Worker.run"
ONE = "park"
MANY = (2, 50)
LESS = "less 1 µs a Parker"


def function() -> None:
    """Do nothing."""


async def calls(call: Callable[[], Awaitable[Any]], count: int) -> float:
    ends = [perf_counter()]
    for _ in range(count):
        await call()
        ends.append(perf_counter())
    return mean_step(ends)


@contextmanager
def set_up_calls(runner: asyncio.Runner) -> Iterator[Contestants]:
    loop = runner.get_loop()
    with aiopark.Worker() as worker:
        yield {
            TO_THREAD: partial(calls, partial(asyncio.to_thread, function)),
            ANYIO: partial(calls, partial(anyio.to_thread.run_sync, function)),
            EXECUTOR: partial(calls, partial(loop.run_in_executor, None, function)),
            WORKER: partial(calls, partial(worker.run, function)),
        }


async def trips(number: int, count: int) -> dict[str, float]:
    """A thread wakes a task that is parked on so many Parkers by one of them, in turn; the task wakes the thread."""
    parkers = [aiopark.Parker() for _ in range(number)]
    back = aiopark.ThreadParker()

    def partner() -> None:
        for turn in range(count):
            back.park()
            parkers[turn % number].unpark()

    async def park_one() -> None:
        await parkers[0].park()

    async def park_several() -> None:
        await aiopark.park_any(*parkers)

    park = park_one if number == 1 else park_several
    thread = threading.Thread(target=partner)
    thread.start()
    ends = [perf_counter()]
    for _ in range(count):
        back.unpark()
        await park()
        ends.append(perf_counter())
    thread.join()
    trip = mean_step(ends)
    return {"": trip, LESS: trip if number == 1 else trip - number * 1e-6}


def any_of(number: int) -> str:
    return f"park_any of {number}"


BENCHMARKS = [
    Benchmark(
        title="workers: a task calls a function on another thread",
        contestants=set_up_calls,
        rows=[
            Row(
                contestant=WORKER,
                against=TO_THREAD,
                goal={"asyncio": 0.70, LIBUV.__name__: 0.70},
                bound={"asyncio": 0.90, LIBUV.__name__: 0.95},
            ),
            Row(
                contestant=WORKER,
                against=ANYIO,
                goal={"asyncio": 0.70, LIBUV.__name__: 0.70},
                bound={"asyncio": 0.80, LIBUV.__name__: 0.85},
            ),
            Row(
                contestant=WORKER,
                against=EXECUTOR,
                goal={"asyncio": 1.00, LIBUV.__name__: 1.00},
                bound={"asyncio": 1.00, LIBUV.__name__: 1.10},
            ),
        ],
        count=500,
        rounds=30,
    ),
    Benchmark(
        title="workers: a thread wakes a task that is parked on several Parkers",
        contestants={ONE: partial(trips, 1), **{any_of(number): partial(trips, number) for number in MANY}},
        rows=[
            Row(contestant=ONE, against=""),
            *(
                Row(
                    contestant=any_of(number),
                    against=ONE,
                    name=f"park_any of {number} / park, {LESS}",
                    measure=LESS,
                    goal=dict.fromkeys(("asyncio", LIBUV.__name__), 3.0),
                    bound=dict.fromkeys(("asyncio", LIBUV.__name__), 5.0),
                )
                for number in MANY
            ),
        ],
        count=500,
        rounds=30,
    ),
]

if __name__ == "__main__":
    sys.exit(main(*BENCHMARKS))
