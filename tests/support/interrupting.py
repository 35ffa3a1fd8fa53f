"""Exceptions and signals in the middle of whatever runs."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiopark
from support.waiting import block_until, in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType


_AIOPARK = str(Path(aiopark.__file__).parent) + os.sep


def is_ours(filename: str) -> bool:
    """Whether code of this name is aiopark's own."""
    return filename.startswith(_AIOPARK)


class Interrupted(Exception):  # noqa: N818  # like KeyboardInterrupt
    """What a signal handler raises."""


@contextmanager
def interrupted_at(number: int, event: str, ours: Callable[[str], bool]) -> Iterator[list[str]]:
    """Interrupt the block at the number-th of the "calls" (before, and after those of C) or "lines" of our files.

    Ends the block there. Yields where that was, nothing if it was nowhere.
    """
    count, hit = 0, []

    def interrupt(frame: FrameType) -> None:
        nonlocal count
        if ours(frame.f_code.co_filename):
            count += 1
            if count == number:
                sys.setprofile(None)
                sys.settrace(None)
                hit.append(f"{frame.f_code.co_name}:{frame.f_lineno}")
                raise Interrupted

    def profile(frame: FrameType, kind: str, _: object) -> None:
        if kind in {"call", "c_return"}:
            interrupt(frame)

    def trace(frame: FrameType, kind: str, _: object) -> Any:
        if kind == "line":
            interrupt(frame)
        return trace

    previous = sys.gettrace()
    try:
        if event == "calls":
            sys.setprofile(profile)
        else:
            sys.settrace(trace)
        yield hit
    except Interrupted:
        pass
    finally:
        sys.setprofile(None)
        sys.settrace(previous)


@contextmanager
def switch_interval(seconds: float) -> Iterator[None]:
    """Have threads switch as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(seconds)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@contextmanager
def storm(handler: Callable[[], object]) -> Iterator[list[int]]:
    """Interrupt the main thread with signals, one as soon as the last is handled. Yields how many there were.

    Sent to the main thread, since a signal that another thread catches interrupts no system call of the main one; and
    sent again if it is not handled soon, since one that comes just before a system call does not interrupt it either.
    """
    assert threading.current_thread() is threading.main_thread()
    handled, stop = [0], threading.Event()

    def handle(*_: object) -> None:
        handler()
        handled[0] += 1

    def drive() -> None:
        main = threading.main_thread().ident
        assert main is not None
        while not stop.is_set():
            before, again = handled[0], time.monotonic() + 0.005
            signal.pthread_kill(main, signal.SIGUSR1)
            while handled[0] == before and time.monotonic() < again and not stop.is_set():
                time.sleep(0.00005)

    previous = signal.signal(signal.SIGUSR1, handle)
    try:
        with in_thread(drive):
            try:
                yield handled
            finally:
                stop.set()
    finally:
        signal.signal(signal.SIGUSR1, previous)


@contextmanager
def interruption(handler: Callable[[], object], when: Callable[[], bool]) -> Iterator[None]:
    """Interrupt the main thread once, as soon as `when()`; the handler runs on top of what it does, and may raise.

    Sent until it is handled, see `storm`.
    """
    assert threading.current_thread() is threading.main_thread()
    over = handled = False

    def handle(*_: object) -> None:
        nonlocal handled
        if not handled:
            handled = True
            handler()

    def drive() -> None:
        main = threading.main_thread().ident
        assert main is not None
        block_until(lambda: over or when())
        while not (over or handled):
            signal.pthread_kill(main, signal.SIGUSR1)
            again = time.monotonic() + 0.005
            while not (over or handled) and time.monotonic() < again:
                time.sleep(0.00005)

    previous = signal.signal(signal.SIGUSR1, handle)
    try:
        with in_thread(drive):
            try:
                yield
            finally:
                over = True
    finally:
        signal.signal(signal.SIGUSR1, previous)
