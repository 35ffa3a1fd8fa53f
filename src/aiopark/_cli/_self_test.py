"""The self-tests of doctor: real waits, real wakes, real deadlines, on this machine."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Final

import aiopark
from aiopark._cli._check import judge_deadline
from aiopark._cli._found import run_on
from aiopark._loops import running_loop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from aiopark._cli._check import Outcome

SLEEP: Final = 0.05  # seconds; several ticks of the coarsest clock, Windows' 15.6 ms


def self_tests(loops: Iterable[str], *, threads: bool) -> dict[str, Callable[[], Outcome]]:
    """Give the self-tests by name: two for threads, if there is a backend to park them, and two for each loop."""
    tests: dict[str, Callable[[], Outcome]] = {}
    if threads:
        tests |= {"thread wake": wake_thread, "thread deadline": deadline_of_thread}
    for loop in loops:
        tests[f"{loop} wake"] = partial(wake_task, loop)
        tests[f"{loop} deadline"] = partial(deadline_of_task, loop)
    return tests


class _Later:
    """A thread that unparks after SLEEP: whoever parks meanwhile really sleeps."""

    def __init__(self, unpark: Callable[[], object]) -> None:
        self._unpark = unpark
        self._at = 0.0
        self._start = time.perf_counter()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        time.sleep(SLEEP)
        self._at = time.perf_counter()
        self._unpark()

    def judge(self) -> Outcome:
        """Judge the sleep that ends now."""
        end = time.perf_counter()
        self._thread.join()
        if end < self._at:
            return False, f"woke after {(end - self._start) * 1e3:.1f} ms, unparked by nobody"
        return (
            True,
            f"slept {(self._at - self._start) * 1e3:.1f} ms, ran {(end - self._at) * 1e6:.0f} µs after unpark()",
        )


def wake_thread() -> Outcome:
    """Park this thread in the kernel; another one unparks it."""
    parker = aiopark.ThreadParker()
    later = _Later(parker.unpark)
    busy = time.thread_time()
    parker.park()
    busy = time.thread_time() - busy
    holds, text = later.judge()
    if busy > SLEEP / 2:
        return False, f"{text}, but did not sleep: it used {busy * 1e3:.1f} ms of CPU time"
    return holds, text


def deadline_of_thread() -> Outcome:
    """Park this thread until a deadline that nobody cuts short."""
    start = time.monotonic()
    unparked = aiopark.ThreadParker().park_until(start + SLEEP)
    return judge_deadline(start, start + SLEEP, time.monotonic(), unparked=unparked)


def wake_task(loop: str) -> Outcome:
    """Park a task; a thread unparks it."""

    async def park() -> Outcome:
        parker = aiopark.Parker()
        later = _Later(parker.unpark)
        await parker.park()
        return later.judge()

    return run_on(loop, park)


def deadline_of_task(loop: str) -> Outcome:
    """Park a task until a deadline that nobody cuts short."""

    async def park() -> Outcome:
        clock = running_loop().time
        start = clock()
        unparked = await aiopark.Parker().park_until(start + SLEEP)
        return judge_deadline(start, start + SLEEP, clock(), unparked=unparked)

    return run_on(loop, park)
