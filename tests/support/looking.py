"""What is parked, asleep, owned or watched right now."""

from __future__ import annotations

import asyncio
import ctypes
import functools
import gc
import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import aiopark
from aiopark._os import Portable, _portable
from aiopark._word import cell_of
from support.waiting import block_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


_TASKS = Path("/proc/self/task")


def is_parked(parker: aiopark.Parker) -> bool:
    return parker._cell.owner() is not None


async def parked_task(parker: aiopark.Parker) -> asyncio.Task[None]:
    """Return a task of this loop of asyncio that is parked."""
    task = asyncio.create_task(parker.park())
    while not is_parked(parker):
        await asyncio.sleep(0)
    return task


def is_owned(word: aiopark.Word) -> bool:
    """Whether something parks on the word, or watches it."""
    return cell_of(word).current_lease() is not None


def waiting(word: aiopark.Word) -> int:
    """Count the tasks in wait_while."""
    groups = (reference() for reference in list(cell_of(word).groups.values()))
    return sum(len(group.waiters) for group in groups if group is not None)


def nothing_is_watched() -> bool:
    statistics = aiopark.statistics()
    return statistics.watched_words == statistics.waiter_threads == 0


def block_until_nothing_is_watched() -> None:
    if not nothing_is_watched():
        gc.collect()  # what was left to the collector
        block_until(nothing_is_watched)


async def sleep_until_watched(parker: aiopark.Parker) -> None:
    """Park until the word is watched: on a busy machine a short timeout is over before the task sleeps."""
    while not aiopark.statistics().watched_words:
        assert await parker.park_timeout(0.001) is False


def asleep(address: int) -> int:
    """Count the threads that sleep on the address.

    One that was just woken may be counted for another moment: wait for the number to fall, with `block_until`.
    """
    portable = sum(waiter.address == address for waiter in _portable._bucket(address).copy())
    offset = _emulated_offset()
    return portable + (_asleep_elsewhere(address) if offset is None else _asleep_linux(address + offset))


def is_asleep(parker: aiopark.ThreadParker) -> bool:
    return asleep(parker.word.address) == 1


@functools.cache
def _emulated_offset() -> int | None:
    """Return what Linux adds to the addresses of this program, None if it does not tell, or this is not Linux.

    It is 0 but for a 32-bit program under qemu, whose memory lies anywhere in that of qemu, and for the kernel that is
    where the program sleeps. The call by which this thread reads about itself shows it: its buffer is in our hands.
    """
    buffer = ctypes.create_string_buffer(1024)
    try:
        with (_TASKS / str(threading.get_native_id()) / "syscall").open("rb", buffering=0) as file:
            descriptor = file.fileno()
            read = ctypes.CDLL(None)["read"]
            read.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
            if read(descriptor, buffer, len(buffer)) <= 0:
                return None
    except OSError:  # no /proc, or a kernel without this file
        return None
    call = buffer.value.split()  # number, arguments
    if [int(argument, 16) for argument in call[1:4:2]] != [descriptor, len(buffer)]:
        return None
    return int(call[2], 16) - ctypes.addressof(buffer)


def _asleep_linux(address: int) -> int:
    count = 0
    for task in _TASKS.iterdir():
        try:
            call = (task / "syscall").read_text().split()  # number, arguments; or "running"
        except OSError:  # the thread has ended
            continue
        count += len(call) > 1 and int(call[1], 16) == address
    return count


def _asleep_elsewhere(address: int) -> int:
    """No system but Linux tells where a thread sleeps: take those whose frame stays inside a backend's wait."""

    def frames(frame: FrameType | None) -> Iterator[FrameType]:
        while frame is not None:
            yield frame
            frame = frame.f_back

    def waiting() -> dict[int, tuple[FrameType, int]]:
        return {
            thread: (frame, frame.f_lasti)
            for thread, innermost in sys._current_frames().items()
            for frame in frames(innermost)
            if frame.f_code.co_name == "wait"
            and f"{os.sep}_os{os.sep}" in frame.f_code.co_filename
            and frame.f_locals.get("address") == address
            and not isinstance(frame.f_locals.get("self"), Portable)
        }

    stable = waiting()
    for _ in range(20):
        time.sleep(0.002)
        now = waiting()
        stable = {thread: where for thread, where in stable.items() if now.get(thread) == where}
    return len(stable)
