"""A signal handler that raises, at each point of a call: nothing hangs, runs twice, or stays in the queue."""

from __future__ import annotations

import gc
import os

import pytest
from support import PATIENCE, block_until, interrupted_at, is_ours

pytestmark = pytest.mark.raises_anywhere


def is_workers(filename):
    """Not of the loop's own calls of aiopark: an exception in there is no exception of the task."""
    return is_ours(filename) and f"{os.sep}_worker{os.sep}" in filename


def still_works(worker):
    block_until(lambda: worker.statistics().running == worker.statistics().queued == 0)
    return worker.blocking_run(len, "abc", timeout=PATIENCE) == 3


@pytest.mark.parametrize("warm", [False, True])
def test_blocking_run(make, warm):
    number, hit = 0, [True]
    while hit:
        number += 1
        ran = []
        with make() as worker:
            if warm:
                worker.blocking_run(len, "abc")
            gc.collect()  # not in the middle of it
            with interrupted_at(number, "calls", is_ours) as hit:
                worker.blocking_run(ran.append, number)
            assert still_works(worker), hit
            assert len(ran) <= 1, hit
    assert ran == [number]
    assert number > 20


def test_run(plain_world, make):
    async def main():
        number, hit = 0, [True]
        async with make() as worker:
            while hit:
                number += 1
                ran = []
                gc.collect()
                with interrupted_at(number, "calls", is_workers) as hit:
                    await worker.run(ran.append, number)
                assert await worker.run(len, "abc") == 3, hit
                assert worker.statistics().queued == 0, hit
                assert len(ran) <= 1, hit
        assert ran == [number]
        assert number > 10

    plain_world.run(main)


def test_submit(make):
    number, hit = 0, [True]
    with make() as worker:
        while hit:
            number += 1
            ran = []
            gc.collect()
            with interrupted_at(number, "calls", is_ours) as hit:
                worker.submit(ran.append, number)
            assert still_works(worker), hit
            assert len(ran) <= 1, hit
        assert number > 10


def test_close(make):
    """Closed once more, it is closed."""
    number, hit = 0, [True]
    while hit:
        number += 1
        worker = make()
        worker.blocking_run(len, "abc")
        gc.collect()
        with interrupted_at(number, "calls", is_ours) as hit:
            worker.close()
        worker.close()
        assert worker.statistics().threads == 0, hit
    assert number > 5
