"""Another process wakes a task, which wakes that process: seconds until the task runs, and seconds a round trip.

    python benchmarks/processes.py [--rounds 40] [--trips 200] [--apart]

Against what is in use for it: a socketpair (`loop.sock_recv`, and streams), `multiprocessing.Event` in
`asyncio.to_thread`, and ZeroMQ's PAIR over ipc. In each contest the other process blocks in the contestant's own call
until it is asked, and answers by it: `ThreadParker.park`, `socket.recv`, `Event.wait`, `zmq.Socket.recv`.

Both processes are pinned to one and the same core, so what the other one does after its answer, until it blocks again,
may count too; and it may have answered before the loop sleeps: then `sock_recv` returns without a pass through the
loop, while a park is a checkpoint and takes one. --apart pins the other process to another core.

Latency: the process pauses 150 µs after it was asked, so that the loop is asleep, takes the time and answers; the task
takes the time when it runs. Round trip: without the pause, from before it asks. Of a round's trips the median counts.
Exit status 1 if a bound fails.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from multiprocessing.shared_memory import SharedMemory
from typing import TYPE_CHECKING, Any, ClassVar

import zmq
import zmq.asyncio
from _measure import LIBUV, Rounds, pin_to_one_core, show

import aiopark
from aiopark.lowlevel import default_backend

if TYPE_CHECKING:
    from multiprocessing.synchronize import Event

SOCKET = "socketpair, sock_recv"
STREAMS = "socketpair, streams"
EVENT = "mp.Event in to_thread"
ZMQ = "ZeroMQ PAIR, ipc"
AIOPARK = "aiopark.Parker(word)"
PAUSE = 150_000  # nanoseconds

SPAWN = multiprocessing.get_context("spawn")
Pair = tuple[Callable[[], object], Callable[[], object]]  # wait, wake


def other_process(
    core: int | None, pause: Any, at: Any, connect: Callable[..., Pair], arguments: tuple[Any, ...]
) -> None:
    if core is not None:
        os.sched_setaffinity(0, {core})
    wait, wake = connect(*arguments)
    now = time.monotonic_ns
    while True:
        wait()
        if pause.value:
            time.sleep(pause.value / 1e9)
        at.value = now()
        wake()


class Contestant:
    """The task's side; and `connect(*arguments)`, by which the other process gets its own."""

    connect: ClassVar[Callable[..., Pair]]
    arguments: tuple[Any, ...]

    async def open(self) -> None:
        """Make it. On the loop."""

    async def trip(self) -> None:
        """Wake the process, and wait until that wakes the task."""
        raise NotImplementedError

    def close(self) -> None:
        """Throw it away."""


def raw_socket(end: socket.socket) -> Pair:
    return lambda: end.recv(1), lambda: end.send(b"x")


class Socket(Contestant):
    connect = staticmethod(raw_socket)

    async def open(self) -> None:
        self.end, other = socket.socketpair()
        self.end.setblocking(False)
        self.arguments = (other,)
        self.receive = asyncio.get_running_loop().sock_recv

    async def trip(self) -> None:
        self.end.send(b"x")
        await self.receive(self.end, 1)

    def close(self) -> None:
        self.end.close()


class Streams(Socket):
    async def open(self) -> None:
        await super().open()
        self.reader, self.writer = await asyncio.open_connection(sock=self.end)

    async def trip(self) -> None:
        self.writer.write(b"x")
        await self.reader.read(1)

    def close(self) -> None:
        self.writer.close()


def mp_events(here: Event, there: Event) -> Pair:
    def wait() -> None:
        here.wait()
        here.clear()

    return wait, there.set


class MpEvent(Contestant):
    connect = staticmethod(mp_events)

    async def open(self) -> None:
        self.there, self.here = SPAWN.Event(), SPAWN.Event()
        self.arguments = (self.there, self.here)

    async def trip(self) -> None:
        self.there.set()
        await asyncio.to_thread(self.here.wait)
        self.here.clear()


def zeromq(address: str) -> Pair:
    end: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PAIR)
    end.connect(address)
    return end.recv, lambda: end.send(b"x")


