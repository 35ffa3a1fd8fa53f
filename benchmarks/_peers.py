"""The ways by which a process and a task wake each other, for processes.py."""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
import tempfile
from collections.abc import Callable
from multiprocessing.shared_memory import SharedMemory
from typing import TYPE_CHECKING, Any, ClassVar

import zmq
import zmq.asyncio

import aiopark

if TYPE_CHECKING:
    from multiprocessing.synchronize import Event

SOCKET = "socketpair, sock_recv"
STREAMS = "socketpair, streams"
EVENT = "mp.Event in to_thread"
ZMQ = "ZeroMQ PAIR, ipc"
AIOPARK = "aiopark.Parker(word)"

SPAWN = multiprocessing.get_context("spawn")
Pair = tuple[Callable[[], object], Callable[[], object]]  # wait, wake


class Peer:
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


class Socket(Peer):
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


class MpEvent(Peer):
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


class ZeroMQ(Peer):
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


class Parker(Peer):
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


PEERS: dict[str, type[Peer]] = {
    SOCKET: Socket,
    STREAMS: Streams,
    EVENT: MpEvent,
    ZMQ: ZeroMQ,
    AIOPARK: Parker,
}
