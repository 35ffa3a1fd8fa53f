"""A driver that blocks, on a thread of its own: a serial port, which here is a pseudo terminal, and the device on it.

    python examples/serial_driver.py

Such a driver has one port, one conversation at a time, and calls that block: what a Worker is for. Requests of many
tasks are answered in their order. A pipe wakes the driver out of its read: a device that does not answer costs its
caller the time limit, and nobody else anything. Each request has a pipe of its own, which stays written to. So it does
not matter if it comes a little too early, and it never stops the next request.
"""

from __future__ import annotations

import asyncio
import os
import select
import threading
import tty
from typing import Self

import aiopark


class Stop:
    """What a driver watches beside its port."""

    def __enter__(self) -> Self:
        self._read, self._write = os.pipe()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._read)
        os.close(self._write)

    def fileno(self) -> int:
        """Return what becomes readable."""
        return self._read

    def set(self) -> None:
        """End the read that blocks, or will. From any thread."""
        os.write(self._write, b"x")


class Port:
    """A driver that knows nothing of event loops."""

    def __init__(self, path: str) -> None:
        self._port = os.open(path, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self._port)

    def ask(self, question: bytes, stop: Stop) -> bytes:
        """Send a line, and block until the line that answers it has come."""
        os.write(self._port, question + b"\n")
        answer = b""
        while not answer.endswith(b"\n"):
            ready, _, _ = select.select([self._port, stop.fileno()], [], [])
            if stop.fileno() in ready:
                raise InterruptedError(f"{question!r} was not answered")
            answer += os.read(self._port, 100)
        return answer.strip()

    def close(self) -> None:
        """Close it."""
        os.close(self._port)


def device(end: int) -> None:
    """Stand in for the device: it answers what it knows, and nothing else."""
    line = b""
    while line != b"off\n":
        line = b""
        while not line.endswith(b"\n"):
            line += os.read(end, 1)
        if line.startswith(b"temperature"):
            os.write(end, b"21.5 of" + line[11:])


async def main() -> None:
    """Talk to the device from several tasks."""
    end, port_end = os.openpty()
    tty.setraw(port_end)  # before the device's end is read, lest it hears its own echo
    thread = threading.Thread(target=device, args=(end,))
    thread.start()
    async with aiopark.Worker(name="serial") as worker:
        port = await worker.run(Port, os.ttyname(port_end), on_dropped=Port.close)

        async def ask(question: bytes, seconds: float) -> bytes:
            with Stop() as stop:
                async with asyncio.timeout(seconds):
                    return await worker.run(port.ask, question, stop, interrupt=stop.set)

        answers = await asyncio.gather(
            *(ask(b"temperature %d" % number, 60) for number in range(3)),
            ask(b"pressure", 0.2),
            *(ask(b"temperature %d" % number, 60) for number in range(3, 6)),
            return_exceptions=True,
        )
        os.write(port_end, b"off\n")
        thread.join()
        await worker.run(port.close)
    for descriptor in (end, port_end):
        os.close(descriptor)
    good = [answer for answer in answers if isinstance(answer, bytes)]
    assert good == [b"21.5 of %d" % number for number in range(6)]
    assert isinstance(answers[3], TimeoutError)
    print(f"{len(good)} answers in their order, and one question that nobody answered")


if __name__ == "__main__":
    asyncio.run(main())
