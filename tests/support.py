"""What the tests share: the event loops they run on, threads that fail the test, and waits for conditions.

A test waits for a condition, never for a fixed time, and nothing hangs or fails unseen.
"""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import functools
import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import anyio
import pytest

import aiopark
from aiopark._os import Futex, Portable, Ulock, WaitAddress, _portable
from aiopark._watch import RingWatch, ThreadWatch, refused_watchers
from aiopark._word import cell_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from types import FrameType

# The backends that work here.
REAL_BACKENDS = {kind.name: kind for kind in (Futex, WaitAddress, Ulock, Portable) if kind.refusal() is None}

# The watchers that work here.
WATCHERS = {kind.name: kind for kind in (RingWatch, ThreadWatch) if kind.name not in refused_watchers()}

# Seconds until a condition counts as never, so that a lost wake-up is a failed test and not a hung one; longer by a
# factor where a processor is emulated.
PATIENCE = 30.0 * float(os.environ.get("AIOPARK_TEST_PATIENCE", "1"))

# Wine is a re-implementation of Windows; what is its own fault, and not Windows' behaviour, is told apart by this.
UNDER_WINE = sys.platform == "win32" and hasattr(ctypes.WinDLL("ntdll"), "wine_get_version")
NO_TRIO = "trio does not start under Wine, which has no SIO_BASE_HANDLE"

_TASKS = Path("/proc/self/task")
_TESTS = Path(__file__).parent
_AIOPARK = str(Path(aiopark.__file__).parent) + os.sep


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
    """Return the parameters of a test that runs on each of them; on those that are not installed it is skipped."""
    return [pytest.param(world, id=world.name, marks=needs(world.package)) for world in worlds]


def installed(worlds: list[World]) -> list[World]:
    return [world for world in worlds if is_installed(world.package)]


def is_parked(parker: aiopark.Parker) -> bool:
    return parker._cell.owner() is not None


async def parked_task(parker: aiopark.Parker) -> asyncio.Task[None]:
    """Return a task of this loop of asyncio that is parked."""
    task = asyncio.create_task(parker.park())
    while not is_parked(parker):
        await asyncio.sleep(0)
    return task


def is_owned(word: aiopark.Word) -> bool:
    """Whether something parks on the word, or watches it."""
    return cell_of(word).current_lease() is not None


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


def in_a_fork(function: Callable[[], object]) -> None:
    """Run the function in a forked child; what it raises there, or where it hangs, is an AssertionError here."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads and fork: that is what is being tested
        child = os.fork()
    if child == 0:
        status = 1
        try:
            faulthandler.dump_traceback_later(PATIENCE, exit=True, file=writer)
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


def asleep(address: int) -> int:
    """Count the threads that sleep on the address.

    One that was just woken may be counted for another moment: wait for the number to fall, with `block_until`.
    """
    portable = sum(waiter.address == address for waiter in _portable._bucket(address).copy())
    offset = _emulated_offset()
    return portable + (_asleep_elsewhere(address) if offset is None else _asleep_linux(address + offset))


def is_asleep(parker: aiopark.ThreadParker) -> bool:
    return asleep(parker.word.address) == 1


@functools.cache
def _emulated_offset() -> int | None:
    """Return what Linux adds to the addresses of this program, None if it does not tell, or this is not Linux.

    It is 0 but for a 32-bit program under qemu, whose memory lies anywhere in that of qemu, and for the kernel that is
    where the program sleeps. The call by which this thread reads about itself shows it: its buffer is in our hands.
    """
    buffer = ctypes.create_string_buffer(1024)
    try:
        with (_TASKS / str(threading.get_native_id()) / "syscall").open("rb", buffering=0) as file:
            descriptor = file.fileno()
            read = ctypes.CDLL(None)["read"]
            read.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
            if read(descriptor, buffer, len(buffer)) <= 0:
                return None
    except OSError:  # no /proc, or a kernel without this file
        return None
    call = buffer.value.split()  # number, arguments
    if [int(argument, 16) for argument in call[1:4:2]] != [descriptor, len(buffer)]:
        return None
    return int(call[2], 16) - ctypes.addressof(buffer)


def _asleep_linux(address: int) -> int:
    count = 0
    for task in _TASKS.iterdir():
        try:
            call = (task / "syscall").read_text().split()  # number, arguments; or "running"
        except OSError:  # the thread has ended
            continue
        count += len(call) > 1 and int(call[1], 16) == address
    return count


def _asleep_elsewhere(address: int) -> int:
    """No system but Linux tells where a thread sleeps: take those whose frame stays inside a backend's wait."""

    def frames(frame: FrameType | None) -> Iterator[FrameType]:
        while frame is not None:
            yield frame
            frame = frame.f_back

    def waiting() -> dict[int, tuple[FrameType, int]]:
        return {
            thread: (frame, frame.f_lasti)
            for thread, innermost in sys._current_frames().items()
            for frame in frames(innermost)
            if frame.f_code.co_name == "wait"
            and f"{os.sep}_os{os.sep}" in frame.f_code.co_filename
            and frame.f_locals.get("address") == address
            and not isinstance(frame.f_locals.get("self"), Portable)
        }

    stable = waiting()
    for _ in range(20):
        time.sleep(0.002)
        now = waiting()
        stable = {thread: where for thread, where in stable.items() if now.get(thread) == where}
    return len(stable)
