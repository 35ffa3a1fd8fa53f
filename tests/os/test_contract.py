"""The contract of Backend, over every backend that can run here.

Those named model-* run over models of macOS' and Windows' calls, not over the systems: see the C files.
"""

import ctypes
import errno
import math
import mmap
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

import pytest
from support import Crew, asleep, block_until, in_a_fork, interruption, soon

from aiopark._os import Backend, Portable

needs_signals = pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals to threads are POSIX'")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="fork is POSIX'")

WAKES = ["wake_one", "wake_all"]


class Cell:
    """An aligned 32-bit cell and who came back from a wait on it."""

    def __init__(self, value: int = 1) -> None:
        self.memory = ctypes.c_uint32(value)
        self.address = ctypes.addressof(self.memory)
        self.returned: list[float] = []

    def wait_once(self, backend: Backend, expected: int = 1, deadline: float | None = None) -> None:
        """One call of wait; the moment of its return is noted."""
        backend.wait(self.address, expected, soon() if deadline is None else deadline)
        self.returned.append(time.monotonic())

    def wait_while(self, backend: Backend, value: int, deadline: float) -> bool:
        """Wait as a caller does, who looks again after each return. True: changed, False: the deadline passed."""
        while self.memory.value == value:
            if time.monotonic() >= deadline:
                return False
            backend.wait(self.address, value, deadline)
        return True


@pytest.mark.parametrize("deadline", [None, math.inf])
def test_a_wait_on_another_value_returns_at_once(backend: Backend, deadline: float | None) -> None:
    cell = Cell(0)
    with Crew() as crew:
        crew.start(backend.wait, cell.address, 1, deadline)
        crew.start(backend.wait, cell.address, 0xFFFFFFFF, deadline)
    assert asleep(cell.address) == 0


@pytest.mark.parametrize("wake", WAKES)
def test_a_wake_after_a_store_ends_the_wait(backend: Backend, wake: str) -> None:
    cell = Cell()
    with Crew() as crew:
        crew.start(backend.wait, cell.address, 1)  # for ever
        block_until(lambda: asleep(cell.address) == 1)
        cell.memory.value = 0
        getattr(backend, wake)(cell.address)


