"""In the child of a fork everything starts fresh: nothing hangs, nobody is a ghost."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import traceback
import warnings
from contextlib import contextmanager

import pytest
from support import PLAIN_WORLDS, block_until, in_thread, installed, is_parked

import aiopark

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def in_child(check):
    """Fork; run the check in the child; fail here if it fails or hangs there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12+: threads exist, which is what is tested
        child = os.fork()
    if child == 0:
        status = 1
        try:
            import faulthandler

            faulthandler.dump_traceback_later(20, exit=True)
            check()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@contextmanager
def parked_in_a_thread(world, parker):
    """A task of another thread's loop is parked meanwhile; it must come through unharmed."""
    with in_thread(world.run, parker.park):
        block_until(lambda: is_parked(parker) and aiopark.statistics().parked_tasks == 1)
        yield
        assert is_parked(parker)  # what the child did is not seen here
        parker.unpark()


def test_the_child_parks_where_a_task_of_the_parent_is_parked(plain_world):
    parker = aiopark.Parker()

    def check():
        assert aiopark.statistics().parked_tasks == 0
        for world in installed(PLAIN_WORLDS):
            assert world.run(parker.park_timeout, 0.001) is False
            parker.unpark()
            assert world.run(parker.park_timeout, 10) is True

            async def woken_by_a_thread():
                with in_thread(lambda: (block_until(lambda: is_parked(parker)), parker.unpark())):
                    await parker.park()

            world.run(woken_by_a_thread)

    with parked_in_a_thread(plain_world, parker):
        in_child(check)


def test_the_child_does_not_ring_the_parents_loop(plain_world):
    """An unpark in the child reaches nobody in the parent."""
    parker = aiopark.Parker()

    def check():
        for _ in range(10):
            parker.unpark()

    with parked_in_a_thread(plain_world, parker):
        bridge = parker._cell["owner"]._bridge
        drains = bridge._drains
        in_child(check)
        assert bridge._drains == drains


def test_a_stored_permit_is_copied_with_the_memory():
    parker = aiopark.Parker()
    parker.unpark()

    def check():
        assert asyncio.run(parker.park_timeout(0)) is True

    in_child(check)
    assert asyncio.run(parker.park_timeout(0)) is True


def test_a_fork_inside_a_task_of_a_running_loop(plain_world):
    async def main():
        parker, other = aiopark.Parker(), aiopark.Parker()
        await parker.park_timeout(0.0001)

        def check():
            # The child runs a loop of its own, on a thread of its own: the parent's still counts as running here.
            def run():
                assert plain_world.run(parker.park_timeout, 0.001) is False
                other.unpark()
                assert plain_world.run(other.park_timeout, 10) is True

            with in_thread(run):
                pass

        in_child(check)
        with in_thread(parker.unpark):
            await parker.park()

    plain_world.run(main)


def test_fork_while_other_threads_unpark_and_take_over():
    """No lock of ours can be held by a thread that is not there in the child."""
    parker, stop = aiopark.Parker(), threading.Event()

    def unpark():
        while not stop.is_set():
            parker.unpark()

    def check():
        asyncio.run(parker.park_timeout(0))
        parker.unpark()
        assert asyncio.run(parker.park_timeout(0)) is True

    with in_thread(unpark), in_thread(unpark):
        try:
            for _ in range(10):
                in_child(check)
        finally:
            stop.set()
