"""Lock ourselves into a sandbox that denies io_uring, after the first ring: "new loop", "watched" or "trio"."""

import asyncio
import ctypes
import errno
import logging
import resource
import struct
import sys
import threading
import time

import aiopark

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, FILTER = 38, 22, 2
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM


def deny_rings():
    program = [(LOAD, 0, 0, 0)]
    for number in (425, 426, 427):
        program += [(EQUAL, 0, 1, number), (RETURN, 0, 0, REFUSE)]
    program.append((RETURN, 0, 0, ALLOW))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in program))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(code)))
    library = ctypes.CDLL(None)
    assert library.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    assert library.prctl(PR_SET_SECCOMP, FILTER, header, 0, 0) == 0


async def woken(parker):
    over = []

    def unpark_once_watched():
        while aiopark.statistics().watched_words == 0 and not over:
            time.sleep(0.001)
        parker.word.unpark()

    thread = threading.Thread(target=unpark_once_watched)
    thread.start()
    try:
        assert await parker.park_timeout(30)
    finally:
        over.append(True)
        thread.join()


async def sleep_once():
    with aiopark.Parker(aiopark.Word()) as parker:
        assert await parker.park_timeout(0.001) is False
    return aiopark.statistics().watcher


async def several():
    for _ in range(3):
        with aiopark.Parker(aiopark.Word()) as parker:
            await woken(parker)
            assert aiopark.statistics().waiter_threads == 1


def processor_time():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def watched():
    reported = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    with aiopark.Parker(aiopark.Word()) as parker:
        task = asyncio.create_task(parker.park())
        await asyncio.sleep(0.01)
        deny_rings()
        threading.Thread(target=parker.word.unpark).start()
        await asyncio.wait_for(task, 30)
        before = processor_time()
        await asyncio.sleep(0.5)
        assert processor_time() - before < 0.25
        assert not reported
        await woken(parker)
    await several()


async def watched_by_trio():
    import trio

    with aiopark.Parker(aiopark.Word()) as parker:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(parker.park)
            await trio.sleep(0.01)
            deny_rings()
            threading.Thread(target=parker.word.unpark).start()
        await woken(parker)
    await several()


logging.basicConfig(format="%(name)s %(levelname)s %(message)s")
if sys.argv[1] == "new loop":
    assert asyncio.run(sleep_once()) == "uring"
    deny_rings()
    asyncio.run(several())
elif sys.argv[1] == "watched":
    asyncio.run(watched())
else:
    import trio

    trio.run(watched_by_trio)
print(aiopark.statistics().watcher)
