"""Does an io_uring wait on futexes here? And what the answer costs the process: nothing that stays, no thread."""

import errno
import os
import platform
import sys

import pytest

if not sys.platform.startswith("linux"):
    pytest.skip("io_uring is Linux' own", allow_module_level=True)

from support import run_program
from support.rings import failing, held, needs_ring

from aiopark._os import _io_uring_calls, _io_uring_memory, _io_uring_probe
from aiopark._os._io_uring_probe import refusal


@pytest.mark.parametrize(
    ("error", "texts"),
    [
        (errno.EPERM, ["Operation not permitted", "seccomp", "sysctl kernel.io_uring_disabled"]),
        (errno.ENOSYS, ["Function not implemented", "Linux 6.7", platform.release()]),
        (errno.EINVAL, ["Invalid argument", "Linux 6.7", platform.release()]),  # a flag that it does not know
        (errno.EACCES, ["io_uring_setup: Permission denied"]),
    ],
)
def test_a_kernel_that_gives_no_ring(monkeypatch: pytest.MonkeyPatch, error: int, texts: list[str]) -> None:
    monkeypatch.setattr(_io_uring_calls, "raw", failing(error))
    before = held()
    refused = refusal.__wrapped__()
    assert refused is not None
    assert refused.startswith("io_uring_setup: ")
    for text in texts:
        assert text in refused
    assert held() == before


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
@pytest.mark.parametrize("call", ["eventfd", "io_uring_setup"])
def test_a_shortage_says_nothing_about_the_kernel(monkeypatch: pytest.MonkeyPatch, error: int, call: str) -> None:
    def no_eventfd(*_: object) -> int:
        raise OSError(error, "eventfd")

    if call == "eventfd":
        monkeypatch.setattr(os, "eventfd", no_eventfd)
    else:
        monkeypatch.setattr(_io_uring_calls, "raw", failing(error))
    assert refusal.__wrapped__() is None


def test_a_kernel_without_eventfd(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_eventfd(*_: object) -> int:
        raise OSError(errno.ENOSYS, "eventfd: Function not implemented")

    monkeypatch.setattr(os, "eventfd", no_eventfd)
    assert "Linux 6.7" in str(refusal.__wrapped__())


@pytest.mark.parametrize("result", [-errno.EINVAL, 0])
def test_a_kernel_whose_rings_do_not_wait_on_futexes(monkeypatch: pytest.MonkeyPatch, result: int) -> None:
    closed = []

    class OldRing:
        def __init__(self, *_: object) -> None:
            self.queued = 0

        def prepare(self, *_: object) -> bool:
            self.queued += 1
            return True

        def submit(self) -> None:
            pass

        def completions(self) -> list[tuple[int, int]]:
            return [(user_data, result) for user_data in range(self.queued)]

        def close(self) -> None:
            closed.append(self)

    monkeypatch.setattr(_io_uring_probe, "Ring", OldRing)
    refused = refusal.__wrapped__()
    assert refused == (
        f"IORING_OP_FUTEX_WAIT gave [{result}] (it came with Linux 6.7, and this is {platform.release()})"
    )
    assert len(closed) == 1


def test_a_kernel_whose_rings_drop_completions(monkeypatch: pytest.MonkeyPatch) -> None:
    before = held()
    monkeypatch.setattr(_io_uring_memory, "system_call", lambda *_: os.dup(0))  # no features
    assert "NODROP" in str(refusal.__wrapped__())
    assert held() == before


def test_another_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "sunos5")
    assert refusal.__wrapped__() == "io_uring is Linux' own, and this is sunos5"


def test_a_python_without_eventfd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delattr(os, "eventfd", raising=False)  # as in PyPy
    assert "no os.eventfd" in str(refusal.__wrapped__())


# --- private futexes, and the first thread of a process ---


@needs_ring
@pytest.mark.parametrize("where", ["process", "child"])
def test_no_thread_is_started_and_the_first_one_orphans_no_wait(where: str) -> None:
    """Since Linux 6.16 the first thread brings a table of private futexes, and a wake no longer finds older waits."""
    run = run_program("first_thread", where, options=("-W", "ignore::DeprecationWarning"))
    assert (run.returncode, run.stdout, run.stderr) == (0, "64\n", "")
