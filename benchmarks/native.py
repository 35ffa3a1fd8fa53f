"""A native thread, which holds no GIL, wakes a task: seconds until the task runs, and seconds a round trip.

    python benchmarks/native.py [--rounds 40] [--trips 200]

Against the least that can be written for one loop: an eventfd, `loop.add_reader` and a Future. The way back (task wakes
native thread) is one and the same in every contest: `Word.unpark`.

Latency: the thread pauses 150 µs after it was asked, so that the loop is asleep, takes the time and unparks; the task
takes the time when it runs. Round trip: without the pause, from before it asks. On one core the thread mostly answers
at once, before the loop sleeps: it tells what a park costs that finds its permit, and nothing of who watches the word.
Of a round's trips the median counts. Linux. Exit status 1 if a bound fails.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import os
import statistics
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Protocol

from _measure import LIBUV, REPORTED, Rounds, pin_to_one_core, show
from _native import partner, watcher

import aiopark
import aiopark._watch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

REFERENCE = "eventfd, add_reader, Future"
RING = "Parker(word), io_uring"
THREAD = "Parker(word), thread"
PAUSE = 150_000  # nanoseconds


class Contestant(Protocol):
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

    def __init__(self, name: str) -> None:
        self.word = aiopark.Word()
        with watcher(name):
            self.parker = aiopark.Parker(self.word)
        self.there: int | None = self.word.address
        self.wait = self.parker.park

    def prepare(self) -> None:
        pass

    def close(self) -> None:
        self.parker.close()


CONTESTANTS: dict[str, Callable[[], Contestant]] = {
    REFERENCE: Eventfd,
    RING: partial(Parker, "uring"),
    THREAD: partial(Parker, "threads"),
}


async def trips(native: ctypes.CDLL, contestant: Contestant, count: int, pause: int) -> float:
    """Give the median latency in seconds, or without a pause the median round trip."""
    here, at = aiopark.Word(), ctypes.c_int64()
    ask, prepare, wait, now = here.unpark, contestant.prepare, contestant.wait, time.monotonic_ns
    times = []
    native.start_answering(here.address, contestant.there, contestant.eventfd, count, pause, at)
    for _ in range(count):
        prepare()
        start = now()
        ask()
        await wait()
        times.append(now() - (at.value if pause else start))
    native.finish()
    contestant.close()
    return statistics.median(times) / 1e9


async def contest(native: ctypes.CDLL, rounds: int, count: int) -> tuple[Rounds, Rounds]:
    latency: Rounds = {name: [] for name in CONTESTANTS}
    round_trip: Rounds = {name: [] for name in CONTESTANTS}
    for _ in range(rounds):
        for results, pause in ((latency, PAUSE), (round_trip, 0)):
            for name, make in CONTESTANTS.items():
                results[name].append(await trips(native, make(), count, pause))
    return latency, round_trip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--trips", type=int, default=200)
    arguments = parser.parse_args()
    refused = aiopark._watch.refused_watchers()
    if refused:
        print("no ring here:", refused["uring"])
        return 1
    native = partner()
    pinned = pin_to_one_core()
    results: dict[str, dict[str, Rounds]] = {"latency": {}, "round trip": {}}
    for name, run in (("asyncio", asyncio.run), (LIBUV.__name__, LIBUV.run)):
        results["latency"][name], results["round trip"][name] = run(contest(native, arguments.rounds, arguments.trips))
    kept = True
    for measure, settings in results.items():
        kept &= show(
            f"native thread to task, {measure}, Python {sys.version.split()[0]}, {pinned}",
            settings,
            REFERENCE,
            [
                ("asyncio", RING, REFERENCE, 1.30),
                ("asyncio", THREAD, RING, REPORTED),
                (LIBUV.__name__, THREAD, RING, REPORTED),
            ],
        )
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
