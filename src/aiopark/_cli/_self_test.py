"""The self-tests of doctor: real waits, real wakes, real deadlines, on this machine."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Final

import aiopark
from aiopark._cli._check import judge_deadline
from aiopark._cli._found import run_on
from aiopark._cli._process import in_process
from aiopark._loops import running_loop

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiopark._cli._check import Outcome

SLEEP: Final = 0.05  # seconds; several ticks of the coarsest clock, Windows' 15.6 ms


def self_tests(loops: Sequence[str], *, threads: bool, watchers: Sequence[str]) -> dict[str, Callable[[], Outcome]]:
    """Return the self-tests by name.

    Args:
        loops: for each of them two tests, and one more if there is a watcher.
        threads: whether there is a backend to park threads, for two tests.
        watchers: those that work: the one in use first. The others are tested in a process of their own.
    """
    tests: dict[str, Callable[[], Outcome]] = {}
    if threads:
        tests |= {"thread wake": wake_thread, "thread deadline": deadline_of_thread}
    for loop in loops:
        tests[f"{loop} wake"] = partial(wake_task, loop)
        tests[f"{loop} deadline"] = partial(deadline_of_task, loop)
        if watchers:
            tests[f"{loop} word"] = partial(wake_task_on_word, loop)
    for watcher in watchers[1:]:
        tests[f"words, {watcher}"] = partial(words_with, watcher, loops)
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
    parker = aiopark.ThreadParker(aiopark.Word())  # on a word: the wait of the backend
    later = _Later(parker.unpark)
    busy = time.thread_time()
    parker.park()
    busy = time.thread_time() - busy
    holds, text = later.judge()
    if busy > SLEEP / 2:
        return False, f"{text}, but did not sleep: it used {busy * 1e3:.1f} ms of CPU time"
    return holds, text


def deadline_of_thread() -> Outcome:
    """Park this thread in the kernel until a deadline that nobody cuts short."""
    start = time.monotonic()
    unparked = aiopark.ThreadParker(aiopark.Word()).park_until(start + SLEEP)
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


def wake_task_on_word(loop: str) -> Outcome:
    """Park a task on a word; a thread unparks the word, as native code would: the Parker does not hear of it."""

    async def park() -> Outcome:
        before = aiopark.statistics().waiter_threads
        word = aiopark.Word()
        with aiopark.Parker(word) as parker:
            later = _Later(word.unpark)
            await parker.park()
            holds, text = later.judge()
            by = "a thread" if aiopark.statistics().waiter_threads > before else "a ring of the loop"
        word.close()
        return holds, f"{text}, watched by {by}"

    return run_on(loop, park)


def words_with(watcher: str, loops: Sequence[str]) -> Outcome:
    """Test words with a watcher that is not the one in use: a process chooses once."""
    return in_process({"AIOPARK_WATCHER": watcher}, partial(wake_tasks_on_words, tuple(loops)))


def wake_tasks_on_words(loops: Sequence[str]) -> Outcome:
    """Park a task on a word on each loop, as one test."""
    outcomes = {loop: wake_task_on_word(loop) for loop in loops}
    text = "; ".join(f"{loop} {text}" for loop, (_, text) in outcomes.items())
    return all(holds for holds, _ in outcomes.values()), text
