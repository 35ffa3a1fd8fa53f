"""The interpreter ends promptly, with nothing on stderr, whatever is still parked."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
from support import NO_TRIO, UNDER_WINE

PREAMBLE = """
import asyncio, logging, sys, threading, time
import aiopark
from aiopark._owner import OWNER

# Said of any callback that another thread held up for 0.1 seconds.
logging.getLogger("asyncio").addFilter(lambda record: " took " not in record.msg)

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


@pytest.mark.parametrize("case", CASES)
def test_exit(case):
    if case == "trio" and UNDER_WINE:
        pytest.skip(NO_TRIO)
    if case in {UVLOOP, "trio"}:
        pytest.importorskip(case)
    code = PREAMBLE + textwrap.dedent(CASES[case])
    run = subprocess.run(
        [sys.executable, "-X", "dev", "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")
