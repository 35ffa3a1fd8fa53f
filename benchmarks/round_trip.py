"""A thread wakes a task, which wakes the thread: seconds a round trip, against the usual ways.

The way back, task wakes thread, is one and the same in every contest: a bare lock in one, a ThreadParker in the other.
Both sides sleep in each trip. Of a sample's trips the mean counts, but for the slowest tenth.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Protocol

import aiologic
from _report import Row
from _runner import Benchmark, main, mean_step
from threads import Pair, lock, thread_parker

import aiopark

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

FUTURE = "call_soon_threadsafe + Future"
AIOLOGIC = "aiologic.Event"
TO_THREAD = "to_thread(threading.Event().wait)"
AIOPARK = "aiopark.Parker"


class Waiter(Protocol):
    """`prepare` and `wait` run in the task, `wake` in the thread."""

    def prepare(self) -> None: ...
    def wait(self) -> Awaitable[object]: ...
    def wake(self) -> object: ...


class Future:
    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()

    def prepare(self) -> None:
        self.future = self.loop.create_future()

    def wait(self) -> Awaitable[object]:
        return self.future

    def wake(self) -> object:
        return self.loop.call_soon_threadsafe(self.future.set_result, None)


class AiologicEvent:
    def prepare(self) -> None:
        self.event = aiologic.Event()

    def wait(self) -> Awaitable[object]:
        return self.event

    def wake(self) -> None:
        self.event.set()


class ToThread:
    def prepare(self) -> None:
        self.event = threading.Event()

    def wait(self) -> Awaitable[object]:
        return asyncio.to_thread(self.event.wait)

    def wake(self) -> None:
        self.event.set()


class Parker:
    def __init__(self) -> None:
        self.parker = aiopark.Parker()
        self.wake = self.parker.unpark
        self.wait = self.parker.park

    def prepare(self) -> None:
        pass


async def trips(make: Callable[[], Waiter], back: Callable[[], Pair], count: int) -> float:
    waiter, (wait_there, wake_there) = make(), back()

    def partner() -> None:
        for _ in range(count):
            wait_there()
            waiter.wake()

    thread = threading.Thread(target=partner)
    thread.start()
    await asyncio.sleep(0.002)
    now = time.perf_counter
    ends = [now()]
    for _ in range(count):
        waiter.prepare()
        wake_there()
        await waiter.wait()
        ends.append(now())
    thread.join()
    return mean_step(ends)


BENCHMARKS = [
    Benchmark(
        title="round_trip: a thread wakes a task, which wakes it by a threading.Lock",
        contestants={
            FUTURE: partial(trips, Future, lock),
            AIOLOGIC: partial(trips, AiologicEvent, lock),
            TO_THREAD: partial(trips, ToThread, lock),
            AIOPARK: partial(trips, Parker, lock),
        },
        rows=[
            Row(
                contestant=AIOPARK,
                against=FUTURE,
                goal={"asyncio": 0.70, "uvloop": 0.96},
                bound={"asyncio": 1.00, "uvloop": 1.60},
            ),
            Row(contestant=AIOPARK, against=AIOLOGIC, bound={"asyncio": 0.75, "uvloop": 0.95}),
            Row(contestant=AIOLOGIC, against=FUTURE),
            Row(contestant=TO_THREAD, against=FUTURE),
        ],
        count=500,
        rounds=40,
    ),
    Benchmark(
        title="round_trip: a thread wakes a task, which wakes it by an aiopark.ThreadParker",
        contestants={
            FUTURE: partial(trips, Future, thread_parker),
            AIOLOGIC: partial(trips, AiologicEvent, thread_parker),
            AIOPARK: partial(trips, Parker, thread_parker),
        },
        rows=[
            Row(
                contestant=AIOPARK,
                against=FUTURE,
                goal={"asyncio": 0.78, "uvloop": 1.00},
                bound={"asyncio": 1.00, "uvloop": 1.45},
            ),
            Row(
                contestant=AIOPARK,
                against=AIOLOGIC,
                goal={"asyncio": 0.68, "uvloop": 0.82},
                bound={"asyncio": 0.80, "uvloop": 0.95},
            ),
        ],
        count=500,
        rounds=40,
    ),
]

if __name__ == "__main__":
    sys.exit(main(*BENCHMARKS))
