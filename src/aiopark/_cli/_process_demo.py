"""The step of the demo in which another process unparks a task."""

from __future__ import annotations

import asyncio
import statistics
import struct
import time
from contextlib import ExitStack
from functools import partial
from multiprocessing.shared_memory import SharedMemory
from typing import TYPE_CHECKING, Final

import aiopark
from aiopark._cli._check import check
from aiopark._cli._found import run_on
from aiopark._cli._process import PATIENCE, process
from aiopark._cli._section import Line
from aiopark.lowlevel import default_backend

if TYPE_CHECKING:
    from aiopark._cli._check import Outcome

NAME: Final = "process unparks task"
ROUNDS: Final = 300
WARM_UP: Final = 50  # rounds that are not counted
PAUSE: Final = 0.0005  # seconds until the other process unparks: the task is asleep by then

# Where in the shared memory: the word of the task here, the word of the thread there, and when that unparked.
TASK, THREAD, UNPARKED, SIZE = 0, 64, 128, 192
NANOSECONDS: Final = struct.Struct("=q")


def process_unparks_task() -> Line:
    """Run the step; the line tells why if it is left out."""
    backend = default_backend()
    if not backend.supports_shared:
        return Line(NAME, f"left out: {backend.name} wakes nobody in another process")
    return check(NAME, measure)


def measure() -> Outcome:
    """Measure how a thread of another process unparks a task of this one. Blocks for `PATIENCE` at most.

    Both processes read one clock: `time.monotonic_ns()` is the system's on Linux and macOS.
    """
    with ExitStack() as stack:
        memory = SharedMemory(create=True, size=SIZE)
        stack.callback(memory.unlink)
        stack.callback(memory.close)
        buffer = memory.buf
        assert buffer is not None
        words = [aiopark.Word.from_buffer(buffer, offset) for offset in (TASK, THREAD)]
        for word in words:
            stack.callback(word.close)
            word.store(1)  # zero-filled memory reads "permit"
        parker = stack.enter_context(aiopark.Parker(words[0]))
        stack.enter_context(process(partner, memory.name))
        took = run_on("asyncio", partial(_rounds, parker, words[1], buffer))
    if len(took) < WARM_UP + ROUNDS:
        return False, f"the other process did not unpark within {PATIENCE:g} s, in round {len(took) + 1}"
    median = statistics.median(took[WARM_UP:]) / 1e3
    watcher = aiopark.statistics().watcher
    return True, f"it runs {median:.1f} µs after the other process' unpark(), median of {ROUNDS}, watched by {watcher}"


async def _rounds(parker: aiopark.Parker, other: aiopark.Word, buffer: memoryview) -> list[int]:
    """Return the nanoseconds from unpark to the task's next line, for each round that was not too late."""
    took: list[int] = []
    deadline = asyncio.get_running_loop().time() + PATIENCE
    for _ in range(WARM_UP + ROUNDS):
        other.unpark()
        if not await parker.park_until(deadline):
            break
        took.append(time.monotonic_ns() - NANOSECONDS.unpack_from(buffer, UNPARKED)[0])
    return took


def partner(name: str) -> None:
    """Unpark the task whenever the thread is unparked. In the other process."""
    memory = SharedMemory(name)
    buffer = memory.buf
    assert buffer is not None
    task, thread = (aiopark.Word.from_buffer(buffer, offset) for offset in (TASK, THREAD))
    parker = aiopark.ThreadParker(thread)
    for _ in range(WARM_UP + ROUNDS):
        if not parker.park_timeout(PATIENCE):
            break  # nobody is there any more
        time.sleep(PAUSE)
        NANOSECONDS.pack_into(buffer, UNPARKED, time.monotonic_ns())
        task.unpark()
    task.close()
    thread.close()
    memory.close()
