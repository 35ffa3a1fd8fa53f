"""Threads, forks and programs that fail the test, and waits for conditions: nothing hangs or fails unseen."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


# Seconds until a condition counts as never, so that a lost wake-up is a failed test and not a hung one; longer by a
# factor where a processor is emulated.
PATIENCE = 30.0 * float(os.environ.get("AIOPARK_TEST_PATIENCE", "1"))
_TESTS = Path(__file__).parent.parent


async def until(condition: Callable[[], object]) -> None:
    """Let other tasks run until the condition holds."""
    with anyio.fail_after(PATIENCE):
        while not condition():
            await anyio.sleep(0.0005)


def block_until(condition: Callable[[], object]) -> None:
    """Let other threads run until the condition holds."""
    give_up = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < give_up, "the condition never came"
        time.sleep(0.0002)


def soon() -> float:
    """Return the deadline, on time.monotonic(), of everything that a test expects to happen at once."""
    return time.monotonic() + PATIENCE


class Crew:
    """Threads that are all joined at the end of the block; what one of them raises fails the test."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []
        self.errors: list[BaseException] = []

    def start(self, target: Callable[..., object], *arguments: Any) -> threading.Thread:
        def run() -> None:
            try:
                target(*arguments)
            except BaseException as error:
                self.errors.append(error)

        thread = threading.Thread(target=run, daemon=True)
        self.threads.append(thread)
        thread.start()
        return thread

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failure: type[BaseException] | None = None, *_: object) -> None:
        if failure is None:  # otherwise what the threads wait for may never come
            deadline = soon() + 5  # waits that are bounded by soon() end first, and say what went wrong
            for thread in self.threads:
                thread.join(max(deadline - time.monotonic(), 0))
        if self.errors:
            raise self.errors[0]
        if failure is None:
            assert not any(thread.is_alive() for thread in self.threads), "a thread hangs"


@contextmanager
def in_thread(target: Callable[..., object], *arguments: Any) -> Iterator[threading.Thread]:
    """Run the target in a thread; at the end join it and let its exception out."""
    with Crew() as crew:
        yield crew.start(target, *arguments)


def program(name: str, *arguments: object, options: tuple[str, ...] = ()) -> list[str]:
    """Return the command that starts a program of tests/programs; the options are Python's."""
    return [sys.executable, *options, str(_TESTS / "programs" / f"{name}.py"), *map(str, arguments)]


def run_program(
    name: str, *arguments: object, options: tuple[str, ...] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a program of tests/programs to its end."""
    return subprocess.run(
        program(name, *arguments, options=options),
        env=os.environ | environment, capture_output=True, text=True, timeout=2 * PATIENCE, check=False,
    )  # fmt: skip


def in_a_fork(function: Callable[[], object]) -> None:
    """Run the function in a forked child; what it raises there, or where it hangs, is an AssertionError here."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads and fork: that is what is being tested
        child = os.fork()
    if child == 0:
        status = 1
        try:
            # Not faulthandler's watchdog: in a fork of a fork it would wait for the thread of the first, which is gone.
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(int(PATIENCE))
            function()
            status = 0
        except BaseException:
            os.write(writer, traceback.format_exc().encode())
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        message = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    assert status == 0, message or f"the child was ended by signal {status}"
