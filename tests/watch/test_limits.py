"""What docs/words.md says of rings that cannot be had: a thread takes over, unless a ring is forced."""

from __future__ import annotations

import platform
import sys

import pytest
from support import WATCHERS, needs, run_program

linux = pytest.mark.skipif(sys.platform != "linux", reason="limits and descriptors as Linux has them")
MISSING = ["eventfd", pytest.param("descriptor", marks=linux)]
ERRORS = {
    "eventfd": "aiopark.UnsupportedError: this event loop cannot watch an eventfd",
    "descriptor": "OSError: [Errno 24]",
}


@pytest.mark.parametrize("missing", MISSING)
def test_a_thread_takes_over_where_no_ring_is_to_be_had(missing: str) -> None:
    ran = run_program("no_ring", missing, AIOPARK_WATCHER="")
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.skipif("uring" not in WATCHERS, reason="no ring is to be had here")
@pytest.mark.parametrize("missing", MISSING)
def test_forced_rings_that_are_not_to_be_had(missing: str) -> None:
    ran = run_program("no_ring", missing, AIOPARK_WATCHER="uring")
    assert ran.returncode == 1
    assert ERRORS[missing] in ran.stderr


# --- what the kernel takes away while we run ---


@pytest.mark.skipif("uring" not in WATCHERS, reason="no ring is to be had here")
@pytest.mark.skipif(platform.machine() == "alpha", reason="other numbers")
@pytest.mark.parametrize("forced", [False, True])
@pytest.mark.parametrize("case", ["new loop", "watched", pytest.param("trio", marks=needs("trio"))])
def test_a_sandbox_that_is_entered_after_the_first_ring(case: str, forced: bool) -> None:
    """Threads take over, which the log says once; where rings are forced, the park raises; the loop goes on."""
    ran = run_program("sandbox", case, AIOPARK_WATCHER="uring" if forced else "")
    if forced:
        assert ran.returncode == 1
        assert "PermissionError: [Errno 1]" in ran.stderr
        assert "TrioInternalError" not in ran.stderr
    else:
        assert (ran.returncode, ran.stdout) == (0, "threads\n"), ran.stderr
        (line,) = ran.stderr.splitlines()
        assert line.startswith("aiopark WARNING io_uring is refused from now on (")


@linux
@pytest.mark.parametrize("loop", ["asyncio", pytest.param("trio", marks=needs("trio"))])
@pytest.mark.parametrize("watcher", list(WATCHERS))
def test_no_thread_is_to_be_had(watcher: str, loop: str) -> None:
    """A ring needs none; else the park says so, and the process goes on."""
    ran = run_program("no_thread", loop, AIOPARK_WATCHER=watcher)
    assert (ran.returncode, ran.stderr) == (0, "")
    if watcher == "uring":
        assert ran.stdout == "slept\n"
    else:
        assert ran.stdout.startswith("OSError 11 [Errno 11] no thread to watch the word at 0x")


@linux
@pytest.mark.parametrize("what", ["word", "no word"])
@pytest.mark.parametrize("loop", ["asyncio", pytest.param("trio", marks=needs("trio"))])
def test_the_first_park_of_a_process_that_has_no_descriptor_left(loop: str, what: str) -> None:
    ran = run_program("no_descriptor", loop, what, AIOPARK_WATCHER="")
    assert (ran.returncode, ran.stdout) == (0, "parked\n"), ran.stderr
