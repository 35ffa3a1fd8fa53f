from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING

import pytest
from support import (
    PATIENCE,
    PLAIN_WORLDS,
    REAL_BACKENDS,
    UNDER_WINE,
    WATCHERS,
    WORLDS,
    World,
    block_until_nothing_is_watched,
    each,
)

from aiopark import _parker, _waiting
from aiopark._cell import _cell

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from aiopark._os import Backend


def pytest_collection_finish() -> None:
    """Spare the collector the tests themselves, which it would go through again and again: half the time of a run."""
    try:
        import hypothesis  # noqa: F401  # asks the collector about trio, when it is imported
    except ImportError:
        pass
    gc.collect()
    if hasattr(gc, "freeze"):  # PyPy has none
        gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """Let a lost wake-up fail that the deadline makes up for: a park whose deadline has passed takes the permit."""
    start = time.monotonic()
    yield
    slow = UNDER_WINE or {"stress", "model"} & set(item.path.parts)
    if time.monotonic() - start >= PATIENCE and not slow:
        pytest.fail(f"it took {PATIENCE:.0f} seconds: some wait ended at its deadline only")


@pytest.fixture(params=each(WORLDS))
def world(request: pytest.FixtureRequest) -> World:
    """Every event loop there is."""
    return request.param


@pytest.fixture(params=each(PLAIN_WORLDS))
def plain_world(request: pytest.FixtureRequest) -> World:
    """One of each kind of event loop."""
    return request.param


@pytest.fixture(params=list(REAL_BACKENDS))
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """Let every new word use each backend that works here."""
    backend = REAL_BACKENDS[request.param].create()
    assert backend is not None
    monkeypatch.setattr(_cell, "default_backend", lambda: backend)
    return backend


@pytest.fixture(params=list(WATCHERS))
def watcher(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let every new Parker on a word use each watcher that works here, and name it."""
    name: str = request.param
    for module in (_parker, _waiting):
        monkeypatch.setattr(module, "watch", WATCHERS[name])
    return name


@pytest.fixture
def nothing_stays_behind() -> Iterator[None]:
    """No word is watched before and after the test."""
    block_until_nothing_is_watched()
    yield
    block_until_nothing_is_watched()
