"""Native code for the benchmarks: a shared library, compiled when it is asked for; and which watcher tells of it."""

from __future__ import annotations

import ctypes
import os
import subprocess
import tempfile
from contextlib import contextmanager
from ctypes import POINTER, c_int, c_int64, c_long, c_uint, c_void_p
from pathlib import Path
from typing import TYPE_CHECKING

import aiopark
import aiopark._watch

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = Path(__file__).with_name("partner.c")


def partner() -> ctypes.CDLL:
    """Compile partner.c with the system's compiler, and load it."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "partner.so"
        command = ["cc", "-std=gnu11", "-O2", "-shared", "-fPIC", "-pthread", f"-I{aiopark.get_include()}"]
        subprocess.run([*command, str(SOURCE), "-o", str(target)], check=True)
        library = ctypes.CDLL(str(target))
    for name, *arguments in (
        ("start_answering", c_void_p, c_void_p, c_int, c_uint, c_long, POINTER(c_int64)),
        ("start_unparking", c_void_p, c_uint, POINTER(c_int64)),
        ("finish",),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = None, arguments
    return library


@contextmanager
def watcher(name: str) -> Iterator[None]:
    """Have the Parkers made inside watched by "uring" or "threads", whatever the others use.

    AIOPARK_WATCHER is read once in a process; here it is read again, so that one run compares both.
    """
    before = os.environ.get(aiopark._watch.ENVIRONMENT_VARIABLE)
    os.environ[aiopark._watch.ENVIRONMENT_VARIABLE] = name
    aiopark._watch.watcher.cache_clear()
    try:
        yield
    finally:
        if before is None:
            del os.environ[aiopark._watch.ENVIRONMENT_VARIABLE]
        else:
            os.environ[aiopark._watch.ENVIRONMENT_VARIABLE] = before
        aiopark._watch.watcher.cache_clear()
