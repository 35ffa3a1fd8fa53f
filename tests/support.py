"""What the tests share: the event loops they run on, and how they wait for a condition."""

from __future__ import annotations

import asyncio
import ctypes
import importlib.util
import os
import signal
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from aiopark._os import Futex, Portable, Ulock, WaitAddress
from aiopark._owner import OWNER
from aiopark._watch import RingWatch, ThreadWatch, refused_watchers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from types import FrameType

    import aiopark

# The backends that work here.
REAL_BACKENDS = {kind.name: kind for kind in (Futex, WaitAddress, Ulock, Portable) if kind.refusal() is None}

# The watchers that work here.
WATCHERS = {kind.name: kind for kind in (RingWatch, ThreadWatch) if kind.name not in refused_watchers()}

# Seconds until a condition counts as never; longer by a factor where a processor is emulated.
PATIENCE = 30.0 * float(os.environ.get("AIOPARK_TEST_PATIENCE", "1"))

# Wine is a re-implementation of Windows; what is its own fault, and not Windows' behaviour, is told apart by this.
UNDER_WINE = sys.platform == "win32" and hasattr(ctypes.WinDLL("ntdll"), "wine_get_version")
NO_TRIO = "trio does not start under Wine, which has no SIO_BASE_HANDLE"


def is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def needs(package: str) -> pytest.MarkDecorator:
    """Skip a test where an optional package is not installed."""
    reason = NO_TRIO if package == "trio" and UNDER_WINE else f"{package} is not installed"
    return pytest.mark.skipif(not is_installed(package), reason=reason)


@dataclass(frozen=True)
class World:
    """An event loop that the tests run on, through anyio."""

    name: str
    package: str = "asyncio"
    backend: str = "asyncio"
    loop: str = ""  # the module whose new_event_loop makes it, or asyncio's class; asyncio's default if empty
    debug: bool = False
    eager: bool = False

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        assert self.backend == "asyncio"
        if hasattr(asyncio, self.loop):
            return getattr(asyncio, self.loop)()
        return importlib.import_module(self.loop or "asyncio").new_event_loop()

    def run(self, main: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        async def entry() -> Any:
            if self.eager:
                asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
            return await main(*arguments)

        options = {"loop_factory": self.new_event_loop, "debug": self.debug} if self.backend == "asyncio" else {}
        return anyio.run(entry, backend=self.backend, backend_options=options)


ASYNCIO = World("proactor" if sys.platform == "win32" else "asyncio")  # the default there
TRIO = World("trio", package="trio", backend="trio")
OTHERS = [World("uvloop", package="uvloop", loop="uvloop")]
if sys.platform == "win32":
    OTHERS = [World("selector", loop="SelectorEventLoop"), World("winloop", package="winloop", loop="winloop")]
PLAIN_WORLDS = [ASYNCIO, *OTHERS, TRIO]
WORLDS = [*PLAIN_WORLDS, World("asyncio-debug", debug=True)]
if sys.version_info >= (3, 12):
    WORLDS.append(World("asyncio-eager", eager=True))


def each(worlds: list[World]) -> list[Any]:
    """Give the parameters of a test that runs on each of them; on those that are not installed it is skipped."""
    return [pytest.param(world, id=world.name, marks=needs(world.package)) for world in worlds]


def installed(worlds: list[World]) -> list[World]:
    return [world for world in worlds if is_installed(world.package)]


def is_parked(parker: aiopark.Parker) -> bool:
    owner = parker._cell.get(OWNER)
    return owner is not None and not owner.gone()


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


@contextmanager
def in_thread(target: Callable[..., object], *arguments: Any) -> Iterator[threading.Thread]:
    """Run the target in a thread; at the end join it and let its exception out."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            target(*arguments)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield thread
    thread.join(PATIENCE)
    assert not thread.is_alive(), "the thread hangs"
    if errors:
        raise errors[0]


class Interrupted(Exception):  # noqa: N818  # like KeyboardInterrupt
    """What a signal handler raises."""


@contextmanager
def interrupted_at(number: int, event: str, ours: Callable[[str], bool]) -> Iterator[list[str]]:
    """Interrupt the block at the number-th of the "calls" (before, and after those of C) or "lines" of our files.

    Ends the block there. Gives where that was, nothing if it was nowhere.
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
    """Interrupt the main thread with signals, one as soon as the last is handled. Gives how many there were.

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
