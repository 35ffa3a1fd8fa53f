"""The interpreter ends promptly, with nothing on stderr, whatever is still parked."""

from __future__ import annotations

import sys

import pytest
from support import NO_TRIO, UNDER_WINE, WATCHERS, is_installed, run_program

from aiopark.lowlevel import default_backend

# What is left parked; some of it in one process.
CASES = [
    ["a_loop_that_ended", "a_loop_that_ended_with_words", "a_loop_that_stands_still"],
    ["a_daemon_threads_loop"],
    ["sys_exit_in_a_task"],
    ["a_storm_of_unparks"],
    ["finalizers"],
    ["another_loop"],
    ["trio"],
]
NEEDS = {"another_loop": "winloop" if sys.platform == "win32" else "uvloop", "trio": "trio"}


@pytest.mark.parametrize("watcher", WATCHERS)
@pytest.mark.parametrize("cases", CASES, ids=" ".join)
def test_exit(cases: list[str], watcher: str) -> None:
    for package in {NEEDS[case] for case in cases if case in NEEDS}:
        if package == "trio" and UNDER_WINE:
            pytest.skip(NO_TRIO)
        if not is_installed(package):
            pytest.skip(f"{package} is not installed")
    run = run_program("exits", *cases, options=("-X", "dev"), AIOPARK_WATCHER=watcher)
    assert (run.returncode, run.stderr) == (0, "")


def test_exit_with_threads_parked() -> None:
    run = run_program("exits", options=("-X", "dev"))
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.skipif(default_backend().name in {"portable", "ulock"}, reason="these look names up when they wake")
def test_finalizers_without_globals() -> None:
    run = run_program("without_globals", options=("-X", "dev"))
    assert (run.returncode, run.stderr) == (0, "")
