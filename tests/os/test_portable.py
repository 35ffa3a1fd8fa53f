"""The table of waiters of the portable backend: nothing stays in it, and nobody in it is forgotten."""

import ctypes
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Self

import pytest
from support import Crew, asleep, block_until, in_a_fork, soon

from aiopark._os import Portable, _portable

needs_signals = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="interval timers are POSIX'")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="fork is POSIX'")


@pytest.fixture
def backend() -> Iterator[Portable]:
    """Return a backend; at the end nobody is left in the table."""
    yield Portable.create()
    assert not any(_portable._table)


@pytest.fixture
def cell() -> ctypes.c_uint32:
    return ctypes.c_uint32(1)


def cells_of_one_bucket(count: int) -> tuple[Any, list[int]]:
    """Return memory, and addresses in it that all belong to the same bucket."""
    memory = (ctypes.c_uint32 * (128 * count))(*([1] * 128 * count))
    first = ctypes.addressof(memory)
    addresses = [
        address
        for address in range(first, first + ctypes.sizeof(memory), 4)
        if _portable._bucket(address) is _portable._bucket(first)
    ]
    return memory, addresses[:count]


def test_neighbours_are_spread_over_the_buckets() -> None:
    buckets = {id(_portable._bucket(address)) for address in range(0x7F0000000000, 0x7F0000000000 + 4 * 64, 4)}
    assert len(buckets) > 32
    pages = {id(_portable._bucket(address)) for address in range(0x7F0000000000, 0x7F0000000000 + 4096 * 64, 4096)}
    assert len(pages) > 16


def test_every_backend_is_the_same_backend(cell: ctypes.c_uint32) -> None:
    address = ctypes.addressof(cell)
    with Crew() as crew:
        crew.start(Portable.create().wait, address, 1, soon())
        block_until(lambda: asleep(address) == 1)
        Portable.create().wake_one(address)


@pytest.mark.parametrize("deadline", [0.0, 0.002])
def test_a_timeout_leaves_nothing_behind(backend: Portable, cell: ctypes.c_uint32, deadline: float) -> None:
    backend.wait(ctypes.addressof(cell), 1, time.monotonic() + deadline)
    assert asleep(ctypes.addressof(cell)) == 0


def test_another_value_leaves_nothing_behind(backend: Portable, cell: ctypes.c_uint32) -> None:
    backend.wait(ctypes.addressof(cell), 2)
    assert asleep(ctypes.addressof(cell)) == 0


def test_a_wait_is_capped(backend: Portable, cell: ctypes.c_uint32, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_portable, "LONGEST_WAIT", 0.001)
    for deadline in (None, soon() + 1e6):
        backend.wait(ctypes.addressof(cell), 1, deadline)


def test_waiters_of_one_bucket_are_kept_apart(backend: Portable) -> None:
    memory, addresses = cells_of_one_bucket(6)
    assert len(set(addresses)) == 6
    with Crew() as crew:
        threads = {address: crew.start(backend.wait, address, 1, soon()) for address in addresses}
        block_until(lambda: sum(map(asleep, addresses)) == 6)
        for woken, address in enumerate(reversed(addresses), start=1):  # the last of the bucket first
            backend.wake_one(address)
            block_until(lambda: not threads[address].is_alive())  # noqa: B023  # called at once
            assert sum(map(asleep, addresses)) == 6 - woken
    del memory


def test_the_longest_waiter_is_woken_first(backend: Portable, cell: ctypes.c_uint32) -> None:
    address = ctypes.addressof(cell)
    with Crew() as crew:
        threads = []
        for count in (1, 2, 3):
            threads.append(crew.start(backend.wait, address, 1, soon()))
            block_until(lambda: asleep(address) == count)  # noqa: B023  # called at once
        for thread in threads:
            backend.wake_one(address)
            block_until(lambda: not thread.is_alive())  # noqa: B023


