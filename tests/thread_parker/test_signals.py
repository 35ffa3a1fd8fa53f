"""Signals interrupt a parked thread; a handler may unpark, and may raise."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

import pytest
from support import REAL_BACKENDS, block_until, interruption, is_asleep, is_ours, program, soon, storm

from aiopark import ThreadParker, Word

needs_signals = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="interval timers are POSIX'")


class handling:  # noqa: N801  # used as a context manager, like those of contextlib
    """Handle SIGALRM; at the end, no timer runs any more."""

    def __init__(self, handler: Callable[..., object]) -> None:
        self.handler = handler

    def __enter__(self) -> None:
        assert threading.current_thread() is threading.main_thread()
        self.previous = signal.signal(signal.SIGALRM, self.handler)

    def __exit__(self, *_: object) -> None:
        while True:
            try:
                signal.signal(signal.SIGALRM, signal.SIG_IGN)
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, self.previous)
                return
            except RaisedByHandlerError:
                continue


class RaisedByHandlerError(Exception):
    pass


@needs_signals
@pytest.mark.parametrize("two_phases", [False, True])
def test_a_handler_unparks_the_thread_that_it_interrupts(parker: ThreadParker, two_phases: bool) -> None:
    def handler() -> None:
        if two_phases:
            parker.unpark_lock().unpark()
        else:
            parker.unpark()

    for _ in range(5):
        with interruption(handler, lambda: is_asleep(parker)):
            assert parker.park_until(soon()) is True


@needs_signals
def test_a_park_within_a_park_is_refused(parker: ThreadParker) -> None:
    refused: list[str] = []

    def handler() -> None:
        try:
            parker.park()
        except RuntimeError as error:
            refused.append(str(error))
        parker.unpark()

    with interruption(handler, lambda: is_asleep(parker)):
        assert parker.park_until(soon()) is True
    assert len(refused) == 1


@needs_signals
def test_signals_are_invisible(parker: ThreadParker) -> None:
    with storm(lambda: None) as handled:
        deadline = time.monotonic() + 0.2
        assert parker.park_until(deadline) is False
        assert time.monotonic() >= deadline
    assert handled[0] > 10


@needs_signals
def test_a_storm_of_handlers_that_unpark_loses_nothing(parker: ThreadParker) -> None:
    # Some of them come while the thread sleeps, some between any two instructions of the park.
    given = taken = 0

    def handler() -> None:
        nonlocal given
        if given == taken:
            given += 1
            parker.unpark()

    with storm(handler):
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            assert parker.park_until(soon()), "an unpark was lost"
            taken += 1
    assert taken > 50
    assert given - taken in (0, 1)
    assert parker.park_timeout(0) is (given > taken)


@needs_signals
def test_an_exception_of_a_handler_ends_the_park(parker: ThreadParker) -> None:
    def handler() -> None:
        raise RaisedByHandlerError

    with interruption(handler, lambda: is_asleep(parker)), pytest.raises(RaisedByHandlerError):
        parker.park()
    assert parker.park_timeout(0) is False  # it is free
    parker.unpark()
    assert parker.park_timeout(0) is True


class Beneath:
    """Raises at the n-th point beneath a park at which CPython would run a signal handler.

    These are the entry of each Python function and the return from each function written in C.
    """

    def __init__(self, n: int) -> None:
        self.left = n
        self.raised = False

    def __enter__(self) -> "Beneath":  # noqa: PYI034
        self.previous = sys.getprofile()
        sys.setprofile(self._profile)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(self.previous)

    def _profile(self, frame: FrameType, event: str, _: object) -> None:
        if event in {"call", "c_return"} and is_ours(frame.f_code.co_filename):
            self.left -= 1
            if self.left < 0 and not self.raised:
                self.raised = True
                raise RaisedByHandlerError


@pytest.mark.parametrize("permit", [True, False])
def test_an_exception_anywhere_in_a_park_keeps_the_permit_and_frees_the_parker(
    parker: ThreadParker, permit: bool
) -> None:
    n, failures = 0, []
    while True:
        parker = ThreadParker(Word())
        if permit:
            parker.unpark()
        answer = None
        with Beneath(n) as beneath:
            try:
                answer = parker.park_until(0.0)
            except RaisedByHandlerError:
                pass
        if not beneath.raised:
            break
        if answer is None and parker.timed_out() is permit:
            failures.append(f"point {n}: the permit is lost" if permit else f"point {n}: a permit out of nothing")
        parker.unpark()
        try:
            assert parker.park_until(0.0) is True
        except RuntimeError as error:
            failures.append(f"point {n}: {error}")
        n += 1
    assert n > 5
    assert not failures


@needs_signals
@pytest.mark.raises_anywhere
def test_a_storm_of_handlers_that_raise_keeps_the_permit_and_frees_the_parker(parker: ThreadParker) -> None:
    chance, raised, within = random.Random(3), 0, False

    def handler(*_: object) -> None:
        raise RaisedByHandlerError

    def go_on_until_it_raises() -> None:  # CPython 3.14 leaves a `while` without the `except` around it, see Word._park
        nonlocal within
        while True:
            parker.unpark()
            within = True
            answer = parker.park_until(0.0)
            within = False
            assert answer

    with handling(handler):
        until = time.monotonic() + 0.7
        while time.monotonic() < until:
            try:
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(5e-6, 1e-4))
                go_on_until_it_raises()
            except RaisedByHandlerError:
                raised += 1
                if within:
                    assert not parker.timed_out(), "the permit is lost"
                within = False
    assert raised > 100


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT cannot be sent there, see tests/test_console.py")
@pytest.mark.parametrize("park", ["forever", "timeout"])
@pytest.mark.parametrize("name", list(REAL_BACKENDS))
def test_ctrl_c_ends_a_park_of_the_main_thread(name: str, park: str) -> None:
    process = subprocess.Popen(
        program("ctrl_c", park),
        env={**os.environ, "AIOPARK_BACKEND": name},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            block_until(lambda: sleeps(process))
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=20)
        finally:
            process.kill()
    assert (output, process.returncode) == ("interrupted\nTrue\n", 0), errors


def sleeps(process: subprocess.Popen[str]) -> bool:
    """Tell whether the process sleeps; where that cannot be told, Ctrl-C comes before or during the park."""
    try:
        with open(f"/proc/{process.pid}/stat") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] == "S"
    except FileNotFoundError:
        return True
