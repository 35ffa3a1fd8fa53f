"""The programs in examples/ run, as a reader would run them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import PATIENCE, UNDER_WINE, is_installed

from aiopark.lowlevel import default_backend

EXAMPLES = Path(__file__).parent.parent / "examples"
BACKEND = default_backend()

# What each prints, and what it needs.
PROGRAMS = {
    "c_pool/main.py": "100 jobs done; there are 2,262 primes below 20,000",
    "fastapi_deadline.py": "200 {'answer': 1000} 503 200 {'answer': 2000}",
    "plain_ctypes.py": "after 1000 readings the sensor says 30.00",
    "serial_driver.py": "6 answers in their order, and one question that nobody answered",
    "shared_ring.py": "100,000 items came, whole and in order",
    "sqlite_worker.py": "500 queries answered, 500 stopped, none left running",
}
MISSING = {
    "c_pool/main.py": (
        "there is no C compiler with POSIX threads" if os.name == "nt" or shutil.which("cc") is None
        else "native code cannot wake this backend" if not BACKEND.supports_native_wake
        else None
    ),
    "fastapi_deadline.py": (
        "the native part of pydantic does not load under Wine" if UNDER_WINE
        else None if all(map(is_installed, ("fastapi", "uvicorn", "httpx")))
        else "fastapi, uvicorn or httpx is not installed"
    ),
    "plain_ctypes.py": (
        None if BACKEND.name == "futex" and sys.maxsize > 2**32
        else "it calls the futex of 64-bit Linux, and this is not it, or waits with something else"
    ),
    "serial_driver.py": None if hasattr(os, "openpty") else "this system has no pseudo terminals",
    "shared_ring.py": None if BACKEND.supports_shared else "this backend reaches no other process",
    "sqlite_worker.py": None if is_installed("sqlite3") else "this Python has no sqlite3",
}  # fmt: skip


def test_all_are_run():
    found = {*EXAMPLES.glob("*.py"), *EXAMPLES.glob("*/main.py")}
    assert {path.relative_to(EXAMPLES).as_posix() for path in found} == set(PROGRAMS)


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("watcher", ["any", "threads"])
def test_program(program, watcher):
    if MISSING[program] is not None:
        pytest.skip(MISSING[program])
    environment = os.environ | {"PYTHONWARNINGS": "error"}
    if watcher != "any":
        environment["AIOPARK_WATCHER"] = watcher
    done = subprocess.run(
        [sys.executable, EXAMPLES / program],
        env=environment, capture_output=True, text=True, timeout=3 * PATIENCE, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout.splitlines(), done.stderr) == (0, [PROGRAMS[program]], "")
