"""Futex: the numbers of the system call, its timespec, its errors."""

import ctypes
import errno
import math
import mmap
import platform
import sys
import time
from fractions import Fraction
from typing import Any

import pytest
from support import Crew, asleep, block_until, soon

from aiopark._os import Futex, _linux
from aiopark._os._linux import Timespec32, Timespec64, architecture

linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="futex is Linux' own call")

UNMAPPED = 4  # in the page at zero, which no process has


@pytest.mark.parametrize(
    ("machine", "pointer_bytes", "name", "number"),
    [
        ("x86_64", 8, "x86_64", 202),
        ("AMD64", 8, "x86_64", 202),
        ("x86_64", 4, "i386", 240),  # a 32-bit Python on a 64-bit kernel
        ("i686", 4, "i386", 240),
        ("i386", 4, "i386", 240),
        ("i686", 8, "x86_64", 202),  # setarch i686
        ("aarch64", 8, "aarch64", 98),
        ("aarch64", 4, "arm", 240),
        ("aarch64_be", 8, "aarch64", 98),
        ("armv7l", 4, "arm", 240),
        ("armv6l", 4, "arm", 240),
        ("armv8l", 4, "arm", 240),
        ("riscv64", 8, "riscv64", 98),
        ("riscv32", 4, "riscv32", None),  # has futex_time64 only
        ("loongarch64", 8, "loongarch64", 98),
        ("ppc64le", 8, "ppc64", 221),
        ("ppc64", 8, "ppc64", 221),
        ("ppc", 4, "ppc", 221),
        ("s390x", 8, "s390x", 238),
        ("s390x", 4, "s390", 238),
        ("vax", 4, "vax", None),
    ],
)
def test_the_system_call_number(machine: str, pointer_bytes: int, name: str, number: int | None) -> None:
    assert architecture(machine, pointer_bytes) == name
    assert _linux._FUTEX.get(name) == number


def test_the_timespecs() -> None:
    assert ctypes.sizeof(Timespec32) == 2 * ctypes.sizeof(ctypes.c_long)
    assert (Timespec32.sec.offset, Timespec32.nsec.offset) == (0, ctypes.sizeof(ctypes.c_long))
    assert ctypes.sizeof(Timespec64) == 16
    assert (Timespec64.sec.offset, Timespec64.nsec.offset) == (0, 8)


