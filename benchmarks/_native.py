"""Native code for the benchmarks: a shared library, compiled when it is asked for; and processes for the watchers."""

from __future__ import annotations

import ctypes
import functools
import multiprocessing
import os
import subprocess
import tempfile
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from ctypes import POINTER, c_int, c_int64, c_long, c_uint, c_void_p
from pathlib import Path
from typing import TYPE_CHECKING

import aiopark

if TYPE_CHECKING:
    from collections.abc import Iterator


def compiled(source: str) -> ctypes.CDLL:
    """Compile a file of this folder with the system's compiler, and load it."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "compiled.so"
        command = ["cc", "-std=gnu11", "-O2", "-shared", "-fPIC", "-pthread", f"-I{aiopark.get_include()}"]
        subprocess.run([*command, str(Path(__file__).with_name(source)), "-o", str(target)], check=True)
        return ctypes.CDLL(str(target))


@functools.cache
def partner() -> ctypes.CDLL:
    """Return partner.c."""
    library = compiled("partner.c")
    for name, *arguments in (
        ("start_answering", c_void_p, c_void_p, c_int, c_uint, c_long, POINTER(c_int64)),
        ("start_unparking", c_void_p, c_uint, POINTER(c_int64)),
        ("finish",),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = None, arguments
    return library


def no_ring() -> str | None:
    """Return why words are not watched by a ring here, or None."""
    used = aiopark.statistics().watcher
    return None if used == "uring" else f"words are watched by {used} here, not by a ring"


@contextmanager
def process(watcher: str) -> Iterator[ProcessPoolExecutor]:
    """Run calls in another process, whose words are watched by "uring" or "threads": a process has one watcher."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        before = os.environ.get("AIOPARK_WATCHER")
        os.environ["AIOPARK_WATCHER"] = watcher
        try:
            pool.submit(partner).exception()  # a library cannot be sent back, but it is compiled, and the process there
        finally:
            del os.environ["AIOPARK_WATCHER"]
            if before is not None:
                os.environ["AIOPARK_WATCHER"] = before
        yield pool
