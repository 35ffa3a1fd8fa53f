"""A native thread, which holds no GIL, wakes a task: seconds until the task runs, and seconds a round trip.

Against the least that can be written for one loop: an eventfd, `loop.add_reader` and a Future. The way back (task wakes
native thread) is one and the same in every contest: `Word.unpark`. All contests of a watcher run in a process of its
own, on the same core.

Latency: the thread pauses 150 µs after it was asked, so that the loop is asleep, takes the time and unparks; the task
takes the time when it runs. Round trip: without the pause, from before it asks. On one core the thread mostly answers
at once, before the loop sleeps: it tells what a park costs that finds its permit, and nothing of who watches the word.
Of a sample's trips the median counts. Linux.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import statistics
import sys
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Protocol

from _native import no_ring, partner, process
from _report import Row
from _runner import Benchmark, Contestants, main

import aiopark

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

EVENTFD = "eventfd, add_reader, Future"
RING = "Parker(word), io_uring"
THREAD = "Parker(word), thread"
LATENCY, ROUND_TRIP = "latency", "round trip"
PAUSE = 150_000  # nanoseconds


class Waiter(Protocol):
    """`prepare` runs before the thread is asked, `wait` after it. `there` or `eventfd` is what the thread is given."""

    there: int | None
    eventfd: int

    def prepare(self) -> None: ...
    def wait(self) -> Awaitable[object]: ...
    def close(self) -> None: ...


class Eventfd:
    there: int | None = None

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.eventfd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.loop.add_reader(self.eventfd, self.ready)

    def ready(self) -> None:
        os.eventfd_read(self.eventfd)
        self.future.set_result(None)

    def prepare(self) -> None:
        self.future = self.loop.create_future()

    def wait(self) -> Awaitable[object]:
        return self.future

    def close(self) -> None:
        self.loop.remove_reader(self.eventfd)
        os.close(self.eventfd)


class Parker:
    eventfd = -1

    def __init__(self) -> None:
        self.word = aiopark.Word()
        self.parker = aiopark.Parker(self.word)
        self.there: int | None = self.word.address
        self.wait = self.parker.park

    def prepare(self) -> None:
        pass

    def close(self) -> None:
        self.parker.close()


async def trips(make: Callable[[], Waiter], count: int, pause: int) -> float:
    native, waiter = partner(), make()
    here, at = aiopark.Word(), ctypes.c_int64()
    ask, prepare, wait, now = here.unpark, waiter.prepare, waiter.wait, time.monotonic_ns
    times = []
    native.start_answering(here.address, waiter.there, waiter.eventfd, count, pause, at)
    for _ in range(count):
        prepare()
        start = now()
        ask()
        await wait()
        times.append(now() - (at.value if pause else start))
    native.finish()
    waiter.close()
    return statistics.median(times) / 1e9


def sample(loop: Callable[[], asyncio.AbstractEventLoop], make: Callable[[], Waiter], count: int) -> dict[str, float]:
    with asyncio.Runner(loop_factory=loop) as runner:
        return {name: runner.run(trips(make, count, pause)) for name, pause in ((LATENCY, PAUSE), (ROUND_TRIP, 0))}


@contextmanager
def contestants(runner: asyncio.Runner) -> Iterator[Contestants]:
    loop = type(runner.get_loop())
    with process("uring") as ring, process("threads") as threads:
        yield {
            EVENTFD: lambda count: ring.submit(sample, loop, Eventfd, count).result(),
            RING: lambda count: ring.submit(sample, loop, Parker, count).result(),
            THREAD: lambda count: threads.submit(sample, loop, Parker, count).result(),
        }


ratio = partial(Row, against=EVENTFD)

BENCHMARKS = [
    Benchmark(
        title="native: a native thread wakes a task",
        contestants=contestants,
        rows=[
            ratio(
                contestant=RING,
                measure=LATENCY,
                goal={"asyncio": 1.20, "uvloop": 1.50},
                bound={"asyncio": 1.80, "uvloop": 2.60},
            ),
            ratio(contestant=THREAD, measure=LATENCY),
            ratio(name="the same, round trip", contestant=RING, measure=ROUND_TRIP),
            ratio(name="the same, round trip, thread", contestant=THREAD, measure=ROUND_TRIP),
        ],
        count=200,
        rounds=40,
        refusal=no_ring,
    )
]

if __name__ == "__main__":
    sys.exit(main(*BENCHMARKS))
