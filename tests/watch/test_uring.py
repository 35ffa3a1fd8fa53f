"""RingWatch on loops that are there, gone, or stand still: who waits then, and that no wake is lost on the way."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import gc
import mmap
from functools import partial

import anyio
import pytest
from support import ASYNCIO, PLAIN_WORLDS, WATCHERS, asleep, block_until, each, in_thread, is_parked, until

import aiopark
from aiopark import _parker
from aiopark._cell import Cell

if "uring" not in WATCHERS:
    pytest.skip("no io_uring here", allow_module_level=True)

from aiopark._watch import RingWatch, _loop_ring
from aiopark._word import cell_of

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


@pytest.mark.parametrize("first", ["closed", "stopped"])
@pytest.mark.parametrize("world", LOOPS)
def test_a_thread_takes_over_from_a_ring(world, first):
    """The ring's wait is taken off, which would swallow the wake."""
    with aiopark.Parker(aiopark.Word()) as parker:
        loop = world.new_event_loop()
        loop.run_until_complete(sleep_until_watched(parker))
        if first == "closed":
            loop.close()
        for _ in range(3):
            with asyncio.Runner(loop_factory=DeafLoop) as runner:
                runner.run(woken_from_a_thread(parker))
                assert aiopark.statistics().waiter_threads == 1
        loop.close()
    assert aiopark.statistics().waiter_threads == 0


def test_a_ring_takes_over_from_a_thread():
    with aiopark.Parker(aiopark.Word()) as parker:
        for factory in (DeafLoop, None, DeafLoop, None):
            with asyncio.Runner(loop_factory=factory) as runner:
                for _ in range(3):
                    runner.run(woken(parker))


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_a_thread_takes_over_where_no_ring_is_left(monkeypatch, error):
    def none_left(*_):
        raise OSError(error, "none left")

    with aiopark.Parker(aiopark.Word()) as parker:
        still = asyncio.new_event_loop()
        still.run_until_complete(sleep_until_watched(parker))
        monkeypatch.setattr(_loop_ring, "Ring", none_left)

        async def main():
            await woken_from_a_thread(parker)
            assert aiopark.statistics().waiter_threads == 1
            monkeypatch.undo()
            monkeypatch.setattr(_parker, "watch", RingWatch)
            await woken(parker)  # now there is a ring, and the thread may hint as well

        ASYNCIO.run(main)
        still.close()


@pytest.mark.parametrize("forced", [False, True])
def test_another_error_is_told(monkeypatch, caplog, forced):
    """Once, in the log, and a thread takes over for good; or by the park, where nothing but a ring will do."""
    asked = []

    def refuse(*_):
        asked.append(True)
        raise OSError(errno.EPERM, "forbidden")

    monkeypatch.setattr(_parker, "watch", partial(RingWatch, forced=forced))
    with aiopark.Parker(aiopark.Word()) as parker:
        with monkeypatch.context() as patch:
            patch.setattr(_loop_ring, "Ring", refuse)
            if forced:
                for _ in range(2):
                    with pytest.raises(OSError, match="forbidden"):
                        ASYNCIO.run(parker.park)
                    assert not is_parked(parker)
            else:
                for _ in range(2):
                    ASYNCIO.run(woken_from_a_thread, parker)
                    assert aiopark.statistics().waiter_threads == 1
                assert len(asked) == 1
        ASYNCIO.run(woken, parker)
    said = [(record.name, record.levelname) for record in caplog.records if "forbidden" in record.getMessage()]
    assert said == ([] if forced else [("aiopark", "WARNING")])


def test_a_forced_ring_does_not_give_way(monkeypatch):
    def none_left(*_):
        raise OSError(errno.EMFILE, "none left")

    monkeypatch.setattr(_parker, "watch", partial(RingWatch, forced=True))
    with aiopark.Parker(aiopark.Word()) as parker:
        with monkeypatch.context() as patch:
            patch.setattr(_loop_ring, "Ring", none_left)
            with pytest.raises(OSError, match="none left"):
                ASYNCIO.run(parker.park)
        ASYNCIO.run(woken, parker)


