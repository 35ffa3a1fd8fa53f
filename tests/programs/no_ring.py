"""A thread takes over where the ring cannot be had: the loop watches no "eventfd", or there is no "descriptor" left."""

import asyncio
import os
import sys
import threading

import aiopark


class NoDescriptors(asyncio.SelectorEventLoop):
    def add_reader(self, *_):
        raise NotImplementedError


async def thread_takes_over():
    word = aiopark.Word()
    with aiopark.Parker(word) as parker:
        timer = threading.Timer(0.02, word.unpark)
        timer.start()
        assert await parker.park_timeout(30)
        timer.join()
        assert aiopark.statistics().waiter_threads == 1
        assert f"aiopark-watch-{word.address:#x}" in {thread.name for thread in threading.enumerate()}
    assert aiopark.statistics().waiter_threads == 0
    word.close()


async def without_descriptors():
    import resource

    await aiopark.Parker().park_timeout(0.001)  # hangs the doorbell
    assert aiopark.statistics().watcher
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    taken = []
    try:
        while True:
            taken.append(os.dup(0))
    except OSError:
        pass
    try:
        await thread_takes_over()
    finally:
        for descriptor in taken:
            os.close(descriptor)


if sys.argv[1] == "eventfd":
    with asyncio.Runner(loop_factory=NoDescriptors) as runner:
        runner.run(thread_takes_over())
else:
    asyncio.run(without_descriptors())