class Probed(Futex):
    """Notes which system calls are tried; those in `missing` give ENOSYS."""

    missing: frozenset[int] = frozenset()
    tried: list[tuple[int, type]]

    def __init__(self, number: int, timespec: Any) -> None:
        self.number = number
        self.tried.append((number, timespec))

    def wake_one(self, address: int, *, shared: bool = False) -> None:
        if self.number in self.missing:
            raise OSError(errno.ENOSYS, "Function not implemented")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that lets this be Linux on another machine, where some calls are missing."""

    def be(name: str, pointer_bytes: int, *missing: int) -> type[Probed]:
        true_sizeof = ctypes.sizeof
        monkeypatch.setattr(sys, "platform", "linux")
        monkeypatch.setattr(platform, "machine", lambda: name)
        monkeypatch.setattr(ctypes, "sizeof", lambda t: pointer_bytes if t is ctypes.c_void_p else true_sizeof(t))
        monkeypatch.setattr(Probed, "missing", frozenset(missing))
        monkeypatch.setattr(Probed, "tried", [], raising=False)
        return Probed

    return be


def test_one_number_is_tried_on_64_bits(machine: Any) -> None:
    futex = machine("aarch64", 8)
    assert futex.create().number == 98
    assert futex.tried == [(98, Timespec32)]


def test_on_32_bits_the_short_time_is_tried_first(machine: Any) -> None:
    futex = machine("armv7l", 4)
    assert futex.create().number == 240
    assert futex.refusal() is None


def test_on_32_bits_without_short_time_the_long_one_is_tried_next(machine: Any) -> None:
    futex = machine("i686", 4, 240)
    assert futex.create().number == 422
    assert futex.tried == [(240, Timespec32), (422, Timespec64)]


def test_riscv32_has_only_the_long_time(machine: Any) -> None:
    futex = machine("riscv32", 4)
    assert futex.create().number == 422
    assert futex.tried == [(422, Timespec64)]


def test_a_kernel_that_refuses_every_number(machine: Any) -> None:
    futex = machine("x86_64", 4, 240, 422)
    assert futex.create() is None
    assert futex.refusal() == (
        "system call 240 failed: Function not implemented; system call 422 failed: Function not implemented"
    )


def test_an_unknown_machine_is_refused(machine: Any) -> None:
    futex = machine("vax64", 8)
    assert futex.create() is None
    assert "vax64" in futex.refusal()
    assert futex.tried == []


def test_another_system_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "sunos5")
    assert Futex.create() is None
    assert "sunos5" in str(Futex.refusal())


@linux_only
def test_this_system_is_not_refused() -> None:
    assert Futex.refusal() is None
    assert isinstance(Futex.create(), Futex)


@pytest.mark.parametrize("shared", [False, True])
def test_a_misaligned_address_is_an_error(futex: Futex, shared: bool) -> None:
    cell = ctypes.c_uint64(1)
    address = ctypes.addressof(cell) + 2
    for call in (futex.wait, lambda address, _, **shared: futex.wake_one(address, **shared)):
        with pytest.raises(OSError, match=rf"futex\(FUTEX_\w+\) on the word at {address:#x}") as caught:
            call(address, 0, shared=shared)
        assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize("shared", [False, True])
def test_a_wait_on_memory_that_is_not_there_is_an_error(futex: Futex, shared: bool) -> None:
    with pytest.raises(OSError, match=r"futex\(FUTEX_WAIT_BITSET\) on the word at 0x4\b") as caught:
        futex.wait(UNMAPPED, 1, shared=shared)
    assert caught.value.errno == errno.EFAULT


@pytest.fixture
def unmapped() -> int:
    """Return where a word lay until its owner gave the memory back."""
    with mmap.mmap(-1, mmap.PAGESIZE) as memory:
        cell = ctypes.c_uint32.from_buffer(memory)
        address = ctypes.addressof(cell)
        del cell
    return address


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("wake", ["wake_one", "wake_all"])
def test_a_wake_on_memory_that_is_gone_is_nothing(futex: Futex, unmapped: int, wake: str, shared: bool) -> None:
    # An unpark that loses the race against the end of the word's memory.
    getattr(futex, wake)(unmapped, shared=shared)
    getattr(futex, wake)(UNMAPPED, shared=shared)


@pytest.mark.parametrize("wake", ["wake_one", "wake_all"])
@pytest.mark.parametrize("error", [errno.EINVAL, errno.EPERM, errno.ENOSYS])
def test_another_failure_of_a_wake_is_an_error_that_names_call_and_address(
    futex: Futex, monkeypatch: pytest.MonkeyPatch, wake: str, error: int
) -> None:
    def fail(*_: object) -> int:
        ctypes.set_errno(error)
        return -1

    monkeypatch.setattr(futex, "_wake", fail)
    with pytest.raises(OSError, match=r"futex\(FUTEX_WAKE\) on the word at 0x1230\b") as caught:
        getattr(futex, wake)(0x1230)
    assert caught.value.errno == error


@pytest.mark.parametrize(("error", "left_behind"), [(errno.EFAULT, errno.EPERM), (errno.EINVAL, errno.EFAULT)])
def test_the_errno_of_a_signal_handler_is_not_taken_for_that_of_a_wake(
    futex: Futex, monkeypatch: pytest.MonkeyPatch, error: int, left_behind: int
) -> None:
    calls: list[int] = []

    def fail(*_: object) -> int:
        calls.append(error)
        # A handler runs after the first call, before its errno can be read.
        ctypes.set_errno(left_behind if len(calls) == 1 else error)
        return -1

    monkeypatch.setattr(futex, "_wake", fail)
    if error == errno.EFAULT:
        futex.wake_one(0x1230)
    else:
        with pytest.raises(OSError) as caught:
            futex.wake_one(0x1230)
        assert caught.value.errno == error


def test_without_the_calls_that_keep_the_gil(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(ctypes, "PyDLL", raising=False)  # as in PyPy
    cell = ctypes.c_uint32(1)
    futex = Futex.create()
    if futex is None:
        pytest.skip(str(Futex.refusal()))
    with Crew() as crew:
        crew.start(futex.wait, ctypes.addressof(cell), 1)
        block_until(lambda: asleep(ctypes.addressof(cell)) == 1)
        futex.wake_one(ctypes.addressof(cell))


def timespecs(monkeypatch: pytest.MonkeyPatch, futex: Futex, timespec: type[Timespec32 | Timespec64]) -> list[int]:
    """Return the list to which each wait adds its absolute deadline in nanoseconds, as the kernel would read it."""
    seen: list[int] = []

    def wait(number: int, address: int, operation: int, expected: int, at: int, *_: int) -> int:
        read = timespec.from_address(at)
        assert 0 <= read.nsec < 1_000_000_000
        seen.append(read.sec * 1_000_000_000 + read.nsec)
        return 0

    monkeypatch.setattr(futex, "_timespec", timespec)
    monkeypatch.setattr(futex, "_wait", wait)
    return seen


@pytest.mark.parametrize("timespec", [Timespec32, Timespec64])
def test_the_deadline_is_absolute_and_rounded_up(
    futex: Futex, monkeypatch: pytest.MonkeyPatch, timespec: type[Timespec32 | Timespec64]
) -> None:
    seen = timespecs(monkeypatch, futex, timespec)
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    for deadline in (1000.0000000001, 1000.25, 1000.3, math.nextafter(1234.5, 2000.0), 1000.9999999999, 86_000.1):
        futex.wait(0, 1, deadline)
        exact = Fraction(deadline) * 1_000_000_000
        # To within the resolution of the product as a float.
        assert exact - Fraction(1, 64) <= seen[-1] < exact + 1 + Fraction(1, 64)


def test_deadlines_beyond_any_clock_are_capped(futex: Futex, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = timespecs(monkeypatch, futex, Timespec32)
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    for deadline in (1e9, 1e18, 1e300, sys.float_info.max, math.inf):
        futex.wait(0, 1, deadline)
    assert seen == [87_400 * 1_000_000_000] * 5  # one day from now, which fits a 32-bit time_t


def test_deadlines_before_any_clock_are_zero(futex: Futex, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = timespecs(monkeypatch, futex, Timespec32)
    for deadline in (0.0, -0.0, -1.5, -1e18, -1e300, -sys.float_info.max, -math.inf):
        futex.wait(0, 1, deadline)
    assert seen == [0] * 7  # negative seconds would be EINVAL


def test_a_capped_wait_returns(futex: Futex, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = ctypes.c_uint32(1)
    monkeypatch.setattr(_linux, "LONGEST_WAIT", 0.001)
    with Crew() as crew:
        crew.start(futex.wait, ctypes.addressof(cell), 1, 1e18)


@pytest.mark.parametrize("wake", ["wake_one", "wake_all"])
@pytest.mark.parametrize("waits_shared", [False, True])
@pytest.mark.parametrize("memory", ["private", "mapped"])
def test_a_wake_reaches_a_waiter_that_says_otherwise_of_shared(
    futex: Futex, wake: str, waits_shared: bool, memory: str
) -> None:
    with mmap.mmap(-1, mmap.PAGESIZE) as mapped:
        cell = ctypes.c_uint32(1) if memory == "private" else ctypes.c_uint32.from_buffer(mapped)
        cell.value = 1
        address, deadline = ctypes.addressof(cell), soon()
        returned: list[float] = []

        def wait() -> None:
            futex.wait(address, 1, deadline, shared=waits_shared)
            returned.append(time.monotonic())

        with Crew() as crew:
            crew.start(wait)
            block_until(lambda: asleep(address) == 1)
            getattr(futex, wake)(address, shared=not waits_shared)
        assert returned[0] < deadline
        del cell
