"""The interpreter ends while all kinds of things are parked: the arguments name what to leave so.

Nothing here may say a word. Three threads are parked in each case.
"""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import logging
import sys
import threading
import time

import aiopark

# Said of any callback that another thread held up for 0.1 seconds. A filter that keeps none of these globals alive.
logging.getLogger("asyncio").addFilter(eval('lambda record: " took " not in record.msg', {}))

parkers = [aiopark.Parker() for _ in range(3)]
thread_parkers = [aiopark.ThreadParker() for _ in range(3)]
kept = []  # until the interpreter ends


def until(condition):
    while not condition():
        time.sleep(0.001)


def new_parker():
    return aiopark.Parker(aiopark.Word())


async def watched(parker=None):
    """Let other tasks run, and park on a word until it is watched."""
    if parker is None:
        parker = new_parker()
        kept.append(parker)
    assert await parker.park_timeout(0.01) is False
    while aiopark.statistics().watched_words == 0:
        assert await parker.park_timeout(0.001) is False


async def park_all(sleep, *others):
    """Leave tasks parked when the loop ends."""
    kept.extend(asyncio.create_task(parker.park()) for parker in (*parkers, *others))
    await sleep()


def a_loop_that_ended():
    asyncio.run(park_all(lambda: asyncio.sleep(0)))


def a_loop_that_ended_with_words():
    asyncio.run(park_all(watched, new_parker()))


def a_daemon_threads_loop():
    async def main():
        await asyncio.gather(*(parker.park() for parker in (*parkers, on_word)))

    on_word = new_parker()
    threading.Thread(target=asyncio.run, args=(main(),), daemon=True).start()
    until(lambda: aiopark.statistics().parked_tasks == 4 and aiopark.statistics().watched_words >= 1)


def a_loop_that_stands_still():
    async def with_block():
        with new_parker() as parker:
            await parker.park()

    loop = asyncio.new_event_loop()
    tasks = [loop.create_task(new_parker().park()), loop.create_task(with_block())]
    loop.run_until_complete(watched())
    for task in tasks:
        task._log_destroy_pending = False
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(loop))  # its own finalizer has things to say
    kept.extend(tasks)


def sys_exit_in_a_task():
    async def main():
        kept.extend(asyncio.create_task(parker.park_timeout(3600)) for parker in parkers)
        kept.append(asyncio.create_task(new_parker().park()))
        await watched()
        sys.exit(0)

    asyncio.run(main())


def a_storm_of_unparks():
    word = aiopark.Word()

    def storm():
        while True:
            for one in (*parkers, *thread_parkers, word):
                one.unpark()

    async def main():
        parker = aiopark.Parker(word)
        kept.append(parker)
        for _ in range(50):
            await parkers[0].park()
            await parker.park()

    threading.Thread(target=storm, daemon=True).start()
    asyncio.run(main())


class Unparks:
    def __del__(self, parkers=(*parkers, *thread_parkers)):  # the globals may be gone (free-threaded builds)
        for parker in parkers:
            parker.unpark()


class Closes:
    def __init__(self):
        self.parker = new_parker()

    def __del__(self):
        self.parker.close()


def finalizers():
    global unparks, closes, circle  # they die with the module
    unparks, closes, circle = Unparks(), Closes(), Closes()
    circle.itself = circle
    by_atexit = new_parker()
    atexit.register(by_atexit.close)
    asyncio.run(parkers[0].park_timeout(0.001))
    for parker in (closes.parker, circle.parker, by_atexit):
        asyncio.run(watched(parker))


def another_loop():
    if sys.platform == "win32":
        from winloop import run
    else:
        from uvloop import run
    run(park_all(lambda: asyncio.sleep(0.001)))
    run(park_all(watched, new_parker()))


def trio():
    import trio

    async def main():
        async with trio.open_nursery() as nursery:
            for parker in (*parkers, new_parker()):
                nursery.start_soon(parker.park)
            await watched()
            nursery.cancel_scope.cancel()

    trio.run(main)


def inside_aiopark(thread):
    """Whether the thread is in a park."""
    return aiopark.__path__[0] in sys._current_frames()[thread.ident].f_code.co_filename


def main():
    threads = [threading.Thread(target=parker.park, daemon=True) for parker in thread_parkers]
    for thread in threads:
        thread.start()
    until(lambda: all(map(inside_aiopark, threads)))
    for case in sys.argv[1:]:
        globals()[case]()


if __name__ == "__main__":
    main()
