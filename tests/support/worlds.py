"""The event loops, backends and watchers that the tests run on."""

from __future__ import annotations

import asyncio
import ctypes
import importlib.util
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from aiopark._os import Futex, Portable, Ulock, WaitAddress
from aiopark._watch import RingWatch, ThreadWatch, refused_watchers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


# The backends that work here.
REAL_BACKENDS = {kind.name: kind for kind in (Futex, WaitAddress, Ulock, Portable) if kind.refusal() is None}

# The watchers that work here.
WATCHERS = {kind.name: kind for kind in (RingWatch, ThreadWatch) if kind.name not in refused_watchers()}

# Wine is a re-implementation of Windows; what is its own fault, and not Windows' behaviour, is told apart by this.
UNDER_WINE = sys.platform == "win32" and hasattr(ctypes.WinDLL("ntdll"), "wine_get_version")
NO_TRIO = "trio does not start under Wine, which has no SIO_BASE_HANDLE"


def is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def needs(package: str) -> pytest.MarkDecorator:
    """Skip a test where an optional package is not installed."""
    reason = NO_TRIO if package == "trio" and UNDER_WINE else f"{package} is not installed"
    return pytest.mark.skipif(not is_installed(package), reason=reason)


@dataclass(frozen=True)
class World:
    """An event loop that the tests run on, through anyio."""

    name: str
    package: str = "asyncio"
    backend: str = "asyncio"
    loop: str = ""  # the module whose new_event_loop makes it, or asyncio's class; asyncio's default if empty
    debug: bool = False
    eager: bool = False

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        assert self.backend == "asyncio"
        if hasattr(asyncio, self.loop):
            return getattr(asyncio, self.loop)()
        return importlib.import_module(self.loop or "asyncio").new_event_loop()

    def run(self, main: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        async def entry() -> Any:
            if self.eager:
                asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
            return await main(*arguments)

        options = {"loop_factory": self.new_event_loop, "debug": self.debug} if self.backend == "asyncio" else {}
        return anyio.run(entry, backend=self.backend, backend_options=options)


ASYNCIO = World("proactor" if sys.platform == "win32" else "asyncio")  # the default there
TRIO = World("trio", package="trio", backend="trio")
OTHERS = [World("uvloop", package="uvloop", loop="uvloop")]
if sys.platform == "win32":
    OTHERS = [World("selector", loop="SelectorEventLoop"), World("winloop", package="winloop", loop="winloop")]
PLAIN_WORLDS = [ASYNCIO, *OTHERS, TRIO]
WORLDS = [*PLAIN_WORLDS, World("asyncio-debug", debug=True)]
if sys.version_info >= (3, 12):
    WORLDS.append(World("asyncio-eager", eager=True))


def each(worlds: list[World]) -> list[Any]:
    """Return the parameters of a test that runs on each of them; on those that are not installed it is skipped."""
    return [pytest.param(world, id=world.name, marks=needs(world.package)) for world in worlds]


def installed(worlds: list[World]) -> list[World]:
    return [world for world in worlds if is_installed(world.package)]