class ZeroMQ(Contestant):
    connect = staticmethod(zeromq)

    async def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.context = zmq.asyncio.Context()
        self.end = self.context.socket(zmq.PAIR)
        self.arguments = (f"ipc://{self.folder.name}/pair",)
        self.end.bind(*self.arguments)

    async def trip(self) -> None:
        await self.end.send(b"x")
        await self.end.recv()

    def close(self) -> None:
        self.context.destroy(linger=0)
        self.folder.cleanup()


def words(memory: SharedMemory) -> Pair:
    here, there = aiopark.Word.from_buffer(memory.buf, 0), aiopark.Word.from_buffer(memory.buf, 64)
    return aiopark.ThreadParker(here).park, there.unpark


class Parker(Contestant):
    connect = staticmethod(words)

    async def open(self) -> None:
        self.memory = SharedMemory(create=True, size=128)
        self.arguments = (self.memory,)
        self.there, self.here = (aiopark.Word.from_buffer(self.memory.buf, offset) for offset in (0, 64))
        self.there.store(1)  # zero-filled memory is a permit
        self.parker = aiopark.Parker(self.here)
        self.parker.prepare_park()

    async def trip(self) -> None:
        self.there.unpark()
        await self.parker.park()

    def close(self) -> None:
        self.parker.close()
        self.here.close()
        self.there.close()
        self.memory.close()
        self.memory.unlink()


CONTESTANTS: dict[str, type[Contestant]] = {
    SOCKET: Socket,
    STREAMS: Streams,
    EVENT: MpEvent,
    ZMQ: ZeroMQ,
    AIOPARK: Parker,
}


async def trips(contestant: Contestant, at: Any, count: int) -> tuple[float, float]:
    """Give the median latency and the median round trip, in seconds."""
    trip, now = contestant.trip, time.monotonic_ns
    latencies, round_trips = [], []
    for _ in range(count):
        start = now()
        await trip()
        end = now()
        latencies.append(end - at.value)
        round_trips.append(end - start)
    return statistics.median(latencies) / 1e9, statistics.median(round_trips) / 1e9


async def contest(rounds: int, count: int, core: int | None) -> tuple[Rounds, Rounds]:
    latency: Rounds = {name: [] for name in CONTESTANTS}
    round_trip: Rounds = {name: [] for name in CONTESTANTS}
    pause, at = (SPAWN.Value("q", 0, lock=False) for _ in range(2))
    contestants = {name: make() for name, make in CONTESTANTS.items()}
    processes = []
    try:
        for contestant in contestants.values():
            await contestant.open()
            arguments = (core, pause, at, contestant.connect, contestant.arguments)
            process = SPAWN.Process(target=other_process, args=arguments, daemon=True)
            process.start()
            processes.append(process)
            await contestant.trip()  # when it answers, it has started
        for _ in range(rounds):
            for name, contestant in contestants.items():
                pause.value = PAUSE
                latency[name].append((await trips(contestant, at, count))[0])
                pause.value = 0
                round_trip[name].append((await trips(contestant, at, count))[1])
    finally:
        for process in processes:
            process.terminate()  # it waits
            process.join()
        for contestant in contestants.values():
            contestant.close()
    return latency, round_trip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--trips", type=int, default=200)
    parser.add_argument("--apart", action="store_true")
    arguments = parser.parse_args()
    if not default_backend().supports_shared:
        print(f"{default_backend().name} wakes nobody in another process")
        return 1
    core = min(os.sched_getaffinity(0)) if arguments.apart else None
    pinned = pin_to_one_core()
    if core is not None:
        pinned += f", the other process to {core}"
    runners: dict[str, Callable[[Coroutine[Any, Any, tuple[Rounds, Rounds]]], tuple[Rounds, Rounds]]] = {
        "asyncio": asyncio.run,
        LIBUV.__name__: LIBUV.run,
    }
    results: dict[str, dict[str, Rounds]] = {"latency": {}, "round trip": {}}
    for name, run in runners.items():
        results["latency"][name], results["round trip"][name] = run(contest(arguments.rounds, arguments.trips, core))
    kept = True
    for measure, settings in results.items():
        kept &= show(
            f"process to task, {measure}, {aiopark.statistics().watcher}, Python {sys.version.split()[0]}, {pinned}",
            settings,
            SOCKET,
            [(loop, AIOPARK, other, 1.0) for loop in settings for other in (SOCKET, STREAMS, EVENT, ZMQ)],
        )
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
