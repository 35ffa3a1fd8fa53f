"""A thousand open loops: each finds its bridge at once, and takes it along when it ends."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref

import pytest
from support import block_until, in_thread, is_parked

import aiopark
from aiopark._loops import _mailbox, running_loop
from aiopark._loops._mailbox import mailboxes

NUMBER = 1000 if sys.platform == "linux" else 200


@pytest.fixture(autouse=True)
def plenty_of_descriptors():
    """Each loop takes some four."""
    if sys.platform != "win32":
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < 6 * NUMBER:
            if hard != resource.RLIM_INFINITY and hard < 6 * NUMBER:
                pytest.skip(f"only {hard} descriptors")
            resource.setrlimit(resource.RLIMIT_NOFILE, (6 * NUMBER, hard))
            yield
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            return
    yield


def alive():
    gc.collect()
    return len(mailboxes)


async def park_and_be_woken():
    parker = aiopark.Parker()
    asyncio.get_running_loop().call_soon(parker.unpark)
    await parker.park()
    return running_loop()


def test_each_finds_its_own_without_a_walk(monkeypatch):
    before = alive()
    loops = [asyncio.new_event_loop() for _ in range(NUMBER)]
    try:
        bridges = [loop.run_until_complete(park_and_be_woken()) for loop in loops]
        assert len(set(map(id, bridges))) == NUMBER
        assert [bridge.loop for bridge in bridges] == loops
        assert len(mailboxes) == before + NUMBER

        looked_at = []
        monkeypatch.setattr(_mailbox, "_alive", lambda: looked_at.append("all of them") or iter(()))
        lines = [0]

        def count(frame, event, _):
            lines[0] += event == "line"
            return count

        costs = []
        for loop in (loops[0], loops[-1]):
            lines[0] = 0
            asyncio._set_running_loop(loop)
            sys.settrace(count)
            try:
                running_loop()
            finally:
                sys.settrace(None)
                asyncio._set_running_loop(None)
            costs.append(lines[0])
        assert max(costs) < 20  # lines, whichever loop it is
        for loop, bridge in zip(loops, bridges, strict=True):
            assert loop.run_until_complete(park_and_be_woken()) is bridge
        assert not looked_at
        del bridges, bridge
    finally:
        for loop in loops:
            loop.close()
    del loop, loops
    assert alive() <= before


def test_they_die_with_their_loops_without_the_collector():
    before = alive()
    gc.disable()
    try:
        for _ in range(50):
            asyncio.run(park_and_be_woken())
        assert len(mailboxes) == before
    finally:
        gc.enable()


def test_the_bridges_of_trio_runs_die_with_them():
    trio = pytest.importorskip("trio")
    before = alive()
    for _ in range(50):
        trio.run(aiopark.Parker().park_timeout, 0)
    assert alive() <= before + 1  # trio keeps the last run's until the next


def test_an_id_that_is_used_again_finds_the_new_loop():
    """Closed loops leave their ids to the next ones."""
    seen, bridges = set(), weakref.WeakSet()
    for _ in range(200):
        loop = asyncio.new_event_loop()
        bridge = loop.run_until_complete(park_and_be_woken())
        assert bridge.loop is loop
        seen.add(id(loop))
        bridges.add(bridge)
        loop.close()
        del loop, bridge
    gc.collect()
    assert len(seen) < 200
    assert not bridges


class NoReaders(asyncio.SelectorEventLoop):
    def add_reader(self, fd, callback, *args):
        raise NotImplementedError


def test_a_loop_without_a_doorbell_keeps_its_bridge_until_it_is_closed():
    loop = NoReaders()
    try:
        reference = weakref.ref(loop.run_until_complete(park_and_be_woken()))
        gc.collect()
        first = reference()
        assert first is not None
        assert not first._has_doorbell
        assert loop.run_until_complete(park_and_be_woken()) is first
        parker = aiopark.Parker()
        task = loop.create_task(parker.park())
        loop.run_until_complete(asyncio.sleep(0))
        with in_thread(lambda: (block_until(lambda: is_parked(parker)), parker.unpark())):
            loop.run_until_complete(asyncio.wait_for(task, 30))
        del first, task
    finally:
        loop.close()
    gc.collect()
    assert reference() is None


def test_the_far_timer_disturbs_nobody():
    """A loop that has nothing else to do sleeps, and ends when it is told to."""
    loop = NoReaders()
    try:
        loop.run_until_complete(park_and_be_woken())
        loop.call_soon(loop.stop)
        loop.run_forever()
        assert loop.run_until_complete(aiopark.Parker().park_timeout(0.01)) is False
    finally:
        loop.close()
