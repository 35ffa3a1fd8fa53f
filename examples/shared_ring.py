"""A ring buffer in shared memory: another process produces, asyncio consumes, and two words are its doorbells.

    python examples/shared_ring.py

The memory, in 32-bit numbers, a cache line each for what is not written by the same side:

    byte 0      tail       how many items were produced   written by the producer
    byte 64     head       how many items were consumed   written by the consumer
    byte 128    not_empty  a word: the consumer parks, the producer unparks
    byte 192    not_full   a word: the producer parks, the consumer unparks
    byte 256    the slots; item number n is in slot n % SLOTS

Why every item is whole when it is read. `tail` and `head` are 32-bit cells that Word can load with acquire and store
with release ordering, though nobody parks there. The producer writes an item, then stores `tail` (release); the
consumer loads `tail` (acquire), then reads the item. The other way round, the consumer reads an item, then stores
`head`; the producer loads `head`, then writes the next item into that slot.

Why no wake is lost. Each side does "look at the other's number; if there is nothing to do, park", and each side does
"store my number, unpark the other". An unpark that comes between the look and the park leaves its permit in the word,
so the park returns at once, and the look is repeated. A park that returns has taken the permit with a full fence, and
so the look after it sees whatever was stored before that unpark. An unpark that comes later leaves another permit.
For the same reason no side needs `prepare_park()` before its look: a stale permit costs one look more.
"""

from __future__ import annotations

import asyncio
import multiprocessing
from contextlib import ExitStack, closing
from multiprocessing.shared_memory import SharedMemory
from typing import Self

import aiopark

SLOTS = 256
ITEMS = 100_000
MASK = 2**32 - 1  # the numbers go round, and SLOTS divides 2**32


def item(number: int) -> int:
    """Give the content of an item, which the consumer checks."""
    return number * 2_654_435_761 & MASK


class Ring:
    """What both processes see. A context manager: what is left open in shared memory keeps it from being closed."""

    def __init__(self, memory: SharedMemory) -> None:
        buffer = memory.buf
        assert buffer is not None  # it is open
        self._stack = ExitStack()
        self.tail, self.head, self.not_empty, self.not_full = (
            self._stack.enter_context(closing(aiopark.Word.from_buffer(buffer, 64 * line))) for line in range(4)
        )
        self.slots = self._stack.enter_context(buffer[256 : 256 + 4 * SLOTS].cast("I"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def produce(memory: SharedMemory) -> None:
    """Fill the ring. The other process."""
    with Ring(memory) as ring:
        parker = aiopark.ThreadParker(ring.not_full)
        produced = 0
        while produced < ITEMS:
            room = SLOTS - (produced - ring.head.load() & MASK)
            if room == 0:
                parker.park()  # this process has no loop that could stand still
                continue
            for number in range(produced, min(produced + room, ITEMS)):
                ring.slots[number % SLOTS] = item(number)
                produced += 1
            ring.tail.store(produced & MASK)
            ring.not_empty.unpark()  # once for all of them
    memory.close()


async def consume(ring: Ring) -> None:
    """Take every item, and check order and content."""
    with aiopark.Parker(ring.not_empty) as parker:
        consumed = 0
        while consumed < ITEMS:
            there = ring.tail.load() - consumed & MASK
            if there == 0:
                await parker.park()
                continue
            for number in range(consumed, consumed + there):
                assert ring.slots[number % SLOTS] == item(number), number
            consumed += there
            ring.head.store(consumed & MASK)
            ring.not_full.unpark()
    print(f"{consumed:,} items came, whole and in order")


async def main() -> None:
    """Start the producer, consume, and leave nothing behind."""
    # Zero-filled: both numbers are 0, and both words hold a permit, that is one look more at the start.
    memory = SharedMemory(create=True, size=256 + 4 * SLOTS)
    process = multiprocessing.get_context("spawn").Process(target=produce, args=(memory,), daemon=True)
    try:
        with Ring(memory) as ring:
            process.start()
            async with asyncio.timeout(60):  # a process that died unparks nobody
                await consume(ring)
        # In this order: consume() closed the Parker, Ring its words, and only now can the memory be closed.
    finally:
        memory.close()
        memory.unlink()  # the producer still has it mapped, if it is not done yet
    await asyncio.to_thread(process.join)
    assert process.exitcode == 0


if __name__ == "__main__":
    asyncio.run(main())
