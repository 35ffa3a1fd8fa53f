"""Ctrl-C on a console of Windows, whose name for it is an event: the argument names the case."""

import asyncio
import os
import signal
import sys
import threading
import time

import aiopark

signal.signal(signal.SIGINT, signal.default_int_handler)
parker, task_parker = aiopark.ThreadParker(), aiopark.Parker()


def press_when(parked):
    def press():
        while not parked():
            time.sleep(0.001)
        time.sleep(0.02)  # it is in the system call now, most likely
        os.kill(0, signal.CTRL_C_EVENT)

    threading.Thread(target=press, daemon=True).start()


def main_thread_parks():
    return aiopark.__path__[0] in sys._current_frames()[threading.main_thread().ident].f_code.co_filename


def task_parks():
    return aiopark.statistics().parked_tasks == 1


def interrupted(park):
    """Park the main thread."""
    press_when(main_thread_parks)
    try:
        park()
    except KeyboardInterrupt:
        print("interrupted")
    parker.unpark()
    print(parker.park_timeout(0))


def interrupted_task(park):
    """Park the main task."""

    async def main():
        press_when(task_parks)
        await park()

    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        print("interrupted")
    task_parker.unpark()
    print(asyncio.run(task_parker.park_timeout(0)))


def handler_unparks():
    signal.signal(signal.SIGINT, lambda *_: parker.unpark())
    press_when(main_thread_parks)
    print(parker.park_timeout(100))


def handler_unparks_task():
    async def main():
        signal.signal(signal.SIGINT, lambda *_: task_parker.unpark())
        press_when(task_parks)
        return await task_parker.park_timeout(100)

    print(asyncio.run(main()))


CASES = {
    "park": lambda: interrupted(parker.park),
    "park_timeout": lambda: interrupted(lambda: parker.park_timeout(100)),
    "task parks": lambda: interrupted_task(task_parker.park),
    "task parks with timeout": lambda: interrupted_task(lambda: task_parker.park_timeout(100)),
    "handler unparks": handler_unparks,
    "handler unparks task": handler_unparks_task,
}

CASES[sys.argv[1]]()
