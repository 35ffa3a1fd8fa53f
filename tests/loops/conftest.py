"""The loops of asyncio's kind."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import pytest
from support import is_installed, needs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

if sys.platform == "win32":
    import winloop

    FACTORIES = [asyncio.ProactorEventLoop, asyncio.SelectorEventLoop, winloop.new_event_loop]
elif is_installed("uvloop"):
    import uvloop

    FACTORIES = [asyncio.new_event_loop, uvloop.new_event_loop]
else:
    FACTORIES = [asyncio.new_event_loop, pytest.param(None, id="uvloop", marks=needs("uvloop"))]


@pytest.fixture(params=FACTORIES, ids=lambda factory: factory.__module__.partition(".")[0] + "." + factory.__name__)
def factory(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    return request.param


@pytest.fixture
def runner(factory: Callable[[], asyncio.AbstractEventLoop]) -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=factory) as runner:
        yield runner
