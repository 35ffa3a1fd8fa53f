"""For tests with threads: wait for conditions, never for a fixed time, and let nothing hang or fail unseen."""

import ctypes
import functools
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Self

from aiopark._os import Portable, _portable

# No wait of a test goes on for longer, so that a lost wake-up is a failed test and not a hung one.
PATIENCE = 20.0 * float(os.environ.get("AIOPARK_TEST_PATIENCE", "1"))

_TASKS = Path("/proc/self/task")


def soon() -> float:
    """The deadline, on time.monotonic(), of everything that a test expects to happen at once."""
    return time.monotonic() + PATIENCE


def eventually(condition: Callable[[], object]) -> None:
    """Look until the condition holds."""
    deadline = soon()
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.0005)


class Crew:
    """Threads that are all joined at the end of the block; what one of them raises fails the test."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []
        self.errors: list[BaseException] = []

    def start(self, function: Callable[..., object], *arguments: Any) -> threading.Thread:
        def run() -> None:
            try:
                function(*arguments)
            except BaseException as error:
                self.errors.append(error)

        thread = threading.Thread(target=run, daemon=True)
        self.threads.append(thread)
        thread.start()
        return thread

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        deadline = soon() + 5  # waits that are bounded by soon() end first, and say what went wrong
        for thread in self.threads:
            thread.join(max(deadline - time.monotonic(), 0))
        if self.errors:
            raise self.errors[0]
        assert not any(thread.is_alive() for thread in self.threads), "a thread hangs"


def in_a_fork(function: Callable[[], object]) -> None:
    """Run the function in a forked child; what it raises there is an AssertionError here."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads and fork: that is what is being tested
        child = os.fork()
    if child == 0:
        status = 1
        try:
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


def asleep(address: int) -> int:
    """Count the threads that sleep on the address.

    One that was just woken may be counted for another moment: wait for the number to fall, with `eventually`.
    """
    portable = sum(waiter.address == address for waiter in _portable._bucket(address).copy())
    offset = _offset()
    return portable + (_asleep_elsewhere(address) if offset is None else _asleep_linux(address + offset))


@functools.cache
def _offset() -> int | None:
    """Give what Linux adds to the addresses of this program, None if it does not tell, or this is not Linux.

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
