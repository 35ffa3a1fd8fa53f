"""Another process unparks a thread or a task: shared memory, a word a side, a real second interpreter."""

from __future__ import annotations

import math
import mmap
import subprocess
import sys
from contextlib import contextmanager

import anyio
import pytest
from support import PATIENCE, is_parked, program, until

import aiopark
from aiopark.lowlevel import default_backend

pytestmark = pytest.mark.skipif(not default_backend().supports_shared, reason="this backend reaches no other process")


class Table:
    """The memory that both see: a word a side, and the ball, which each adds 1 to."""

    def __init__(self, path):
        path.write_bytes(bytes(4096))
        self.path = path
        with path.open("r+b") as file:
            self.memory = mmap.mmap(file.fileno(), 4096)
        self.there, self.here = (aiopark.Word.from_buffer(self.memory, offset) for offset in (0, 64))
        for word in (self.there, self.here):
            word.store(1)

    @property
    def ball(self):
        return int.from_bytes(self.memory[128:136], sys.byteorder)

    @ball.setter
    def ball(self, value):
        self.memory[128:136] = value.to_bytes(8, sys.byteorder)

    def close(self):
        for word in (self.there, self.here):
            word.close()
        self.memory.close()


@pytest.fixture
def table(tmp_path):
    table = Table(tmp_path / "table")
    yield table
    table.close()


@contextmanager
def partner(table, rounds):
    with subprocess.Popen(
        program("partner", table.path, rounds), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout.readline() == "here\n", process.stderr.read()
            yield process
        finally:
            process.kill()


ROUNDS = 2000


def test_ping_pong_of_a_thread(table):
    parker = aiopark.ThreadParker(table.here)
    with partner(table, ROUNDS) as process:
        for i in range(ROUNDS):
            assert table.ball == 2 * i
            table.ball += 1
            table.there.unpark()
            assert parker.park_timeout(PATIENCE), f"the unpark of round {i} was lost"
        assert process.wait(PATIENCE) == 0, process.stderr.read()


def test_ping_pong_of_a_task(plain_world, watcher, table):
    async def main():
        with partner(table, ROUNDS) as process, aiopark.Parker(table.here) as parker:
            for i in range(ROUNDS):
                assert table.ball == 2 * i
                table.ball += 1
                table.there.unpark()
                assert await parker.park_timeout(PATIENCE), f"the unpark of round {i} was lost"
            assert process.wait(PATIENCE) == 0, process.stderr.read()

    plain_world.run(main)


def test_a_killed_process_leaves_the_word_usable_for_a_thread(table):
    parker = aiopark.ThreadParker(table.here)
    with partner(table, 10) as process:
        table.ball = 1
        table.there.unpark()
        assert parker.park_timeout(PATIENCE)
        process.kill()
        process.wait(PATIENCE)
    assert parker.park_timeout(0.001) is False
    table.there.store(1)
    with partner(table, 1):
        table.ball = 1
        table.there.unpark()
        assert parker.park_timeout(PATIENCE)


def test_a_killed_process_leaves_the_word_usable_for_a_task(plain_world, watcher, table):
    """The deadline works, too."""

    async def main():
        with aiopark.Parker(table.here) as parker:
            with partner(table, 10) as process:
                table.ball = 1
                table.there.unpark()
                assert await parker.park_timeout(PATIENCE)
                async with anyio.create_task_group() as tasks:
                    results = []

                    async def park():
                        results.append(await parker.park_timeout(0.1))

                    tasks.start_soon(park)
                    await until(lambda: is_parked(parker))
                    process.kill()
                    process.wait(PATIENCE)
                assert results == [False]
                assert parker.timed_out()
            table.there.store(1)
            with partner(table, 1):
                table.ball = 1
                table.there.unpark()
                assert await parker.park_timeout(PATIENCE)
            table.here.unpark()
            assert await parker.park_until(-math.inf)

    plain_world.run(main)
