from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support import PLAIN_WORLDS, REAL_BACKENDS, WORLDS, World, each

from aiopark import _word

if TYPE_CHECKING:
    from aiopark._os import Backend


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
    monkeypatch.setattr(_word, "default_backend", lambda: backend)
    return backend
