"""Ctrl-C on a console of Windows: what ends a park of the main thread, which no system call of Windows lets through."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from support import PATIENCE, REAL_BACKENDS

pytestmark = pytest.mark.skipif(sys.platform != "win32", reason="Ctrl-C is a signal here, see test_thread_parker.py")

PREAMBLE = """
import asyncio, os, signal, sys, threading, time
import aiopark
from aiopark._owner import OWNER

signal.signal(signal.SIGINT, signal.default_int_handler)
parker, task_parker = aiopark.ThreadParker(), aiopark.Parker()

def press(parked):
    while not parked():
        time.sleep(0.001)
    time.sleep(0.02)  # it is in the system call now, most likely
    os.kill(0, signal.CTRL_C_EVENT)

def press_when(parked):
    threading.Thread(target=press, args=(parked,), daemon=True).start()
"""

KEYBOARD_INTERRUPT = """
press_when(lambda: OWNER in parker.word._slot)
try:
    {park}
except KeyboardInterrupt:
    print("interrupted")
parker.unpark()
print(parker.park_timeout(0))
"""

HANDLER_UNPARKS = """
signal.signal(signal.SIGINT, lambda *_: parker.unpark())
press_when(lambda: OWNER in parker.word._slot)
print(parker.park_timeout(100))
"""

ASYNCIO = """
async def main():
    press_when(lambda: OWNER in task_parker._cell)
    await task_parker.{park}
try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted")
task_parker.unpark()
print(asyncio.run(task_parker.park_timeout(0)))
"""

HANDLER_UNPARKS_A_TASK = """
async def main():
    signal.signal(signal.SIGINT, lambda *_: task_parker.unpark())
    press_when(lambda: OWNER in task_parker._cell)
    return await task_parker.park_timeout(100)
print(asyncio.run(main()))
"""


def run(code: str, **environment: str) -> list[str]:
    """Run it with a console of its own, so that its Ctrl-C reaches nobody else; give the lines that it printed."""
    assert sys.platform == "win32"
    done = subprocess.run(
        [sys.executable, "-c", PREAMBLE + code],
        env={**os.environ, **environment},
        creationflags=subprocess.CREATE_NO_WINDOW,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize("park", ["parker.park()", "parker.park_timeout(100)"])
@pytest.mark.parametrize("name", REAL_BACKENDS)
def test_ctrl_c_ends_a_park_of_the_main_thread(name: str, park: str) -> None:
    assert run(KEYBOARD_INTERRUPT.format(park=park), AIOPARK_BACKEND=name) == ["interrupted", "True"]


@pytest.mark.parametrize("name", REAL_BACKENDS)
def test_a_handler_of_ctrl_c_unparks_the_thread_that_it_interrupts(name: str) -> None:
    assert run(HANDLER_UNPARKS, AIOPARK_BACKEND=name) == ["True"]


@pytest.mark.parametrize("park", ["park()", "park_timeout(100)"])
def test_ctrl_c_cancels_the_parked_main_task(park: str) -> None:
    assert run(ASYNCIO.format(park=park)) == ["interrupted", "True"]


def test_a_handler_of_ctrl_c_unparks_a_task() -> None:
    assert run(HANDLER_UNPARKS_A_TASK) == ["True"]
