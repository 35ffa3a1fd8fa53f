"""Ulock: three generations of macOS' calls, over a MODEL of them (macos_model.c): none of this runs on macOS."""

import ctypes
import errno
import math
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from support import Crew, asleep, block_until

from aiopark._os import Ulock, _macos

GENERATIONS = ["OS_SYNC", "ULOCK_WAIT2", "ULOCK_WAIT"]
NAMES = {
    "OS_SYNC": "os_sync_wait_on_address",
    "ULOCK_WAIT2": "__ulock_wait2",
    "ULOCK_WAIT": "__ulock_wait",
}

Model = tuple[Ulock, ctypes.CDLL]


@pytest.fixture(params=GENERATIONS)
def generation(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model(generation: str, macos_model: Callable[..., Model]) -> Model:
    return macos_model(generation)


@pytest.fixture
def address() -> Any:
    cell = ctypes.c_uint32(1)
    yield ctypes.addressof(cell)
    del cell


def test_the_generation_that_is_there_is_used(model: Model, generation: str) -> None:
    assert model[0]._calls.name == NAMES[generation]


@pytest.mark.parametrize(
    ("there", "chosen"),
    [
        (("OS_SYNC", "ULOCK_WAIT2", "ULOCK_WAIT"), "OS_SYNC"),
        (("OS_SYNC", "ULOCK_WAIT"), "OS_SYNC"),
        (("ULOCK_WAIT2", "ULOCK_WAIT"), "ULOCK_WAIT2"),
    ],
)
def test_the_newest_generation_is_used(macos_model: Callable[..., Model], there: tuple[str, ...], chosen: str) -> None:
    assert macos_model(*there)[0]._calls.name == NAMES[chosen]


def test_a_library_without_any_of_the_calls_is_refused(compile_model: Callable[..., str]) -> None:
    refusal = Ulock._load(compile_model("macos_model.c"))
    assert refusal == "the C library has neither os_sync_wait_on_address nor __ulock_wait; they came with 10.12"


@pytest.mark.skipif(sys.platform == "darwin", reason="works there")
def test_another_system_is_refused() -> None:
    assert Ulock.create() is None
    assert sys.platform in str(Ulock.refusal())


def test_macos_itself_is_asked_for_the_calls(
    monkeypatch: pytest.MonkeyPatch, macos_model: Callable[..., Model]
) -> None:
    backend, _ = macos_model("OS_SYNC")
    asked: list[str | None] = []
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(Ulock, "_load", lambda library: asked.append(library) or backend)
    assert Ulock.create() is backend
    assert Ulock.refusal() is None
    assert asked == [None, None]  # the C library that the process has loaded anyway
    monkeypatch.setattr(Ulock, "_load", lambda _: "too old")
    assert Ulock.create() is None
    assert Ulock.refusal() == "too old"


@pytest.mark.parametrize("error", [errno.EFAULT, errno.ENOMEM, errno.EINTR, errno.ETIMEDOUT])
@pytest.mark.parametrize("deadline", [None, math.inf])
def test_what_passes_is_a_spurious_return(model: Model, address: int, error: int, deadline: float | None) -> None:
    # EFAULT: the page is not resident, and the caller's look at the cell brings it in.
    backend, library = model
    library.model_fail_next_wait(error)
    backend.wait(address, 1, deadline)  # nobody wakes
    with Crew() as crew:  # the next one sleeps
        crew.start(backend.wait, address, 1, deadline)
        block_until(lambda: asleep(address) == 1)
        backend.wake_one(address)


@pytest.mark.parametrize("error", [errno.EPERM, errno.EINVAL, errno.EDOM, errno.ENOENT])
@pytest.mark.parametrize("deadline", [None, math.inf])
def test_another_failure_is_an_error_that_names_call_and_address(
    model: Model, generation: str, address: int, error: int, deadline: float | None
) -> None:
    backend, library = model
    library.model_fail_next_wait(error)
    with pytest.raises(OSError, match=rf"{NAMES[generation]} on the word at {address:#x}\b") as caught:
        backend.wait(address, 1, deadline)
    assert caught.value.errno == error


@pytest.mark.parametrize("wake", ["wake_one", "wake_all"])
def test_a_wake_that_fails(model: Model, generation: str, address: int, wake: str) -> None:
    backend, library = model
    getattr(backend, wake)(address)  # ENOENT, since nobody waits, is none
    library.model_fail_next_wake(errno.EDOM)  # a stranger waits there, for 8 bytes, say: the memory was given away
    getattr(backend, wake)(address)
    library.model_fail_next_wake(errno.EPERM)
    message = rf"the wake that belongs to {NAMES[generation]} on the word at {address:#x}\b"
    with pytest.raises(PermissionError, match=message):
        getattr(backend, wake)(address)


@pytest.mark.parametrize("ago", [0.0, 1e-9, 1.0, 1e18, math.inf])
def test_a_deadline_that_has_passed_is_never_a_timeout_of_zero(model: Model, address: int, ago: float) -> None:
    # Zero is EINVAL to os_sync_wait_on_address_with_timeout, and forever to __ulock_wait.
    backend, library = model
    backend.wait(address, 1, time.monotonic() - ago)
    assert library.model_last_timeout() == 1


@pytest.mark.parametrize(
    ("remaining", "nanoseconds"),
    [(1e-9, 1), (0.25e-6, 250), (0.001, 1_000_000), (1.5, 1_500_000_000), (86_400.0, 86_400 * 10**9)],
)
def test_timeouts_are_rounded_up(
    model: Model,
    generation: str,
    address: int,
    monkeypatch: pytest.MonkeyPatch,
    remaining: float,
    nanoseconds: int,
) -> None:
    backend, library = model
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    backend.wait(address, 0, remaining)  # another value: returns at once
    if generation == "ULOCK_WAIT":  # microseconds in 32 bits: 71.6 minutes at most
        assert library.model_last_timeout() == min(-(-nanoseconds // 1000), 2**32 - 1)
    else:
        assert library.model_last_timeout() == nanoseconds


@pytest.mark.parametrize("deadline", [1e6, 1e18, 1e300, sys.float_info.max, math.inf])
def test_deadlines_beyond_any_clock_are_capped(
    model: Model, generation: str, address: int, monkeypatch: pytest.MonkeyPatch, deadline: float
) -> None:
    backend, library = model
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    backend.wait(address, 0, deadline)
    assert library.model_last_timeout() == (2**32 - 1 if generation == "ULOCK_WAIT" else 86_400 * 10**9)


def test_a_capped_wait_returns(model: Model, address: int, monkeypatch: pytest.MonkeyPatch) -> None:
    backend, _ = model
    monkeypatch.setattr(_macos, "LONGEST_WAIT", 0.001)
    with Crew() as crew:
        crew.start(backend.wait, address, 1, 1e18)


@pytest.mark.parametrize("wake", ["wake_one", "wake_all"])
def test_private_and_shared_waits_do_not_meet(model: Model, address: int, wake: str) -> None:
    backend, _ = model
    with Crew() as crew:
        thread = crew.start(lambda: backend.wait(address, 1, shared=True))
        block_until(lambda: asleep(address) == 1)
        getattr(backend, wake)(address)
        assert asleep(address) == 1
        getattr(backend, wake)(address, shared=True)
        block_until(lambda: not thread.is_alive())


class TestTheModelItself:
    """A model that accepted everything would prove nothing: what the documents call an error is one."""

    def test_os_sync(self, compile_model: Callable[..., str], address: int) -> None:
        library = ctypes.CDLL(compile_model("macos_model.c", "OS_SYNC"), use_errno=True)
        pointer, u64, size, u32 = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_size_t, ctypes.c_uint32
        wait = library.os_sync_wait_on_address_with_timeout
        wait.argtypes = (pointer, u64, size, u32, u32, u64)
        for arguments, error in (
            ((address, 1, 4, 0, 32, 0), errno.EINVAL),  # zero
            ((address, 1, 4, 0, 1, 5), errno.EINVAL),  # another clock
            ((address, 1, 3, 0, 32, 5), errno.EINVAL),  # size
            ((address, 1, 4, 2, 32, 5), errno.EINVAL),  # flags
            ((address, 1, 4, 0, 32, 5), errno.ETIMEDOUT),
        ):
            assert (wait(*arguments), ctypes.get_errno()) == (-1, error)
        assert wait(address, 0, 4, 0, 32, 5) >= 0  # another value
        assert wait(address, 1 | 1 << 32, 4, 0, 32, 5) >= 0  # compared as 64 bits
        wake = library.os_sync_wake_by_address_any
        wake.argtypes = (pointer, size, u32)
        assert (wake(address, 4, 0), ctypes.get_errno()) == (-1, errno.ENOENT)

    def test_ulock(self, compile_model: Callable[..., str], address: int) -> None:
        library = ctypes.CDLL(compile_model("macos_model.c", "ULOCK_WAIT2", "ULOCK_WAIT"), use_errno=True)
        pointer, u64, u32 = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32
        wait2, wait, wake = library["__ulock_wait2"], library["__ulock_wait"], library["__ulock_wake"]
        wait2.argtypes = (u32, pointer, u64, u64, u64)
        wait.argtypes = (u32, pointer, u64, u32)
        wake.argtypes = (u32, pointer, u64)
        for call, arguments, error in (
            (wait2, (2, address, 1, 5, 0), errno.EINVAL),  # operation
            (wait2, (1, address, 1, 5, 1), errno.EINVAL),  # second value
            (wait2, (1, address, 1, 5, 0), errno.ETIMEDOUT),
            (wait, (7, address, 1, 5), errno.EINVAL),
            (wait, (3, address, 1, 5), errno.ETIMEDOUT),
            (wake, (4, address, 0), errno.EINVAL),
            (wake, (0x101, address, 0), errno.ENOENT),
        ):
            assert (call(*arguments), ctypes.get_errno()) == (-1, error)
        for call, arguments in ((wait2, (1, address, 0, 0, 0)), (wait, (1, address, 0, 0))):
            assert call(*arguments) >= 0  # another value
