"""Random calls, cancellations and timeouts of three loops and a thread: each function ran once or never, each caller
heard the truth, and no thread is left.

AIOPARK_STORM=100000 makes so many calls.
"""

from __future__ import annotations

import concurrent.futures
import os
import random
import threading
import time

import anyio
import pytest
from support import PATIENCE, PLAIN_WORLDS, Crew, block_until, installed, switch_interval

import aiopark
from aiopark._worker._crew import WorkerThread

CALLS = int(os.environ.get("AIOPARK_STORM", "3000"))


class Refused(Exception):  # noqa: N818  # it is none
    """What every seventh function raises."""


class Storm:
    """What happened to each call; a place of a list is written by one thread at a time."""

    def __init__(self, calls: int) -> None:
        self.began = [0] * calls
        self.ended = [0] * calls
        self.interrupted = [0] * calls
        self.dropped = [0] * calls
        self.abandoned: set[int] = set()
        self.heard: dict[int, str] = {}

    def function(self, number: int, seconds: float) -> int:
        self.began[number] += 1
        if seconds:
            time.sleep(seconds)
        self.ended[number] += 1
        if number % 7 == 0:
            raise Refused(number)
        return number

    def drop(self, number: int) -> None:
        self.dropped[number] += 1

    def interrupt(self, number: int) -> None:
        self.interrupted[number] += 1

    def hear(self, number: int, what: str, error: BaseException | None = None) -> None:
        assert number not in self.heard
        self.heard[number] = what
        if what == "given up" and number not in self.abandoned:
            assert self.began[number] == self.ended[number], "it still runs behind the caller's back"
            if self.ended[number] and number % 7 == 0:
                assert isinstance(error.__context__, Refused)

    def check(self) -> None:
        assert len(self.heard) == len(self.began)
        for number, what in self.heard.items():
            assert self.began[number] == self.ended[number] <= 1
            fails = number % 7 == 0
            if what == "result":
                assert (self.ended[number], self.dropped[number], fails) == (1, 0, False)
            elif what == "exception":
                assert (self.ended[number], fails) == (1, True)
            elif what == "never":
                assert self.began[number] == 0
            elif what == "given up":
                assert self.dropped[number] == (self.ended[number] if not fails else 0)
            assert self.interrupted[number] <= (what == "given up")


async def call(storm, workers, number, rng):
    """Call as a task does."""
    worker = rng.choice(workers)
    if rng.random() < 0.1:
        storm.abandoned.add(number)
    raised = None
    with anyio.move_on_after(rng.choice([-1, 0, 1e-4, 1e-3, 5e-3, PATIENCE, PATIENCE])) as scope:
        try:
            result = await worker.run(
                storm.function, number, rng.choice([0, 0, 0, 1e-4, 1e-3]),
                interrupt=lambda: storm.interrupt(number), on_dropped=storm.drop,
                abandon_on_cancel=number in storm.abandoned,
            )  # fmt: skip
        except Refused as error:
            assert error.args == (number,)
            storm.hear(number, "exception")
        except BaseException as error:
            raised = error
            storm.hear(number, "given up", error)
            raise
        else:
            assert result == number
            storm.hear(number, "result")
    assert (raised is not None) <= scope.cancelled_caught


async def tasks(storm, workers, numbers, seed):
    rng = random.Random(seed)
    while numbers:
        async with anyio.create_task_group() as group:
            for number in numbers[:50]:
                group.start_soon(call, storm, workers, number, rng)
        del numbers[:50]


def threads(storm, workers, numbers, seed):
    """Call, and submit, as threads do."""
    rng = random.Random(seed)
    for number in numbers:
        worker, seconds = rng.choice(workers), rng.choice([0, 0, 1e-4])
        try:
            if rng.random() < 0.5:
                timeout = rng.choice([-1, 1e-4, 1e-3, None])
                result = worker.blocking_run(
                    storm.function, number, seconds, timeout=timeout,
                    interrupt=lambda number=number: storm.interrupt(number), on_dropped=storm.drop,
                )  # fmt: skip
            else:
                future = worker.submit(storm.function, number, seconds)
                if rng.random() < 0.5:
                    future.cancel()
                result = future.result(PATIENCE)
        except Refused:
            storm.hear(number, "exception")
        except TimeoutError as error:
            storm.hear(number, "given up", error)
        except concurrent.futures.CancelledError:
            storm.hear(number, "never")
        else:
            assert result == number
            storm.hear(number, "result")


@pytest.mark.timeout(120 + CALLS / 50)
def test_each_function_ran_once_or_never_and_each_caller_heard_the_truth():
    storm = Storm(CALLS)
    workers = [aiopark.Worker(), aiopark.Worker(limit=10**9), aiopark.WorkerPool(3)]
    worlds = installed(PLAIN_WORLDS)
    kinds = len(worlds) + 1
    with switch_interval(1e-5):
        with Crew() as crew:
            for kind, world in enumerate(worlds):
                crew.start(world.run, tasks, storm, workers, list(range(kind, CALLS, kinds)), kind)
            crew.start(threads, storm, workers, list(range(kinds - 1, CALLS, kinds)), kinds)
            for thread in crew.threads:
                thread.join()
        for worker in workers:
            statistics = worker.statistics()
            assert statistics.queued - len(storm.abandoned) <= 0
            worker.shutdown()
            assert worker.statistics() == aiopark.WorkerStatistics(0, 0, 0, 0, worker.statistics().limit)
    block_until(lambda: not any(isinstance(thread, WorkerThread) for thread in threading.enumerate()))
    assert aiopark.statistics().parked_tasks == 0
    storm.check()
    if CALLS >= 1000:
        assert {"result", "exception", "given up", "never"} == set(storm.heard.values())
        assert any(storm.dropped)
        assert any(storm.interrupted)
