from __future__ import annotations

import pytest
from support import PLAIN_WORLDS, WORLDS, World


@pytest.fixture(params=WORLDS, ids=lambda world: world.name)
def world(request: pytest.FixtureRequest) -> World:
    """Every event loop there is."""
    return request.param


@pytest.fixture(params=PLAIN_WORLDS, ids=lambda world: world.name)
def plain_world(request: pytest.FixtureRequest) -> World:
    """One of each kind of event loop."""
    return request.param
