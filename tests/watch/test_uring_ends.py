"""RingWatch where loops end: the descriptors that go with them, and who waits when a run of trio is about to end."""

from __future__ import annotations

import asyncio
import gc
import os
import threading

import anyio
import psutil
import pytest
from support import ASYNCIO, PLAIN_WORLDS, WATCHERS, asleep, block_until, each, in_thread, is_parked, needs, until

import aiopark
from aiopark import _parker

if "uring" not in WATCHERS:
    pytest.skip("no io_uring here", allow_module_level=True)

from aiopark._watch import RingWatch, _loop_ring

LOOPS = each([world for world in PLAIN_WORLDS if world.backend == "asyncio"])


@pytest.fixture(autouse=True)
def use_rings(monkeypatch):
    monkeypatch.setattr(_parker, "watch", RingWatch)


class DeafLoop(asyncio.SelectorEventLoop):
    """One that watches no descriptors."""

    def add_reader(self, fd, callback, *arguments):
        raise NotImplementedError


async def sleep_until_watched(parker):
    while not aiopark.statistics().watched_words:
        assert await parker.park_timeout(0.001) is False


async def woken(parker):
    with in_thread(lambda: (block_until(lambda: is_parked(parker)), parker.word.unpark())):
        with anyio.fail_after(20):
            await parker.park()


async def woken_from_a_thread(parker):
    """Unpark once the thread sleeps: it comes second there, if a wait of a ring was left."""
    address = parker.word.address
    with in_thread(lambda: (block_until(lambda: asleep(address) == 1), parker.word.unpark())):
        with anyio.fail_after(20):
            await parker.park()


# --- descriptors ---


def open_descriptors():
    return psutil.Process().num_fds()


@pytest.mark.parametrize("end", ["closed", "dropped", "kept", "parked"])
def test_the_descriptors_go_with_the_loop(plain_world, end):
    """Whoever is still there, and without the collector."""
    kept = []

    async def main():
        word = aiopark.Word()
        parker = aiopark.Parker(word)
        assert await parker.park_timeout(0.0001) is False
        if end == "closed":
            parker.close()
        elif end != "dropped":
            kept.append(parker)
        if end == "parked" and plain_world.backend == "asyncio":
            kept.append(asyncio.ensure_future(parker.park()))
            await until(lambda: is_parked(parker))

    plain_world.run(main)  # loops open things once a process
    plain_world.run(main)
    gc.collect()
    before = open_descriptors()
    gc.disable()
    try:
        for _ in range(30):
            plain_world.run(main)
        assert open_descriptors() == before
    finally:
        gc.enable()


@pytest.mark.parametrize("world", LOOPS)
def test_the_descriptors_go_with_a_loop_whose_task_is_left_parked(world):
    loop = world.new_event_loop()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    gc.collect()
    before = open_descriptors()
    kept = []
    gc.disable()
    try:
        for _ in range(10):
            loop, parker = world.new_event_loop(), aiopark.Parker(aiopark.Word())
            task = loop.create_task(parker.park())
            task._log_destroy_pending = False
            loop.run_until_complete(asyncio.sleep(0.001))
            assert is_parked(parker)
            loop.close()
            kept.append((parker, task))
        assert open_descriptors() == before
        for parker, _ in kept:
            ASYNCIO.run(woken, parker)
    finally:
        gc.enable()


@needs("trio")
def test_trio_reads_an_eventfd_that_somebody_emptied():
    """A child that was forked inside of the run shares it."""
    import trio

    async def main():
        with aiopark.Parker(aiopark.Word()) as parker:
            await sleep_until_watched(parker)
            parker.word.unpark()
            (ring,) = [reference()._eventfd for reference in _loop_ring.rings.copy() if reference()]
            os.eventfd_write(ring, 1)
            read, emptied = os.eventfd_read, []

            def raced(fileno):
                if not emptied:
                    emptied.append(read(fileno))
                return read(fileno)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(os, "eventfd_read", raced)
                with trio.fail_after(20):
                    await parker.park()
                    while not emptied:
                        await trio.sleep(0.0005)
            with trio.fail_after(20):
                await woken(parker)

    trio.run(main)


@needs("trio")
@pytest.mark.parametrize("used", [False, True], ids=["first park", "ring was there"])
@pytest.mark.parametrize("where", ["async generator", "system task"])
def test_a_park_when_the_run_of_trio_is_about_to_end(where, used):
    """The task that listens has ended, or cannot begin: a thread waits."""
    import trio

    woken_up, kept = [], []
    parker = aiopark.Parker(aiopark.Word())
    ready = threading.Event()

    async def park():
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 20) as scope:
            ready.set()
            await parker.park()
        woken_up.append(not scope.cancelled_caught)

    async def generate():
        try:
            yield
        finally:
            await park()

    async def system():
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                while any(reference()._ring for reference in _loop_ring.rings.copy() if reference()):
                    await trio.sleep(0.0005)
            await park()

    async def main():
        if used:
            first = aiopark.Parker(aiopark.Word())
            await sleep_until_watched(first)
            kept.append(first)
        if where == "async generator":
            generator = generate()
            await generator.asend(None)
            kept.append(generator)
        else:
            trio.lowlevel.spawn_system_task(system)
            await trio.testing.wait_all_tasks_blocked()

    import trio.testing

    with in_thread(lambda: (ready.wait(20), block_until(lambda: is_parked(parker)), parker.word.unpark())):
        trio.run(main)
    assert woken_up == [True]
    parker.close()
    assert aiopark.statistics().waiter_threads == 0


def test_many_parks_leave_one_wait():

    async def main():
        with aiopark.Parker(aiopark.Word()) as parker:
            for _ in range(300):
                assert await parker.park_timeout(0) is False
                parker.word.unpark()
                assert await parker.park_timeout(0) is True
            await sleep_until_watched(parker)
            assert aiopark.statistics().watched_words == 1

    ASYNCIO.run(main)
