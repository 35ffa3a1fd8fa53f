"""demo: what aiopark does, in a few steps, each with what was measured in this very run."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from typing import TYPE_CHECKING, Final

import aiopark
from aiopark._cli._check import check, judge_deadline
from aiopark._cli._found import run_on, version
from aiopark._cli._process_demo import process_unparks_task
from aiopark._cli._section import Line, Section
from aiopark._watch import watcher
from aiopark.lowlevel import default_backend

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiopark._cli._check import Outcome

ROUNDS: Final = 500
WARM_UP: Final = 50  # rounds that are not counted
TASKS: Final = 1_000
DEADLINE: Final = 0.02  # seconds


def demo() -> Iterator[Section]:
    """Run all steps. Blocks for a second or two."""
    for name, choose in (("backend", default_backend), ("watcher", watcher)):
        try:
            choose()
        except (ValueError, aiopark.UnsupportedError) as error:
            yield Section("aiopark demo", [Line(name, str(error), holds=False)])
            return
    yield Section(
        f"aiopark {version('aiopark')}, threads wait with {default_backend().name}, words are watched by {watcher()}",
        [
            check("thread unparks task", _thread_unparks_task),
            check("task unparks thread", _task_unparks_thread),
            check("no thread a task", _many_tasks),
            check("task deadline", _deadline_of_task),
            check("thread deadline", _deadline_of_thread),
            check("cancellation", _cancellation),
            _on_trio(),
            process_unparks_task(),
        ],
    )


def _thread_unparks_task() -> Outcome:
    to_task, _ = round_trips("asyncio")
    return len(to_task) == ROUNDS, f"it runs {_median(to_task)} after unpark(), median of {ROUNDS}"


def _task_unparks_thread() -> Outcome:
    to_task, to_thread = round_trips("asyncio")
    text = f"the way back: {_median(to_thread)}, round trip {_round_trip(to_task, to_thread)}"
    return len(to_thread) == ROUNDS, text


def _on_trio() -> Line:
    name = "thread unparks trio"
    try:
        import trio  # noqa: F401
    except ImportError:
        return Line(name, "left out: trio is not installed (pip install 'aiopark[trio]')")
    return check(name, _thread_unparks_trio_task)


def _thread_unparks_trio_task() -> Outcome:
    to_task, to_thread = round_trips("trio")
    text = f"trio's task: {_median(to_task)}, round trip {_round_trip(to_task, to_thread)}"
    return len(to_task) == ROUNDS, text


def _median(seconds: list[float]) -> str:
    return f"{statistics.median(seconds) * 1e6:.1f} µs"


def _round_trip(there: list[float], back: list[float]) -> str:
    return _median([one + other for one, other in zip(there, back, strict=True)])


def round_trips(loop: str) -> tuple[list[float], list[float]]:
    """Measure how a task and a thread unpark each other in turn.

    Returns:
        Seconds from unpark to the next line of who was parked: of the task, and of the thread.
    """
    task, thread = aiopark.Parker(), aiopark.ThreadParker(aiopark.Word())
    to_task: list[float] = []
    to_thread: list[float] = []
    unparked = 0.0

    def in_thread() -> None:
        nonlocal unparked
        for _ in range(WARM_UP + ROUNDS):
            thread.park()
            to_thread.append(time.perf_counter() - unparked)
            unparked = time.perf_counter()
            task.unpark()

    async def in_task() -> None:
        nonlocal unparked
        for _ in range(WARM_UP + ROUNDS):
            unparked = time.perf_counter()
            thread.unpark()
            await task.park()
            to_task.append(time.perf_counter() - unparked)

    other = threading.Thread(target=in_thread, daemon=True)
    other.start()
    run_on(loop, in_task)
    other.join()
    return to_task[WARM_UP:], to_thread[WARM_UP:]


def _many_tasks() -> Outcome:
    async def park_all() -> Outcome:
        parkers = [aiopark.Parker() for _ in range(TASKS)]
        before = threading.enumerate()
        tasks = [asyncio.create_task(parker.park()) for parker in parkers]
        await asyncio.sleep(0)
        parked, meanwhile = aiopark.statistics().parked_tasks, threading.enumerate()

        def unpark_all() -> None:
            for parker in parkers:
                parker.unpark()

        start = time.perf_counter()
        other = threading.Thread(target=unpark_all, daemon=True)
        other.start()
        await asyncio.gather(*tasks)
        seconds = time.perf_counter() - start
        other.join()
        text = (
            f"{len(before)} threads before, {len(meanwhile)} while {parked:,} tasks are parked, "
            f"{threading.active_count()} after; one thread unparked all in {seconds * 1e3:.1f} ms"
        )
        return parked >= TASKS and set(meanwhile) <= set(before), text

    return run_on("asyncio", park_all)


def _deadline_of_task() -> Outcome:
    async def park() -> Outcome:
        clock = asyncio.get_running_loop().time
        start = clock()
        unparked = await aiopark.Parker().park_until(start + DEADLINE)
        return judge_deadline(start, start + DEADLINE, clock(), unparked=unparked)

    return run_on("asyncio", park)


def _deadline_of_thread() -> Outcome:
    start = time.monotonic()
    unparked = aiopark.ThreadParker(aiopark.Word()).park_until(start + DEADLINE)
    return judge_deadline(start, start + DEADLINE, time.monotonic(), unparked=unparked)


def _cancellation() -> Outcome:
    async def cancel_all() -> Outcome:
        parkers = [aiopark.Parker() for _ in range(TASKS)]
        tasks = [asyncio.create_task(parker.park()) for parker in parkers]
        await asyncio.sleep(0)
        for parker, task in zip(parkers, tasks, strict=True):
            parker.unpark()
            task.cancel()
        await asyncio.wait(tasks)
        cancelled = sum(task.cancelled() for task in tasks)
        kept = sum([await parker.park_timeout(0) for parker in parkers])
        text = f"{TASKS:,} tasks unparked and cancelled at once: {cancelled:,} cancelled, {kept:,} permits kept"
        return cancelled == kept == TASKS, f"{text}, {TASKS - kept:,} lost"

    return run_on("asyncio", cancel_all)
