from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def rings_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the rings of a model out of the statistics: a schedule that is broken off leaves them to the collector."""
    monkeypatch.setattr("aiopark._watch._loop_ring.rings", set())
