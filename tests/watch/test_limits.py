"""What docs/words.md says of rings that cannot be had: a thread takes over, unless a ring is forced."""

from __future__ import annotations

import sys

import pytest
from support import WATCHERS, run_program

linux = pytest.mark.skipif(sys.platform != "linux", reason="limits and descriptors as Linux has them")
MISSING = ["eventfd", pytest.param("descriptor", marks=linux)]
ERRORS = {
    "eventfd": "aiopark.UnsupportedError: this event loop cannot watch an eventfd",
    "descriptor": "OSError: [Errno 24]",
}


@pytest.mark.parametrize("missing", MISSING)
def test_a_thread_takes_over_where_no_ring_is_to_be_had(missing: str) -> None:
    ran = run_program("no_ring", missing, AIOPARK_WATCHER="")
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.skipif("uring" not in WATCHERS, reason="no ring is to be had here")
@pytest.mark.parametrize("missing", MISSING)
def test_forced_rings_that_are_not_to_be_had(missing: str) -> None:
    ran = run_program("no_ring", missing, AIOPARK_WATCHER="uring")
    assert ran.returncode == 1
    assert ERRORS[missing] in ran.stderr
