"""How a thread sleeps and is woken without a word: on a lock of Python.

The sleeper holds the lock and acquires it once more. A release is a hint; a second one, before the sleeper has
looked, is none too many. Measured, two threads that unpark each other in turn: 0.5 to 0.7 of `threading.Event`'s
time, where a word and the kernel's own wait through ctypes take 0.9 to 1.2.
"""

from __future__ import annotations

import _thread
import math
import sys
import threading
import time
from typing import Final

from aiopark import _fork
from aiopark._os._backend import LONGEST_WAIT
from aiopark._os._windows import MAIN_THREAD_SLICE


class ThreadWaiter:
    """One sleep of one thread. See `Waiter`."""

    __slots__ = ("_epoch", "_lock", "_thread", "since")

    def __init__(self) -> None:
        self._lock: Final = _thread.allocate_lock()
        self._lock.acquire()
        self._thread: Final = _thread.get_ident()
        self._epoch: Final = _fork.epoch
        self.since: Final = time.monotonic()

    def sleep(self, deadline: float) -> None:
        """Block until woken, or until time.monotonic() reaches the deadline; or for no reason at all."""
        if sys.platform == "win32" and _thread.get_ident() == threading.main_thread().ident:
            deadline = min(deadline, time.monotonic() + MAIN_THREAD_SLICE)  # to look for Ctrl-C
        if deadline == math.inf:
            self._lock.acquire()
        else:
            self._lock.acquire(timeout=min(max(deadline - time.monotonic(), 0.0), LONGEST_WAIT))

    def wake(self) -> None:
        """See `Waiter.wake`."""
        try:
            self._lock.release()
        except RuntimeError:
            pass  # somebody did, and the sleeper has not yet looked

    def never_wakes(self) -> bool:
        """See `Waiter.never_wakes`: is it a thread of the parent?"""
        return self._epoch != _fork.epoch

    def is_this_thread(self) -> bool:
        """Return whether it is the calling thread that sleeps, interrupted by a signal handler or finalizer."""
        return self._thread == _thread.get_ident()

    def who(self) -> str:
        """See `Waiter.who`."""
        return next(
            (f"thread {thread.name!r}" for thread in threading.enumerate() if thread.ident == self._thread), "a thread"
        )
