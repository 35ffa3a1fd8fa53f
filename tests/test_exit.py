"""The interpreter ends promptly, with nothing on stderr, whatever is still parked."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest
from support import NO_TRIO, UNDER_WINE, WATCHERS

PREAMBLE = """
import asyncio, logging, sys, threading, time
import aiopark
from aiopark._owner import OWNER

# Said of any callback that another thread held up for 0.1 seconds. A filter that keeps none of these globals alive.
logging.getLogger("asyncio").addFilter(eval('lambda record: " took " not in record.msg', {}))

def until(condition):
    while not condition():
        time.sleep(0.001)

parkers = [aiopark.Parker() for _ in range(3)]
thread_parkers = [aiopark.ThreadParker() for _ in range(3)]
for thread_parker in thread_parkers:
    threading.Thread(target=thread_parker.park, daemon=True).start()
until(lambda: all(OWNER in one.word._slot for one in thread_parkers))
"""

UVLOOP = "winloop" if sys.platform == "win32" else "uvloop"

CASES = {
    "threads parked": "",
    "a daemon thread runs a loop with parked tasks": """
        async def main():
            await asyncio.gather(*(parker.park() for parker in parkers))
        threading.Thread(target=asyncio.run, args=(main(),), daemon=True).start()
        until(lambda: all(OWNER in parker._cell for parker in parkers))
    """,
    "tasks parked when asyncio.run ends": """
        async def main():
            tasks = [asyncio.create_task(parker.park()) for parker in parkers]
            await asyncio.sleep(0)
        asyncio.run(main())
    """,
    "a task dies of sys.exit while others are parked": """
        async def main():
            tasks = [asyncio.create_task(parker.park_timeout(3600)) for parker in parkers]
            await asyncio.sleep(0)
            sys.exit(0)
        asyncio.run(main())
    """,
    "threads go on unparking": """
        def storm():
            while True:
                for parker in parkers + thread_parkers:
                    parker.unpark()
        threading.Thread(target=storm, daemon=True).start()
        async def main():
            for _ in range(100):
                await parkers[0].park()
        asyncio.run(main())
    """,
    "an object that unparks is finalized at the very end": """
        class Last:
            def __del__(self):
                for parker in parkers + thread_parkers:
                    parker.unpark()
        async def main():
            await parkers[0].park_timeout(0.001)
        asyncio.run(main())
        last = Last()
    """,
    UVLOOP: f"""
        import {UVLOOP} as uvloop
        async def main():
            tasks = [asyncio.create_task(parker.park()) for parker in parkers]
            await parkers[0].park_timeout(0) if False else await asyncio.sleep(0.001)
        uvloop.run(main())
    """,
    "trio": """
        import trio
        async def main():
            async with trio.open_nursery() as nursery:
                for parker in parkers:
                    nursery.start_soon(parker.park)
                await trio.sleep(0.001)
                nursery.cancel_scope.cancel()
        trio.run(main)
    """,
}

ON_WORDS = """
    word = aiopark.Word()
    parker, other = aiopark.Parker(word), aiopark.Parker(aiopark.Word())
    async def watched(parker):
        while aiopark.statistics().watched_words == 0:
            assert await parker.park_timeout(0.001) is False
"""

WORD_CASES = {
    "a task parked in a loop that stands still": """
        loop = asyncio.new_event_loop()
        task = loop.create_task(parker.park())
        loop.run_until_complete(watched(other))
        task._log_destroy_pending = False
        import ctypes
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(loop))  # its own finalizer has things to say
    """,
    "a task parked inside of a with block": """
        async def work():
            with aiopark.Parker(aiopark.Word()) as inner:
                await inner.park()
        loop = asyncio.new_event_loop()
        task = loop.create_task(work())
        loop.run_until_complete(watched(other))
        task._log_destroy_pending = False
        import ctypes
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(loop))  # its own finalizer has things to say
    """,
    "a task parked when asyncio.run ends": """
        async def main():
            task = asyncio.create_task(parker.park())
            await watched(other)
        asyncio.run(main())
    """,
    "a daemon thread runs a loop with a parked task": """
        threading.Thread(target=lambda: asyncio.run(parker.park()), daemon=True).start()
        until(lambda: OWNER in parker._cell and aiopark.statistics().watched_words == 1)
    """,
    "a task dies of sys.exit while others are parked": """
        async def main():
            task = asyncio.create_task(parker.park())
            await watched(other)
            sys.exit(0)
        asyncio.run(main())
    """,
    "threads go on unparking": """
        def storm():
            while True:
                word.unpark()
        threading.Thread(target=storm, daemon=True).start()
        async def main():
            for _ in range(100):
                await parker.park()
        asyncio.run(main())
    """,
    "a finalizer closes at the very end": """
        class Service:
            def __init__(self):
                self.parker = aiopark.Parker(aiopark.Word())
            def __del__(self):
                self.parker.close()
        service, circle = Service(), Service()
        circle.itself = circle
        asyncio.run(watched(service.parker))
        asyncio.run(circle.parker.park_timeout(0.01))
    """,
    "closed by atexit": """
        import atexit
        atexit.register(parker.close)
        asyncio.run(watched(parker))
    """,
    UVLOOP: f"""
        import {UVLOOP} as uvloop
        async def main():
            task = asyncio.create_task(parker.park())
            await watched(other)
        uvloop.run(main())
    """,
    "trio": """
        import trio
        async def main():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(parker.park)
                await watched(other)
                nursery.cancel_scope.cancel()
        trio.run(main)
    """,
}


@pytest.mark.parametrize("watcher", WATCHERS)
@pytest.mark.parametrize("case", WORD_CASES)
def test_exit_with_words(case, watcher):
    exits(case, textwrap.dedent(ON_WORDS) + textwrap.dedent(WORD_CASES[case]), AIOPARK_WATCHER=watcher)


@pytest.mark.parametrize("case", CASES)
def test_exit(case):
    exits(case, textwrap.dedent(CASES[case]))


def exits(case, program, **environment):
    if case == "trio" and UNDER_WINE:
        pytest.skip(NO_TRIO)
    if case in {UVLOOP, "trio"}:
        pytest.importorskip(case)
    run = subprocess.run(
        [sys.executable, "-X", "dev", "-c", PREAMBLE + program],
        env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (run.returncode, run.stderr) == (0, "")
