"""Another process unparks a task: shared memory, a word a side, a real second interpreter."""

from __future__ import annotations

import math
import subprocess
import sys
from contextlib import contextmanager
from multiprocessing.shared_memory import SharedMemory

import anyio
import pytest
from support import PATIENCE, is_parked, until

import aiopark
from aiopark.lowlevel import default_backend

pytestmark = [
    pytest.mark.usefixtures("watcher"),
    pytest.mark.skipif(not default_backend().supports_shared, reason="this backend reaches no other process"),
]

# The other process: word 0 is its own, word 1 the task's. It says when it is there.
PARTNER = """
import struct, sys
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
resource_tracker.register = lambda *_: None  # the test unlinks it
import aiopark

memory = SharedMemory(sys.argv[1])
here, there = (aiopark.Word.from_buffer(memory.buf, offset) for offset in (0, 4))
parker = aiopark.ThreadParker(here)
print("here", flush=True)
for i in range(int(sys.argv[2])):
    parker.park()
    (ball,) = struct.unpack_from("q", memory.buf, 8)
    assert ball == 2 * i + 1, (i, ball)
    struct.pack_into("q", memory.buf, 8, ball + 1)
    there.unpark()
parker.park()
for word in (here, there):
    word.close()
memory.close()
"""


@contextmanager
def shared_words():
    memory = SharedMemory(create=True, size=16)
    try:
        words = [aiopark.Word.from_buffer(memory.buf, offset) for offset in (0, 4)]
        for word in words:
            word.store(1)
        yield memory, words
        for word in words:
            word.close()
    finally:
        memory.close()
        memory.unlink()


@contextmanager
def partner(memory, rounds):
    arguments = [sys.executable, "-c", PARTNER, memory.name, str(rounds)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "here\n", process.stderr.read()
            yield process
        finally:
            process.kill()


def test_ping_pong(plain_world):
    rounds = 2000

    async def main():
        with shared_words() as (memory, (there, here)), partner(memory, rounds) as process:
            ball = memory.buf[8:16].cast("q")
            with aiopark.Parker(here) as parker:
                for i in range(rounds):
                    assert ball[0] == 2 * i
                    ball[0] += 1
                    there.unpark()
                    assert await parker.park_timeout(PATIENCE), f"the unpark of round {i} was lost"
            assert ball[0] == 2 * rounds
            ball.release()
            there.unpark()
            assert process.wait(PATIENCE) == 0, process.stderr.read()

    plain_world.run(main)


def test_a_process_that_is_killed(plain_world):
    """The deadline works, and the word stays usable."""

    async def main():
        with shared_words() as (memory, (there, here)), aiopark.Parker(here) as parker:
            with partner(memory, 10) as process:
                set_ball(memory, 1)
                there.unpark()
                assert await parker.park_timeout(PATIENCE)
                async with anyio.create_task_group() as tasks:
                    results = []

                    async def park():
                        results.append(await parker.park_timeout(0.5))

                    tasks.start_soon(park)
                    await until(lambda: is_parked(parker))
                    process.kill()
                    process.wait(PATIENCE)
                assert results == [False]
                assert parker.timed_out()
            there.store(1)
            set_ball(memory, 1)
            with partner(memory, 1):
                there.unpark()
                assert await parker.park_timeout(PATIENCE)
            here.unpark()
            assert await parker.park_until(-math.inf)

    plain_world.run(main)


def set_ball(memory, value):
    memory.buf[8:16] = value.to_bytes(8, sys.byteorder)
