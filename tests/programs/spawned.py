"""What test_spawn.py runs in processes that multiprocessing spawns."""

import asyncio
import threading

import aiopark

ROUNDS = 50


def park_both_ways() -> None:
    """Let a task and a thread of this process unpark each other."""
    task, thread = aiopark.Parker(), aiopark.ThreadParker()

    def partner() -> None:
        for _ in range(ROUNDS):
            thread.park()
            task.unpark()

    async def main() -> None:
        for _ in range(ROUNDS):
            thread.unpark()
            await task.park()
        assert await task.park_timeout(0.001) is False
        assert aiopark.statistics().parked_tasks == 0

    other = threading.Thread(target=partner)
    other.start()
    asyncio.run(main())
    other.join()