@pytest.mark.parametrize("value", [0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_every_32_bit_value_can_be_slept_on(backend: Backend, value: int) -> None:
    cell = Cell(value)
    with Crew() as crew:
        crew.start(cell.wait_once, backend, value)
        block_until(lambda: asleep(cell.address) == 1)
        cell.memory.value = value ^ 1
        backend.wake_one(cell.address)


def test_wake_one_wakes_exactly_one(backend: Backend) -> None:
    cell = Cell()
    with Crew() as crew:
        for _ in range(3):
            crew.start(cell.wait_once, backend)
        block_until(lambda: asleep(cell.address) == 3)
        for woken in (1, 2, 3):  # the cell does not change: who comes back was woken
            backend.wake_one(cell.address)
            block_until(lambda: len(cell.returned) == woken)  # noqa: B023  # called at once
            block_until(lambda: asleep(cell.address) == 3 - woken)  # noqa: B023
            assert len(cell.returned) == woken


def test_wake_all_wakes_all(backend: Backend) -> None:
    cell = Cell()
    with Crew() as crew:
        for _ in range(4):
            crew.start(cell.wait_once, backend)
        block_until(lambda: asleep(cell.address) == 4)
        before = time.monotonic()
        backend.wake_all(cell.address)
        block_until(lambda: asleep(cell.address) == 0)
    assert all(before <= moment < before + 15 for moment in cell.returned)
    assert len(cell.returned) == 4


@pytest.mark.parametrize("wake", WAKES)
def test_a_wake_with_nobody_waiting_does_nothing(backend: Backend, wake: str) -> None:
    cell = Cell()
    for _ in range(3):
        getattr(backend, wake)(cell.address)
    assert cell.memory.value == 1
    with Crew() as crew:  # it is not stored either: the next wait sleeps
        crew.start(cell.wait_once, backend)
        block_until(lambda: asleep(cell.address) == 1)
        assert not cell.returned
        backend.wake_one(cell.address)


@pytest.mark.parametrize("wake", WAKES)
def test_addresses_are_kept_apart(backend: Backend, wake: str) -> None:
    cells = (ctypes.c_uint32 * 2)(1, 1)  # neighbours, on one cache line
    first, second = ctypes.addressof(cells), ctypes.addressof(cells) + 4
    with Crew() as crew:
        crew.start(backend.wait, first, 1, soon())
        block_until(lambda: asleep(first) == 1)
        other = crew.start(backend.wait, second, 1, soon())
        block_until(lambda: asleep(second) == 1)
        getattr(backend, wake)(second)
        block_until(lambda: not other.is_alive())
        assert asleep(first) == 1
        backend.wake_one(first)


@pytest.mark.parametrize("deadline", [-math.inf, -1e300, -1.0, -0.0, 0.0, 1e-9])
def test_a_past_deadline_returns_at_once(backend: Backend, deadline: float) -> None:
    cell = Cell()
    with Crew() as crew:
        crew.start(backend.wait, cell.address, 1, deadline)
        crew.start(backend.wait, cell.address, 1, time.monotonic())


@pytest.mark.parametrize("deadline", [1e7, 1e10, 1e18, 1e300, sys.float_info.max, math.inf])
def test_a_far_deadline_sleeps_until_woken(backend: Backend, deadline: float) -> None:
    cell = Cell()
    with Crew() as crew:
        crew.start(cell.wait_once, backend, 1, deadline)
        block_until(lambda: asleep(cell.address) == 1)
        assert not cell.returned
        cell.memory.value = 0
        backend.wake_one(cell.address)


def test_a_loop_over_wait_is_never_early_and_ends(backend: Backend) -> None:
    cell = Cell()

    def sleeps() -> None:
        for milliseconds in (0.01, 0.5, 1, 1.7, 3, 12.3):
            deadline = time.monotonic() + milliseconds / 1000
            rounds = 0
            while time.monotonic() < deadline:
                backend.wait(cell.address, 1, deadline)
                rounds += 1
            assert rounds <= 20, "a deadline that is always rounded down is a busy loop"

    with Crew() as crew:
        crew.start(sleeps)


def test_other_threads_run_while_one_waits(backend: Backend) -> None:
    cell = Cell()
    deadline = time.monotonic() + 5
    with Crew() as crew:
        crew.start(cell.wait_once, backend, 1, deadline)
        block_until(lambda: asleep(cell.address) == 1)  # Python code that would stand still if the GIL were kept
        backend.wake_one(cell.address)
    assert cell.returned[0] < deadline


@pytest.mark.parametrize("pairs", [1, 4])
def test_ping_pong_loses_nothing(backend: Backend, pairs: int) -> None:
    rounds = 500
    deadline = soon()
    done: list[int] = []

    def play(mine: Cell, theirs: Cell) -> None:
        for _ in range(rounds):
            assert mine.wait_while(backend, 1, deadline), "a wake-up was lost"
            mine.memory.value = 1
            theirs.memory.value = 0
            backend.wake_one(theirs.address)
        done.append(rounds)

    with Crew() as crew:
        for _ in range(pairs):
            ping, pong = Cell(0), Cell(1)
            crew.start(play, ping, pong)
            crew.start(play, pong, ping)
    assert sum(done) == 2 * pairs * rounds


def test_many_wakers_lose_nothing(backend: Backend) -> None:
    # A counter in the cell, one waiter, four wakers: whoever changes the cell wakes.
    cell = Cell(0)
    lock = threading.Lock()
    total, deadline = 4 * 300, soon()

    def add() -> None:
        for _ in range(total // 4):
            with lock:
                cell.memory.value += 1
            backend.wake_one(cell.address)

    def follow() -> None:
        seen = 0
        while seen < total:
            assert cell.wait_while(backend, seen, deadline), "a wake-up was lost"
            seen = cell.memory.value

    with Crew() as crew:
        crew.start(follow)
        for _ in range(4):
            crew.start(add)


def sleeps(cell: Cell) -> Callable[[], bool]:
    return lambda: asleep(cell.address) > 0


@needs_signals
@pytest.mark.parametrize("wake", WAKES)
def test_a_signal_handler_wakes_the_wait_that_it_interrupts(backend: Backend, wake: str) -> None:
    cell = Cell()

    def handler() -> None:
        cell.memory.value = 0
        getattr(backend, wake)(cell.address)

    for _ in range(5):
        cell.memory.value = 1
        with interruption(handler, sleeps(cell)):
            assert cell.wait_while(backend, 1, soon())


@needs_signals
@pytest.mark.parametrize("left_behind", [errno.ENOENT, errno.EINVAL, errno.EPERM])
def test_the_errno_of_a_signal_handler_is_not_taken_for_that_of_the_wait(backend: Backend, left_behind: int) -> None:
    # A handler runs right after the interrupted call, before the next Python instruction could read its errno.
    cell = Cell()

    def handler() -> None:
        cell.memory.value = 0
        backend.wake_one(cell.address)
        ctypes.set_errno(left_behind)

    with interruption(handler, sleeps(cell)):
        assert cell.wait_while(backend, 1, soon())


class RaisedByHandlerError(Exception):
    pass


@needs_signals
def test_an_exception_of_a_signal_handler_ends_the_wait(backend: Backend) -> None:
    cell = Cell()

    def handler() -> None:
        raise RaisedByHandlerError

    with interruption(handler, sleeps(cell)), pytest.raises(RaisedByHandlerError):
        cell.wait_while(backend, 1, soon())
    assert asleep(cell.address) == 0


@needs_fork
def test_waits_and_wakes_in_a_forked_child(backend: Backend) -> None:
    cell = Cell()

    def in_the_child() -> None:
        mine = Cell()
        backend.wake_all(cell.address)  # the parent's thread is no ghost here
        with Crew() as crew:
            crew.start(mine.wait_once, backend)
            block_until(lambda: asleep(mine.address) == 1)
            backend.wake_one(mine.address)

    with Crew() as crew:
        crew.start(cell.wait_once, backend)
        block_until(lambda: asleep(cell.address) == 1)
        in_a_fork(in_the_child)
        assert asleep(cell.address) == 1  # private: what the child does reaches nobody here
        backend.wake_one(cell.address)


@needs_fork
@pytest.mark.parametrize("wake", WAKES)
def test_shared_wakes_reach_another_process(backend: Backend, wake: str) -> None:
    if not backend.supports_shared:
        pytest.skip(f"{backend.name} does not reach other processes")
    with mmap.mmap(-1, mmap.PAGESIZE) as memory:
        cell = ctypes.c_uint32.from_buffer(memory)
        cell.value = 1
        address = ctypes.addressof(cell)

        def in_the_child() -> None:
            ctypes.c_uint32.from_address(address).value = 0
            getattr(backend, wake)(address, shared=True)

        def wait() -> None:
            backend.wait(address, 1, deadline, shared=True)
            returned.append(time.monotonic())

        deadline, returned = soon(), []
        with Crew() as crew:
            crew.start(wait)
            block_until(lambda: asleep(address) == 1)
            in_a_fork(in_the_child)
        assert returned[0] < deadline
        del cell


def test_what_a_backend_says_about_itself(backend: Backend) -> None:
    assert backend.name in {"futex", "waitaddress", "ulock", "portable"}
    assert backend.supports_shared == (backend.name in {"futex", "ulock"})
    assert backend.supports_native_wake == (not isinstance(backend, Portable))
