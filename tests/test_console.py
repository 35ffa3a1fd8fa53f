"""Ctrl-C on a console of Windows: what ends a park of the main thread, which no system call of Windows lets through."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from support import PATIENCE, REAL_BACKENDS, program

pytestmark = pytest.mark.skipif(
    sys.platform != "win32", reason="Ctrl-C is a signal here, see thread_parker/test_signals.py"
)


def run(case: str, **environment: str) -> list[str]:
    """Run it with a console of its own, so that its Ctrl-C reaches nobody else; return the lines that it printed."""
    assert sys.platform == "win32"
    done = subprocess.run(
        program("console", case),
        env={**os.environ, **environment},
        creationflags=subprocess.CREATE_NO_WINDOW,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize("park", ["park", "park_timeout"])
@pytest.mark.parametrize("name", REAL_BACKENDS)
def test_ctrl_c_ends_a_park_of_the_main_thread(name: str, park: str) -> None:
    assert run(park, AIOPARK_BACKEND=name) == ["interrupted", "True"]


@pytest.mark.parametrize("name", REAL_BACKENDS)
def test_a_handler_of_ctrl_c_unparks_the_thread_that_it_interrupts(name: str) -> None:
    assert run("handler unparks", AIOPARK_BACKEND=name) == ["True"]


@pytest.mark.parametrize("park", ["task parks", "task parks with timeout"])
def test_ctrl_c_cancels_the_parked_main_task(park: str) -> None:
    assert run(park) == ["interrupted", "True"]


def test_a_handler_of_ctrl_c_unparks_a_task() -> None:
    assert run("handler unparks task") == ["True"]
