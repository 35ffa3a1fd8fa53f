"""When a word is free again, and who may look at its memory until then."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import mmap

import pytest
from support import ASYNCIO, asleep, block_until, in_thread, is_parked

import aiopark
from aiopark import _parker
from aiopark._cell import Cell
from aiopark._loops import running_loop
from aiopark._os._io_uring import Ring
from aiopark._watch import RingWatch, refused_watchers
from aiopark._watch._kernel_wait import KernelWait
from aiopark._watch._loop_ring import LoopRing
from aiopark._word import cell_of

needs_a_ring = pytest.mark.skipif(RingWatch.name in refused_watchers(), reason="no ring can wait on futexes here")


@pytest.fixture(autouse=True)
def nothing_stays_behind():
    yield
    gc.collect()  # an exception holds the frames that it went through
    block_until(lambda: not aiopark.statistics().watched_words)


class Interrupted(BaseException):
    """As a signal handler raises."""


def once(monkeypatch, kind, name, *, after=False):
    """Let the next call of a method be interrupted, before or after it is done."""
    real = getattr(kind, name)

    def method(self, *arguments, **options):
        monkeypatch.setattr(kind, name, real)
        if after:
            real(self, *arguments, **options)
        raise Interrupted

    monkeypatch.setattr(kind, name, method)


def park_soon_unparked(parker, word):
    async def main():
        with in_thread(lambda: (block_until(lambda: aiopark.statistics().watched_words), word.unpark())):
            await parker.park()

    ASYNCIO.run(main)


def test_a_word_at_a_bare_address(world, watcher):
    """Nobody but its owner knows how long the memory lasts: a ring looks at it only while somebody parks."""
    native = ctypes.c_uint32(1)
    word = aiopark.Word.from_address(ctypes.addressof(native))
    assert not cell_of(word).keeps_memory
    with aiopark.Parker(word) as parker:

        async def main():
            for _ in range(10):
                with in_thread(lambda: (block_until(lambda: is_parked(parker)), word.unpark())):
                    await parker.park()

        world.run(main)
    word.close()


@needs_a_ring
def test_a_bare_address_is_not_looked_at_early(monkeypatch):
    monkeypatch.setattr(_parker, "watch", RingWatch)
    looked, look = [], KernelWait.look
    monkeypatch.setattr(KernelWait, "look", lambda wait: (looked.append(wait), look(wait)))
    native = ctypes.c_uint32(1)
    for owner in (None, native):
        word = aiopark.Word.from_address(ctypes.addressof(native), owner=owner)
        with aiopark.Parker(word) as parker:
            park_soon_unparked(parker, word)
        assert bool(looked) == (owner is not None)


def test_a_word_that_keeps_another_words_memory():
    word = aiopark.Word()
    attached = aiopark.Word.from_address(word.address, owner=word)
    memory = cell_of(word).memory
    word.close()
    assert any(memory is one for one in gc.get_referents(cell_of(attached).memory.owner))
    attached.unpark()
    assert memory.value == 0


@pytest.mark.parametrize("then", ["closed again", "collected", "next owner", "word closed"])
def test_an_interrupted_close_swallows_no_wake(watcher, monkeypatch, then):
    """What still waits in the kernel may stay: it takes no wake of the next owner, and ends with the word."""
    memory = mmap.mmap(-1, 4096)
    word = aiopark.Word.from_buffer(memory, shared=False)
    word.store(1)
    parker = aiopark.Parker(word)
    park_soon_unparked(parker, word)
    assert ASYNCIO.run(parker.park_timeout, 0.001) is False
    with monkeypatch.context() as patch:
        once(patch, type(parker._tenancy._watch), "close")
        with pytest.raises(Interrupted):
            parker.close()
    if then == "closed again":
        parker.close()
    elif then == "collected":
        del parker
        gc.collect()
    if then in {"closed again", "collected"}:
        block_until(lambda: not aiopark.statistics().watched_words)
    if then != "word closed":
        thread_parker = aiopark.ThreadParker(word)
        for _ in range(10):
            with in_thread(thread_parker.park):
                block_until(lambda: thread_parker._cell.owner() and asleep(word.address) >= 1)
                word.unpark()
    word.close()
    memory.close()
    if then == "next owner":
        del parker  # its thread rests, and does not look at the word
        gc.collect()
    block_until(lambda: not aiopark.statistics().watched_words)


def test_a_collected_parker_lets_go_of_the_memory_before_its_word_closes(watcher):
    for _ in range(20):
        memory = mmap.mmap(-1, 4096)
        word = aiopark.Word.from_buffer(memory, shared=False)
        word.store(1)
        parker = aiopark.Parker(word)
        asyncio.run(parker.park_timeout(0.0005))
        del parker
        word.close()  # waits for the watch thread, if there is one
        memory.close()


def test_a_parker_on_the_word_of_one_that_was_collected(watcher):
    word = aiopark.Word()
    for _ in range(20):
        parker = aiopark.Parker(word)
        asyncio.run(parker.park_timeout(0.0005))
        del parker
    park_soon_unparked(aiopark.Parker(word), word)


def test_a_thread_parker_on_the_word_of_a_parker_that_was_collected(watcher):
    """At once: whoever takes the lease waits for nobody."""
    word = aiopark.Word()
    for _ in range(100):
        parker = aiopark.Parker(word)
        asyncio.run(parker.park_timeout(0.0005))
        del parker
        word.unpark()
        aiopark.ThreadParker(word).park()


def test_a_finalizer_closes_the_word_whose_close_it_interrupts(monkeypatch):
    word = aiopark.Word()
    real, inner = Cell.current_lease, []

    def current_lease(cell):
        if not inner:
            inner.append(True)
            word.close()
        return real(cell)

    monkeypatch.setattr(Cell, "current_lease", current_lease)
    word.close()
    assert inner
    with pytest.raises(aiopark.ClosedError):
        word.load()


@needs_a_ring
def test_a_ring_that_is_given_up_forgets_nobody_if_that_is_interrupted(monkeypatch):
    monkeypatch.setattr(_parker, "watch", RingWatch)
    words = [aiopark.Word() for _ in range(3)]
    parkers = [aiopark.Parker(word) for word in words]

    async def main():
        tasks = [asyncio.ensure_future(parker.park()) for parker in parkers]
        await asyncio.sleep(0)
        ring = running_loop().source(LoopRing)
        once(monkeypatch, KernelWait, "complete")
        with pytest.raises(Interrupted):
            ring._retire()
        for word in words:
            word.unpark()
        done, _ = await asyncio.wait(tasks, timeout=20)
        assert len(done) == 3

    asyncio.run(main())


@needs_a_ring
def test_an_interrupted_arm_does_not_swallow_the_wake_of_the_next_loop(monkeypatch):
    monkeypatch.setattr(_parker, "watch", RingWatch)
    word = aiopark.Word()
    parker = aiopark.Parker(word)
    still = asyncio.new_event_loop()
    with monkeypatch.context() as patch:
        once(patch, Ring, "submit", after=True)
        task = still.create_task(parker.park())
        with pytest.raises(Interrupted):
            still.run_until_complete(task)
    park_soon_unparked(parker, word)
    still.close()
