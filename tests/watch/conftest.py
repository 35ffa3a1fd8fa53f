from __future__ import annotations

import pytest

from aiopark._watch import _loop_ring


@pytest.fixture(autouse=True)
def rings_are_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test lets the kernel take away comes back after it."""
    monkeypatch.setattr(_loop_ring, "_taken_away", [])