def test_a_wake_is_not_swallowed_by_a_waiter_that_finds_the_cell_changed(
    backend: Portable, cell: ctypes.c_uint32, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two waiters: the first stands in the table and has not looked at the cell yet, the second sleeps. In the
    # kernel the first would not count: the wake is for one that sleeps.
    address = ctypes.addressof(cell)
    at_the_look, go_on = threading.Event(), threading.Event()
    late: list[int] = []

    class Look:
        @staticmethod
        def from_address(where: int) -> ctypes.c_uint32:
            if threading.get_ident() in late:
                at_the_look.set()
                assert go_on.wait(20)
            return cell

    class Ctypes:
        c_uint32 = Look

    def wait_late() -> None:
        late.append(threading.get_ident())
        backend.wait(address, 1, soon())

    monkeypatch.setattr(_portable, "ctypes", Ctypes)
    with Crew() as crew:
        crew.start(wait_late)
        assert at_the_look.wait(20)
        sleeper = crew.start(backend.wait, address, 1, soon() + 2)
        block_until(lambda: asleep(address) == 2)
        cell.value = 0
        backend.wake_one(address)
        go_on.set()
        block_until(lambda: not sleeper.is_alive())


@needs_fork
def test_a_forked_child_starts_with_an_empty_table(backend: Portable, cell: ctypes.c_uint32) -> None:
    address = ctypes.addressof(cell)

    def in_the_child() -> None:
        assert not any(_portable._table)

    with Crew() as crew:
        crew.start(backend.wait, address, 1, soon())
        block_until(lambda: asleep(address) == 1)
        in_a_fork(in_the_child)
        assert asleep(address) == 1
        backend.wake_one(address)


# What interrupts: signal handlers and finalizers run between any two instructions of the code beneath.


class Interrupt:
    """Runs `action` before the n-th instruction of the portable backend, as a signal handler would."""

    def __init__(self, n: int, action: Callable[[], object]) -> None:
        self.left, self.action = n, action
        self.ran = False

    def __enter__(self) -> Self:
        self.previous = sys.gettrace()
        sys._getframe().f_trace_opcodes = True  # Python 3.12 looks at this when tracing begins, not later
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self.previous)

    def _trace(self, frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_filename != _portable.__file__ or self.ran:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            self.left -= 1
            if self.left < 0 and not self.ran:
                self.ran = True
                self.action()
        return self._trace


def each_instruction(action: Callable[[], object], code: Callable[[], object]) -> int:
    """Run the code with the action before its first instruction, then its second ...; give their number."""
    n = 0
    while True:
        with Interrupt(n, action) as interrupt:
            code()
        if not interrupt.ran:
            return n
        n += 1


def test_after_a_handler_that_wakes_at_any_instruction_nobody_sleeps(
    backend: Portable, cell: ctypes.c_uint32, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = ctypes.addressof(cell)
    slept = []

    class Sleep:
        """A lock that does not block, but notes what was in the cell when it would have."""

        def __init__(self) -> None:
            self.released = False

        def release(self) -> None:
            self.released = True

        def acquire(self, timeout: float) -> None:
            if not self.released:
                slept.append(cell.value)

    class Waiter(_portable._Waiter):
        def __init__(self, address: int) -> None:
            super().__init__(address)
            self.woken = Sleep()

    def handler() -> None:
        cell.value = 0
        backend.wake_one(address)

    def wait() -> None:
        cell.value = 1
        backend.wait(address, 1, soon())
        assert not any(_portable._table)

    monkeypatch.setattr(_portable, "_Waiter", Waiter)
    count = each_instruction(handler, wait)
    assert 0 < slept.count(1) < count  # the handler came after the sleep
    assert 0 not in slept, "the handler came before it, and was forgotten"


def test_a_handler_that_waits_at_any_instruction_of_a_wake_or_wait(backend: Portable, cell: ctypes.c_uint32) -> None:
    address, other = ctypes.addressof(cell), ctypes.c_uint32(1)

    def handler() -> None:
        backend.wait(ctypes.addressof(other), 1, 0.0)
        backend.wake_all(ctypes.addressof(other))

    def both() -> None:
        backend.wait(address, 1, 0.0)
        backend.wake_one(address)
        assert not any(_portable._table)

    assert each_instruction(handler, both) > 30


def test_a_handler_that_wakes_at_any_instruction_of_a_wake(backend: Portable, cell: ctypes.c_uint32) -> None:
    # Two wakes, one within the other: they wake two, never the same one twice.
    address = ctypes.addressof(cell)
    n, ran = 0, True
    while ran:
        with Crew() as crew:
            threads = [crew.start(backend.wait, address, 1, soon()) for _ in range(3)]
            block_until(lambda: asleep(address) == 3)
            with Interrupt(n, lambda: backend.wake_one(address)) as interrupt:
                backend.wake_one(address)
            ran = interrupt.ran
            left = 1 if ran else 2
            assert asleep(address) == left
            block_until(lambda: sum(thread.is_alive() for thread in threads) == left)  # noqa: B023
            backend.wake_all(address)
        n += 1
    assert n > 15


class RaisedByHandlerError(Exception):
    pass


def test_an_exception_at_the_entry_of_any_function_beneath_a_wait_leaves_nothing_behind(
    backend: Portable, cell: ctypes.c_uint32
) -> None:
    # The entry of a function is where CPython runs signal handlers. A waiter that stays behind would swallow
    # the next wake.
    entered = 0

    def trace(frame: FrameType, event: str, _: object) -> None:
        nonlocal entered
        if event == "call" and frame.f_code.co_filename == _portable.__file__:
            entered += 1
            if entered == stop_at:
                raise RaisedByHandlerError

    previous = sys.gettrace()
    stop_at = 0
    while True:
        stop_at += 1
        entered = 0
        try:
            sys.settrace(trace)
            backend.wait(ctypes.addressof(cell), 1, 0.0)
        except RaisedByHandlerError:
            assert not any(_portable._table)
        else:
            break
        finally:
            sys.settrace(previous)
    assert stop_at > 1


@needs_signals
@pytest.mark.raises_anywhere
def test_handlers_that_raise_leave_nothing_behind(backend: Portable, cell: ctypes.c_uint32) -> None:
    # As above with true signals: about one in a hundred raises at a bad moment, if there is one.
    address, chance = ctypes.addressof(cell), random.Random(7)
    raised = 0

    def handler(*_: object) -> None:
        raise RaisedByHandlerError

    previous = signal.signal(signal.SIGALRM, handler)
    try:
        until = time.monotonic() + 0.7
        while time.monotonic() < until:
            try:
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(5e-6, 15e-5))
                for _ in range(1000):
                    backend.wait(address, 1, 0.0)
            except RaisedByHandlerError:
                raised += 1
            assert not any(_portable._table)
    finally:
        while True:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, previous)
                break
            except RaisedByHandlerError:
                continue
    assert raised > 100


def test_an_exception_within_a_wake_loses_no_waiter(backend: Portable, cell: ctypes.c_uint32) -> None:
    # Whoever interrupts an unpark may unpark again: a waiter that is out of the table was woken.
    address = ctypes.addressof(cell)

    def raise_() -> None:
        raise RaisedByHandlerError

    n, ran = 0, True
    while ran:
        with Crew() as crew:
            thread = crew.start(backend.wait, address, 1, soon())
            block_until(lambda: asleep(address) == 1)
            with Interrupt(n, raise_) as interrupt:
                try:
                    backend.wake_one(address)
                except RaisedByHandlerError:
                    pass
            backend.wake_one(address)
            ran = interrupt.ran
            woken = time.monotonic()
            thread.join()
            assert time.monotonic() < woken + 15
        n += 1
    assert n > 15
