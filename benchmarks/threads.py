"""Two threads wake each other: seconds a round trip.

Neither side ever finds its permit in store: each wakes the other only after it was woken itself, and then sleeps.
Of a sample's trips the mean counts, but for the slowest tenth.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from functools import partial

from _report import Row
from _runner import NO_LOOP, Benchmark, main, mean_step

import aiopark

EVENT = "threading.Event"
AIOPARK = "aiopark.ThreadParker"
LOCK = "threading.Lock, the least there is"

Pair = tuple[Callable[[], object], Callable[[], object]]  # wait, wake


def event() -> Pair:
    one = threading.Event()

    def wait() -> None:
        one.wait()
        one.clear()

    return wait, one.set


def thread_parker() -> Pair:
    one = aiopark.ThreadParker()
    return one.park, one.unpark


def lock() -> Pair:
    one = threading.Lock()
    one.acquire()
    return one.acquire, one.release


def trips(make: Callable[[], Pair], count: int) -> float:
    (wait_there, wake_there), (wait_here, wake_here) = make(), make()

    def partner() -> None:
        for _ in range(count):
            wait_there()
            wake_here()

    thread = threading.Thread(target=partner)
    thread.start()
    time.sleep(0.002)
    now = time.perf_counter
    ends = [now()]
    for _ in range(count):
        wake_there()
        wait_here()
        ends.append(now())
    thread.join()
    return mean_step(ends)


BENCHMARKS = [
    Benchmark(
        title="threads: a thread wakes a thread, which wakes it",
        contestants={
            EVENT: partial(trips, event),
            AIOPARK: partial(trips, thread_parker),
            LOCK: partial(trips, lock),
        },
        rows=[
            Row(contestant=AIOPARK, against=EVENT, goal={NO_LOOP: 0.65}, bound={NO_LOOP: 0.95}),
            Row(contestant=LOCK, against=EVENT),
        ],
        count=1000,
        rounds=40,
        loops=[NO_LOOP],
    )
]

if __name__ == "__main__":
    sys.exit(main(*BENCHMARKS))
