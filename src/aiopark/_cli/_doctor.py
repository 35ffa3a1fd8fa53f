"""doctor: what aiopark found on this machine, and whether it works."""

from __future__ import annotations

import dataclasses
import os
import platform
import sys
import sysconfig
from typing import TYPE_CHECKING

import aiopark
from aiopark import _fence
from aiopark._cli._check import check
from aiopark._cli._found import LOOPS, loops, run_on, version
from aiopark._cli._report import Line, Section
from aiopark._cli._self_test import self_tests
from aiopark._loops import running_loop
from aiopark._loops._asyncio import AsyncioBridge
from aiopark.lowlevel import Futex, Portable, Ulock, WaitAddress, default_backend, refused_backends

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiopark._cli._check import Outcome


def doctor() -> Iterator[Section]:
    """Look around, then run the self-tests. Blocks for about half a second; for LIMIT a test that hangs."""
    backends = list(_backends())
    facts = [
        Line("aiopark", version("aiopark") or "version unknown: not installed"),
        Line("system", f"{platform.platform()}, {os.cpu_count()} processors"),
        Line("Python", _python()),
        *backends,
        Line("memory fence", _fence.NAME),
        Line("watcher", _watcher()),
        _fact(check("doorbell", _doorbell)),
        *_loops(),
    ]
    yield Section("What is here", facts)
    threads_can_park = all(line.holds is not False for line in backends)
    tests = self_tests(loops(), threads=threads_can_park)
    yield Section("Self-test", [check(name, test) for name, test in tests.items()])


def _fact(line: Line) -> Line:
    """Let what was found by a check read as a fact; a failure stays one."""
    return dataclasses.replace(line, holds=None) if line.holds else line


def _python() -> str:
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        threading = "with the GIL"
    else:
        # Python 3.13 and later; an extension module may have turned the GIL on again.
        threading = "free-threaded, GIL " + ("on" if getattr(sys, "_is_gil_enabled", bool)() else "off")
    build = "debug build" if hasattr(sys, "gettotalrefcount") else "release build"
    return f"{platform.python_implementation()} {platform.python_version()}, {threading}, {build}"


def _backends() -> Iterator[Line]:
    """Name the backend in use, then say of each other why it is not."""
    forced = os.environ.get("AIOPARK_BACKEND")
    chosen = ""
    try:
        chosen = default_backend().name
    except (ValueError, aiopark.UnsupportedError) as error:
        yield Line("backend", str(error), holds=False)
    else:
        yield Line("backend", f"{chosen}, forced by AIOPARK_BACKEND" if forced else chosen)
    refused = refused_backends()
    for name in (kind.name for kind in (Futex, WaitAddress, Ulock, Portable)):
        if name != chosen:
            reason = refused.get(name)
            yield Line(name, f"refused: {reason}" if reason else f"would work too: AIOPARK_BACKEND={name} forces it")


def _watcher() -> str:
    try:
        watcher = aiopark.statistics().watcher
    except (ValueError, aiopark.UnsupportedError):
        return "none without a backend"
    return watcher or "none: this release watches no words on behalf of tasks"


def _doorbell() -> Outcome:
    """Name what wakes asyncio's loop here."""

    async def ask() -> str:
        bridge = running_loop()
        assert isinstance(bridge, AsyncioBridge)
        loop = f"asyncio's {type(bridge.loop).__name__}"
        doorbell = None if bridge._doorbell is None else bridge._doorbell()
        if doorbell is None:
            return f"call_soon_threadsafe, {loop} watches no descriptors"
        return f"{doorbell.kind}, watched by {loop}"

    return True, run_on("asyncio", ask)


def _loops() -> Iterator[Line]:
    """Say of each loop, and of anyio, whether it is installed."""
    yield Line("asyncio", "part of Python")
    for name in (*LOOPS[1:], "anyio"):
        yield Line(name, version(name) or "not installed")
