from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING

import pytest
from support import block_until

import aiopark
from aiopark._worker._crew import WorkerThread

if TYPE_CHECKING:
    from collections.abc import Iterator


def worker_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if isinstance(thread, WorkerThread)]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Every thread of a Worker has ended after the test, and no task is parked."""
    yield
    block_until(lambda: not worker_threads())
    assert aiopark.statistics().parked_tasks == 0


KINDS = {"Worker": aiopark.Worker, "WorkerPool": partial(aiopark.WorkerPool, 3)}


@pytest.fixture(params=KINDS.values(), ids=KINDS)
def make(request: pytest.FixtureRequest) -> type[aiopark.Worker]:
    """Make one of each kind."""
    return request.param
