"""A thread wakes a task, which wakes the thread: seconds a round trip, against the usual ways.

    python benchmarks/round_trip.py [--rounds 15] [--trips 2000]

The way back (task wakes thread) is one and the same in every contest: a bare lock. Exit status 1 if a bound fails.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import threading
import time
from typing import TYPE_CHECKING, Protocol

import aiologic
from _measure import LIBUV, Rounds, pin_to_one_core, show

import aiopark

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import Any

REFERENCE = "call_soon_threadsafe + Future"
AIOLOGIC = "aiologic.Event"
TO_THREAD = "to_thread(threading.Event().wait)"
AIOPARK = "aiopark.Parker"

# Claimed for the systems whose loops watch an eventfd or a socket of ours; on Windows they are woken their own way.
BOUNDS = [
    ("asyncio", AIOPARK, REFERENCE, 0.70),
    ("asyncio", AIOPARK, AIOLOGIC, 0.55),
    ("uvloop", AIOPARK, REFERENCE, 0.90),
]


class Contestant(Protocol):
    """`prepare` and `wait` run in the task, `wake` in the thread."""

    def prepare(self) -> None: ...
    def wait(self) -> Awaitable[object]: ...
    def wake(self) -> object: ...


class CallSoonThreadsafe:
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


CONTESTANTS: dict[str, Callable[[], Contestant]] = {
    REFERENCE: CallSoonThreadsafe,
    AIOLOGIC: AiologicEvent,
    TO_THREAD: ToThread,
    AIOPARK: Parker,
}


async def trips(contestant: Contestant, count: int) -> float:
    """Give the seconds of one round trip."""
    go = threading.Lock()
    go.acquire()

    def partner() -> None:
        for _ in range(count):
            go.acquire()
            contestant.wake()

    thread = threading.Thread(target=partner)
    thread.start()
    await asyncio.sleep(0.002)
    start = time.perf_counter()
    for _ in range(count):
        contestant.prepare()
        go.release()
        await contestant.wait()
    elapsed = time.perf_counter() - start
    thread.join()
    return elapsed / count


async def contest(rounds: int, count: int) -> Rounds:
    results: Rounds = {name: [] for name in CONTESTANTS}
    for _ in range(rounds):
        for name, make in CONTESTANTS.items():
            results[name].append(await trips(make(), count))
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--trips", type=int, default=2000)
    arguments = parser.parse_args()
    pinned = pin_to_one_core()
    runners: dict[str, Callable[[Coroutine[Any, Any, Rounds]], Rounds]] = {
        "asyncio": asyncio.run,
        LIBUV.__name__: LIBUV.run,
    }
    results = {name: run(contest(arguments.rounds, arguments.trips)) for name, run in runners.items()}
    kept = show(
        f"thread to task to thread, Python {sys.version.split()[0]}, {pinned}",
        results,
        REFERENCE,
        [] if sys.platform == "win32" else BOUNDS,
    )
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
