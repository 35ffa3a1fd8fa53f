"""Two threads wake each other: seconds a round trip, ThreadParker against threading.Event.

    python benchmarks/threads.py [--rounds 15] [--trips 3000]

Exit status 1 if a bound fails.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from typing import TYPE_CHECKING

from _measure import Rounds, pin_to_one_core, show

import aiopark

if TYPE_CHECKING:
    from collections.abc import Callable

REFERENCE = "threading.Event"
AIOPARK = "aiopark.ThreadParker"
LOCK = "threading.Lock, as a lower bound"

Pair = tuple["Callable[[], object]", "Callable[[], object]"]  # wait, wake


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
    start = time.perf_counter()
    for _ in range(count):
        wake_there()
        wait_here()
    elapsed = time.perf_counter() - start
    thread.join()
    return elapsed / count


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--trips", type=int, default=3000)
    arguments = parser.parse_args()
    pinned = pin_to_one_core()
    rounds: Rounds = {REFERENCE: [], AIOPARK: [], LOCK: []}
    for _ in range(arguments.rounds):
        for name, make in ((REFERENCE, event), (AIOPARK, thread_parker), (LOCK, lock)):
            rounds[name].append(trips(make, arguments.trips))
    kept = show(
        f"thread to thread and back, Python {sys.version.split()[0]}, {pinned}",
        {"threads": rounds},
        REFERENCE,
        [("threads", AIOPARK, REFERENCE, 0.90)],
    )
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
