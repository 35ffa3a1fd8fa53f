"""How asyncio's and uvloop's loop is rung: by whom, how often, and with what."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import sys
import threading
import time

import pytest
from support import in_thread, parked_task, storm

import aiopark
from aiopark._loops import running_loop
from aiopark._loops._asyncio import AsyncioWaiter

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


# --- ringing ---


def test_an_unpark_inside_a_task_of_the_loop_needs_no_doorbell(runner, monkeypatch):
    async def main():
        parker = aiopark.Parker()
        task = await parked_task(parker)
        bridge = running_loop()
        if bridge.doorbell() is not None:
            monkeypatch.setattr(type(bridge.doorbell()), "ring", lambda _: pytest.fail("rang"))
        parker.unpark()
        await task

    runner.run(main())


def test_an_unpark_in_a_plain_callback_wakes(runner):
    async def main():
        parker = aiopark.Parker()
        asyncio.get_running_loop().call_later(0.001, parker.unpark)
        await parker.park()

    runner.run(main())


@posix
def test_a_signal_handler_wakes_a_loop_that_waits_in_the_kernel(runner):
    async def main():
        parker = aiopark.Parker()
        with storm(parker.unpark):
            for _ in range(20):
                await parker.park()

    runner.run(main())


@posix
def test_a_signal_handler_that_interrupts_a_task_wakes_another(runner):
    async def main():
        parker = aiopark.Parker()
        previous = signal.signal(signal.SIGUSR1, lambda *_: parker.unpark())
        try:
            task = await parked_task(parker)
            signal.raise_signal(signal.SIGUSR1)
            await task
        finally:
            signal.signal(signal.SIGUSR1, previous)

    runner.run(main())


def test_a_burst_of_unparks_rings_once(runner, monkeypatch):
    async def main():
        parkers = [aiopark.Parker() for _ in range(200)]
        tasks = [await parked_task(parker) for parker in parkers]
        bridge, rings = running_loop(), []
        ring = type(bridge)._ring
        monkeypatch.setattr(type(bridge), "_ring", lambda self: rings.append(self) or ring(self))
        with in_thread(lambda: [parker.unpark() for parker in parkers]) as burst:
            burst.join()  # blocks the loop, so nothing is drained meanwhile
            assert len(rings) == 1
            await asyncio.gather(*tasks)

    runner.run(main())


def test_a_producer_that_never_stops_does_not_starve_the_loop(runner):
    async def main():
        parker, stop, turns = aiopark.Parker(), threading.Event(), []

        def produce():
            while not stop.is_set():
                parker.unpark()

        async def consume():
            while not stop.is_set():
                await parker.park()

        left, right = socket.socketpair()
        with in_thread(produce), left, right:
            task = asyncio.create_task(consume())
            reader, writer = await asyncio.open_connection(sock=left)
            right.setblocking(False)
            for turn in range(20):  # I/O and timers go on
                right.send(b"x")
                assert await reader.readexactly(1) == b"x"
                await asyncio.sleep(0.0005)
                turns.append(turn)
            stop.set()
            parker.unpark()
            await task
            writer.close()
        assert len(turns) == 20

    runner.run(main())


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_exit_out_of_one_woken_task_loses_no_other_wake(error, factory):
    loop = factory()
    parkers = [aiopark.Parker() for _ in range(5)]
    woken = []

    async def park(index):
        await parkers[index].park()
        woken.append(index)
        if index == 1:
            raise error

    async def park_all():
        return [asyncio.create_task(park(index)) for index in range(len(parkers))]

    try:
        tasks = loop.run_until_complete(park_all())
        loop.run_until_complete(asyncio.sleep(0))
        with in_thread(lambda: [parker.unpark() for parker in parkers]):
            pass
        with pytest.raises(error):
            loop.run_until_complete(asyncio.gather(*tasks))
        loop.run_until_complete(asyncio.wait([tasks[index] for index in (0, 2, 3, 4)], timeout=30))
        assert sorted(woken) == [0, 1, 2, 3, 4]
        assert isinstance(tasks[1].exception(), error)
    finally:
        loop.close()


def test_a_ring_that_was_answered_already_is_no_error(runner):
    """As when an exception ends a pass of the loop between the selector and the answer."""

    async def main():
        told = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        parker = aiopark.Parker()
        task = await parked_task(parker)
        if running_loop().doorbell() is None:
            pytest.skip("this loop has no doorbell")
        doorbell = running_loop().doorbell()
        doorbell.answer()
        doorbell.ring()
        doorbell.answer()
        doorbell.answer()
        with in_thread(parker.unpark):
            await task
        assert not told

    runner.run(main())


@pytest.mark.parametrize("healer", ["a task", "a thread"])
def test_a_step_that_the_loop_forgot_is_made_up_for_by_the_next_unpark(runner, healer):
    """A signal handler that raises at the first line of a callback: the loop has taken it, and runs on without it."""

    async def main():
        parker = aiopark.Parker()
        task = await parked_task(parker)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(AsyncioWaiter, "_step", lambda self: None)  # what call_soon gets is lost
            parker.unpark()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert not task.done()
        if healer == "a task":
            parker.unpark()
        else:
            with in_thread(parker.unpark):
                pass
        await asyncio.wait_for(task, 30)

    runner.run(main())


# --- loops that have no doorbell, or another one ---


class NoReaders(asyncio.SelectorEventLoop):
    def add_reader(self, fd, callback, *args):
        raise NotImplementedError


def round_trips(factory, rounds=200):
    there, back = aiopark.Parker(), aiopark.ThreadParker()

    def partner():
        for _ in range(rounds):
            back.park()
            there.unpark()

    async def main():
        for _ in range(rounds):
            back.unpark()
            await there.park()
        return running_loop()

    with in_thread(partner), asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main())


def test_a_loop_that_watches_no_descriptors():
    bridge = round_trips(NoReaders)
    assert not bridge._has_doorbell
    # The bridge is kept for the next park, and at the closed loop's door there is nobody.
    parker = aiopark.Parker()
    parker._cell["owner"] = bridge.waiter()
    parker.unpark()


def test_a_drain_that_the_loop_forgot_does_not_make_it_deaf():
    """As above. Only who was posted to it waits, for the next ring, which the next park brings about."""

    class Forgetful(NoReaders):
        forgets = False

        def call_soon_threadsafe(self, callback, *args, **options):
            return super().call_soon_threadsafe(time.monotonic if self.forgets else callback, *args, **options)

    async def main():
        parkers = [aiopark.Parker(), aiopark.Parker()]
        loop = asyncio.get_running_loop()
        first = await parked_task(parkers[0])
        loop.forgets = True
        with in_thread(parkers[0].unpark):
            pass
        loop.forgets = False
        await asyncio.sleep(0)
        assert not first.done()
        second = await parked_task(parkers[1])
        with in_thread(parkers[1].unpark):
            await asyncio.wait_for(asyncio.gather(first, second), 30)

    with asyncio.Runner(loop_factory=Forgetful) as runner:
        runner.run(main())


def test_a_failing_call_soon_threadsafe_surfaces():
    class Broken(NoReaders):
        broken = False

        def call_soon_threadsafe(self, *args, **options):
            if self.broken:
                raise RuntimeError("broken")
            return super().call_soon_threadsafe(*args, **options)

    async def main():
        parker = aiopark.Parker()
        task = await parked_task(parker)
        loop = asyncio.get_running_loop()
        loop.broken = True
        with pytest.raises(RuntimeError, match="broken"), in_thread(parker.unpark):
            pass
        loop.broken = False
        with in_thread(parker.unpark):
            await task

    with asyncio.Runner(loop_factory=Broken) as runner:
        runner.run(main())


@pytest.mark.skipif(
    not hasattr(os, "eventfd"), reason="the socket pair is this system's doorbell anyway, if it has one"
)
def test_a_socket_pair_as_the_doorbell(factory, monkeypatch):
    monkeypatch.delattr(os, "eventfd")
    bridge = round_trips(factory)
    assert bridge._has_doorbell


@pytest.mark.skipif(sys.platform == "win32", reason="no loop of Windows has a doorbell")
def test_a_full_socket_pair_rings_already(monkeypatch):
    monkeypatch.delattr(os, "eventfd", raising=False)

    def fill(doorbell):
        while True:
            doorbell._sender.send(b"1" * 4096)

    async def main():
        parker = aiopark.Parker()
        task = await parked_task(parker)
        doorbell = running_loop().doorbell()
        with pytest.raises(BlockingIOError):
            fill(doorbell)
        doorbell.ring()
        with in_thread(parker.unpark):
            await task

    asyncio.run(main())


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX descriptors")
@pytest.mark.parametrize("call", ["eventfd", "add_reader"])
def test_without_a_descriptor_to_be_had_the_loops_own_self_pipe_must_do(call, monkeypatch):
    def none_left(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    if call == "eventfd":
        monkeypatch.setattr(os, "eventfd", none_left, raising=False)
    else:
        monkeypatch.setattr(asyncio.SelectorEventLoop, "add_reader", none_left)
    assert not round_trips(asyncio.SelectorEventLoop)._has_doorbell


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX descriptors")
def test_any_other_failure_to_make_a_doorbell_surfaces(monkeypatch):
    def refused(*_):
        raise OSError(errno.EPERM, "seccomp says no")

    monkeypatch.setattr(os, "eventfd", refused, raising=False)
    parker = aiopark.Parker()
    parker.unpark()
    with pytest.raises(PermissionError, match="seccomp says no"):
        asyncio.run(parker.park())
    monkeypatch.undo()
    assert asyncio.run(parker.park_timeout(0)) is True