def test_a_word_that_the_kernel_cannot_wait_on_is_told():
    """By the park that finds it out, which raises; not in silence."""

    async def main():
        with mmap.mmap(-1, 4096) as unmapped:
            address = ctypes.addressof(ctypes.c_char.from_buffer(unmapped))
        word = aiopark.Word.from_address(address)
        memory = ctypes.c_uint32(1)
        cell_of(word).memory = memory  # what Python looks at; the kernel looks at the address
        with aiopark.Parker(word) as parker:
            with pytest.raises(OSError, match=f"FUTEX_WAIT on the word at {address:#x}: "):
                await parker.park()
            memory.value = 0
            assert await parker.park_timeout(0) is True
        word.close()
        with aiopark.Parker(aiopark.Word()) as parker:
            await woken(parker)

    ASYNCIO.run(main)


def test_a_ring_that_moved_to_another_thread_and_finds_none_left(monkeypatch):
    """The loop goes on in another thread, where it would need a ring of its own."""
    with aiopark.Parker(aiopark.Word()) as parker:
        loop = asyncio.new_event_loop()
        with in_thread(loop.run_until_complete, sleep_until_watched(parker)):
            pass

        def none_left(*_):
            raise OSError(errno.EMFILE, "none left")

        monkeypatch.setattr(_loop_ring, "Ring", none_left)
        with in_thread(loop.run_until_complete, woken(parker)):
            pass
        loop.close()


# --- closing the Parker, the word and its memory while a wait is on its way out ---


@pytest.mark.parametrize("others", [0, 20])
def test_a_word_that_is_closed_at_once(plain_world, others):
    """Its wait is reaped later: no error is told, and the loop does not run in circles."""

    async def main():
        told = []
        if plain_world.backend == "asyncio":
            asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        parkers = [aiopark.Parker(aiopark.Word()) for _ in range(others)]
        for parker in parkers:
            await parker.park_timeout(0.0001)
        memory = mmap.mmap(-1, 4096)
        word = aiopark.Word.from_buffer(memory, shared=False)
        word.store(1)
        before = aiopark.statistics().watched_words
        with aiopark.Parker(word) as parker:
            while aiopark.statistics().watched_words == before:
                assert await parker.park_timeout(0.001) is False
        word.close()
        memory.close()
        await until(lambda: aiopark.statistics().watched_words == before)
        other = aiopark.Parker()
        with in_thread(lambda: (block_until(lambda: is_parked(other)), other.unpark())):
            await other.park()
        assert not told

    plain_world.run(main)


def test_memory_that_is_gone_when_the_run_ends(plain_world, monkeypatch):
    """The ring ends before it reaped the wait: it touches the memory no more."""
    wakes = []

    async def main():
        memory = mmap.mmap(-1, 4096)
        word = aiopark.Word.from_buffer(memory, shared=False)
        word.store(1)
        parker = aiopark.Parker(word)
        await sleep_until_watched(parker)
        parker.close()
        word.close()
        memory.close()
        monkeypatch.setattr(Cell, "wake_all", lambda cell: wakes.append(cell))  # noqa: PLW0108  # a method

    plain_world.run(main)
    gc.collect()
    assert not wakes
    assert aiopark.statistics().watched_words == 0


@pytest.mark.parametrize("fallback", [False, True], ids=["ring", "thread"])
def test_close_by_another_thread_while_the_first_park_arms(monkeypatch, fallback):
    """Whichever comes first: nothing watches after that, and nobody holds the memory."""
    arm = _loop_ring.LoopRing.arm

    def meanwhile(self, *arguments):
        with in_thread(parker.close):
            pass
        if fallback:
            raise OSError(errno.EMFILE, "none left")
        return arm(self, *arguments)

    monkeypatch.setattr(_loop_ring.LoopRing, "arm", meanwhile)
    memory = mmap.mmap(-1, 4096)
    word = aiopark.Word.from_buffer(memory, shared=False)
    word.store(1)
    parker = aiopark.Parker(word)

    async def main():
        with pytest.raises(aiopark.ClosedError):
            await parker.park()
        await until(lambda: aiopark.statistics().watched_words == 0)
        assert aiopark.statistics().waiter_threads == 0
        word.close()
        memory.close()

    ASYNCIO.run(main)
