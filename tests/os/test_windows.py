"""WaitAddress: milliseconds of a DWORD, slices on the main thread, errors. Over stand-ins for the three functions."""

import ctypes
import math
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from support import Crew

from aiopark._os import WaitAddress, _windows
from aiopark._os._windows import ERROR_TIMEOUT, INFINITE, milliseconds

ERROR_INVALID_PARAMETER = 87


class Function:
    """Stands in for a foreign function."""

    def __init__(self, action: Callable[..., int] = lambda *_: 1) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.action = action

    def __call__(self, *arguments: Any) -> int:
        self.calls.append(arguments)
        return self.action(*arguments)


def backend_over(action: Callable[..., int]) -> tuple[WaitAddress, Function]:
    wait = Function(action)
    return WaitAddress(wait, Function(), Function()), wait


def fail(error: int) -> int:
    (ctypes.set_last_error if sys.platform == "win32" else ctypes.set_errno)(error)
    return 0


@pytest.mark.parametrize(
    ("remaining", "expected"),
    [
        (0.0, 0),
        (-0.0, 0),
        (-1e-9, 0),
        (-5.0, 0),
        (-1e300, 0),
        (-math.inf, 0),
        (1e-12, 1),
        (0.0001, 1),
        (0.001, 1),
        (0.0010001, 2),
        (0.1, 100),
        (1.5, 1500),
        (86_400.0, 86_400_000),
        (4_294_967.294, 0xFFFFFFFE),
        (4_294_967.295, 0xFFFFFFFE),  # INFINITE milliseconds
        (49.8 * 86_400, 0xFFFFFFFE),
        (1e12, 0xFFFFFFFE),
        (1e308, 0xFFFFFFFE),
        (math.inf, 0xFFFFFFFE),
    ],
)
def test_milliseconds_are_rounded_up_and_never_infinite(remaining: float, expected: int) -> None:
    assert milliseconds(remaining) == expected != INFINITE
    assert isinstance(milliseconds(remaining), int)


def test_what_windows_is_given() -> None:
    def wait(address: int, compare: int, size: int, timeout: int) -> int:
        seen.append((address, ctypes.c_uint32.from_address(compare).value, size, timeout))
        return 1

    seen: list[tuple[int, ...]] = []
    backend, function = backend_over(wait)
    with Crew() as crew:  # not on the main thread: no slices
        crew.start(backend.wait, 0x1000, 0xFFFFFFFF)
    with Crew() as crew:
        crew.start(backend.wait, 0x1000, 1, -math.inf)
    with Crew() as crew:
        crew.start(backend.wait, 0x1000, 1, 1e300)
    assert seen == [(0x1000, 0xFFFFFFFF, 4, INFINITE), (0x1000, 1, 4, 0), (0x1000, 1, 4, 86_400_000)]
    assert function.argtypes == (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint32)


def test_the_deadline_becomes_what_is_left_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    backend, function = backend_over(lambda *_: 1)
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    backend.wait(0x1000, 1, 1000.0123)
    assert function.calls[0][3] == 13


@pytest.mark.parametrize("deadline", [None, math.inf, 1e18])
def test_the_main_thread_waits_in_slices(deadline: float | None) -> None:
    assert threading.current_thread() is threading.main_thread()
    backend, function = backend_over(lambda *_: 1)
    backend.wait(0x1000, 1, deadline)
    assert function.calls[0][3] == 100


def test_a_wait_of_the_main_thread_returns_for_a_look_at_ctrl_c(windows_model: WaitAddress) -> None:
    # Over the MODEL of Windows' calls, not Windows. Nobody wakes.
    cell = ctypes.c_uint32(1)
    windows_model.wait(ctypes.addressof(cell), 1)


def test_a_timeout_is_no_error() -> None:
    backend, _ = backend_over(lambda *_: fail(ERROR_TIMEOUT))
    backend.wait(0x1000, 1, 0.0)


@pytest.mark.parametrize("error", [ERROR_INVALID_PARAMETER, 5])
def test_another_failure_is_an_error_that_names_call_and_address(error: int) -> None:
    backend, _ = backend_over(lambda *_: fail(error))
    with pytest.raises(OSError, match=r"WaitOnAddress on the word at 0x1234\b") as caught:
        backend.wait(0x1234, 1)
    assert caught.value.errno == error


def test_the_wakes_are_given_the_address() -> None:
    single, everybody = Function(), Function()
    backend = WaitAddress(Function(), single, everybody)
    backend.wake_one(0x1000)
    assert (single.calls, everybody.calls) == ([(0x1000,)], [])
    backend.wake_all(0x2000)
    assert (single.calls, everybody.calls) == ([(0x1000,)], [(0x2000,)])


@pytest.mark.skipif(sys.platform == "win32", reason="works there")
def test_another_system_is_refused() -> None:
    assert WaitAddress.create() is None
    assert sys.platform in str(WaitAddress.refusal())


class Library:
    """Stands in for a DLL."""

    def __init__(self, *names: str) -> None:
        self.functions = {name: Function() for name in names}

    def __getitem__(self, name: str) -> Function:
        try:
            return self.functions[name]
        except KeyError:
            raise AttributeError(name) from None


CALLS = ("WaitOnAddress", "WakeByAddressSingle", "WakeByAddressAll")


@pytest.mark.parametrize("pointer_bytes", [4, 8])
@pytest.mark.parametrize(
    ("libraries", "loaded"),
    [
        ({"api-ms-win-core-synch-l1-2-0": CALLS, "kernelbase": CALLS}, ["api-ms-win-core-synch-l1-2-0"]),
        ({"kernelbase": CALLS}, ["kernelbase"]),
        ({"api-ms-win-core-synch-l1-2-0": (), "kernelbase": CALLS}, ["api-ms-win-core-synch-l1-2-0", "kernelbase"]),
        ({"kernelbase": CALLS[:2]}, None),
        ({}, None),
    ],
)
def test_where_the_functions_are_looked_for(
    monkeypatch: pytest.MonkeyPatch, libraries: dict[str, tuple[str, ...]], loaded: list[str] | None, pointer_bytes: int
) -> None:
    seen: list[str] = []

    def load(name: str, *, use_last_error: bool = False) -> Library:
        if name not in libraries:
            raise FileNotFoundError(name)
        if name not in seen:
            seen.append(name)
        return Library(*libraries[name])

    true_sizeof = ctypes.sizeof
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(ctypes, "WinDLL", load, raising=False)
    monkeypatch.setattr(ctypes, "PyDLL", load, raising=False)
    monkeypatch.setattr(ctypes, "sizeof", lambda t: pointer_bytes if t is ctypes.c_void_p else true_sizeof(t))
    backend, refusal = WaitAddress.create(), WaitAddress.refusal()
    if loaded is None:
        assert backend is None
        assert refusal == (
            "neither of api-ms-win-core-synch-l1-2-0, kernelbase exports WaitOnAddress; it came with Windows 8"
        )
    else:
        assert isinstance(backend, WaitAddress)
        assert refusal is None
        assert seen == loaded


def test_a_capped_wait_returns(windows_model: WaitAddress, monkeypatch: pytest.MonkeyPatch) -> None:
    # Over the MODEL of Windows' calls, not Windows.
    cell = ctypes.c_uint32(1)
    monkeypatch.setattr(_windows, "LONGEST_WAIT", 0.001)
    with Crew() as crew:
        crew.start(windows_model.wait, ctypes.addressof(cell), 1, 1e18)
