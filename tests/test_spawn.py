"""multiprocessing spawns, on Windows always: each process starts fresh, beside what its parent has parked."""

from __future__ import annotations

import asyncio
import multiprocessing

from programs.spawned import park_both_ways
from support import PATIENCE, block_until, in_thread, is_parked

import aiopark


def test_spawned_processes_park_while_their_parent_is_parked():
    task, thread = aiopark.Parker(), aiopark.ThreadParker()
    with in_thread(thread.park), in_thread(asyncio.run, task.park()):
        block_until(lambda: is_parked(task))
        spawn = multiprocessing.get_context("spawn")
        children = [spawn.Process(target=park_both_ways) for _ in range(2)]
        for child in children:
            child.start()
        for child in children:
            child.join(PATIENCE)
        assert [child.exitcode for child in children] == [0, 0]
        assert is_parked(task)
        task.unpark()
        thread.unpark()


def test_a_task_waits_for_a_spawned_process():
    async def main():
        parker = aiopark.Parker()
        child = multiprocessing.get_context("spawn").Process(target=park_both_ways)
        child.start()
        with in_thread(lambda: (child.join(PATIENCE), parker.unpark())):
            await parker.park()
        assert child.exitcode == 0

    asyncio.run(main())
