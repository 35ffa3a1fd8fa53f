"""Park a task on a word, have a thread unpark it, and print what watched the word meanwhile.

With the argument "other system" on one that has no io_uring at all.
"""

import asyncio
import ctypes
import multiprocessing.shared_memory
import os
import sys
import threading

if sys.argv[1:] == ["other system"]:
    assert ctypes
    assert multiprocessing.shared_memory  # these look at the system when they are imported
    sys.platform = "other"
    for name in ("eventfd", "eventfd_read", "eventfd_write"):
        if hasattr(os, name):
            delattr(os, name)

import aiopark


async def main():
    with aiopark.Parker(aiopark.Word()) as parker:
        while aiopark.statistics().watched_words == 0:
            assert await parker.park_timeout(0.001) is False
        statistics = aiopark.statistics()
        thread = threading.Thread(target=parker.word.unpark)
        thread.start()
        await parker.park()
        thread.join()
        print(statistics.watcher, statistics.waiter_threads)


asyncio.run(main())
