"""doctor: what aiopark found on this machine, and whether it works."""

from __future__ import annotations

import dataclasses
import os
import platform
import sys
import sysconfig
from typing import TYPE_CHECKING

import aiopark
from aiopark._cell import FENCE
from aiopark._cli._check import check
from aiopark._cli._found import LOOPS, loops, run_on, version
from aiopark._cli._section import Line, Section
from aiopark._cli._self_test import self_tests
from aiopark._loops import running_loop
from aiopark._loops._asyncio import AsyncioBridge
from aiopark._watch import WATCHERS, refused_watchers, watcher
from aiopark.lowlevel import Futex, Portable, Ulock, WaitAddress, default_backend, refused_backends

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from aiopark._cli._check import Outcome


def doctor() -> Iterator[Section]:
    """Look around, then run the self-tests. Blocks for about two seconds; for LIMIT a test that hangs."""
    backends = list(_backends())
    threads_can_park = all(line.holds is not False for line in backends)
    watchers = list(_watchers()) if threads_can_park else [Line("watcher", "none without a backend")]
    words_are_watched = threads_can_park and all(line.holds is not False for line in watchers)
    facts = [
        Line("aiopark", version("aiopark") or "version unknown: not installed"),
        Line("system", f"{platform.platform()}, {os.cpu_count()} processors"),
        Line("Python", _python()),
        *backends,
        Line("memory fence", FENCE),
        *watchers,
        _fact(check("doorbell", _doorbell)),
        *_loops(),
    ]
    yield Section("What is here", facts)
    working = _working_watchers() if words_are_watched else []
    tests = self_tests(loops(), threads=threads_can_park, watchers=working)
    yield Section("Self-test", [check(name, test) for name, test in tests.items()])


def _fact(line: Line) -> Line:
    """Turn what a check found into a fact; a failure stays one."""
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
    """Yield the backend in use, then each other with the reason why it is not."""
    names = [kind.name for kind in (Futex, WaitAddress, Ulock, Portable)]
    return _choice("backend", lambda: default_backend().name, refused_backends, names)


def _watchers() -> Iterator[Line]:
    """Yield the watcher in use, then each other with the reason why it is not."""
    return _choice("watcher", watcher, refused_watchers, WATCHERS)


def _choice(
    kind: str, choose: Callable[[], str], refused: Callable[[], dict[str, str]], names: Sequence[str]
) -> Iterator[Line]:
    variable = f"AIOPARK_{kind.upper()}"
    chosen = ""
    try:
        chosen = choose()
    except (ValueError, aiopark.UnsupportedError) as error:
        yield Line(kind, str(error), holds=False)
    else:
        yield Line(kind, f"{chosen}, forced by {variable}" if os.environ.get(variable) else chosen)
    reasons = refused()
    for name in names:
        if name != chosen:
            reason = reasons.get(name)
            yield Line(name, f"refused: {reason}" if reason else f"would work too: {variable}={name} forces it")


def _working_watchers() -> list[str]:
    """Return the watchers that work here, the one in use first."""
    refused = refused_watchers()
    return [watcher(), *(name for name in WATCHERS if name != watcher() and name not in refused)]


def _doorbell() -> Outcome:
    """Find what wakes asyncio's loop here."""

    async def ask() -> str:
        bridge = running_loop()
        assert isinstance(bridge, AsyncioBridge)
        loop = f"asyncio's {type(bridge.loop).__name__}"
        doorbell = bridge.doorbell()
        if doorbell is None:
            return f"call_soon_threadsafe, {loop} watches no descriptors"
        return f"{doorbell.kind}, watched by {loop}"

    return True, run_on("asyncio", ask)


def _loops() -> Iterator[Line]:
    """Yield the version of each loop, and of anyio."""
    yield Line("asyncio", "part of Python")
    for name in (*LOOPS[1:], "anyio"):
        yield Line(name, version(name) or "not installed")
