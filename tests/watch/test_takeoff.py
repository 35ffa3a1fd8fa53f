"""A lease that ends takes its wait off the kernel, whatever the loop does meanwhile: the next owner gets its wake."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from support import ASYNCIO, asleep, block_until, in_thread, is_parked

import aiopark
from aiopark._cell import Cell

pytestmark = pytest.mark.usefixtures("watcher", "nothing_stays_behind")


def gets_its_wake(word):
    """Whether one wake of one sleeper reaches a thread that parks on the word, as that of a foreign unparker would."""
    word.store(1)
    parker = aiopark.ThreadParker(word)
    with in_thread(lambda: parker.park_timeout(20) or pytest.fail("its wake was swallowed")):
        block_until(lambda: parker._cell.owner() is not None and asleep(word.address) == 1)
        word.store(0)
        word.wake(1)


@pytest.mark.parametrize("held", ["before its wake", "after its wake"])
def test_a_closer_that_is_held_while_the_loop_arms_again(monkeypatch, held):
    """By the scheduler, say, at its wake: the task was hinted early, and sleeps again meanwhile."""
    word, other = aiopark.Word(), aiopark.Word()
    wake_all, closing = Cell.wake_all, threading.Event()

    def held_up(cell):
        if threading.current_thread() is not closer:
            return wake_all(cell)
        if held == "after its wake":
            wake_all(cell)
        closing.set()
        time.sleep(0.03)
        return None if held == "after its wake" else wake_all(cell)

    first, second = aiopark.Parker(word), aiopark.Parker(other)
    computing = threading.Event()

    async def task_of_first():
        await first.park()
        try:
            await first.park()  # again, in the same drain
        except aiopark.ClosedError:
            pass

    async def task_of_second():
        await second.park()
        computing.set()
        closing.wait(1)  # some step that computes for a while

    closer = threading.Thread(target=lambda: (computing.wait(20), first.close()))
    monkeypatch.setattr(Cell, "wake_all", held_up)

    async def main():
        tasks = [asyncio.ensure_future(task_of_first()), asyncio.ensure_future(task_of_second())]
        while not (is_parked(first) and is_parked(second)):
            await asyncio.sleep(0)
        closer.start()
        with in_thread(lambda: (word.unpark(), other.unpark())):
            pass  # both are in the kernel's completions before the loop looks
        await asyncio.wait_for(asyncio.gather(*tasks), 20)
        await asyncio.to_thread(closer.join)

    ASYNCIO.run(main)
    monkeypatch.undo()
    gets_its_wake(word)
    second.close()


@pytest.mark.parametrize("end", ["close", "cancelled wait_while", "other loop"])
def test_nothing_is_left_in_the_kernel(plain_world, end):
    """A wake of one reaches the next owner, though nothing but the first one ever waited there."""
    word = aiopark.Word()

    async def main():
        if end == "cancelled wait_while":
            import anyio

            for _ in range(5):
                with anyio.move_on_after(0.001):
                    await word.wait_while(1)
        else:
            parker = aiopark.Parker(word)
            for _ in range(5):
                assert await parker.park_timeout(0.001) is False
            parker.close()
        if end != "other loop":
            await asyncio.to_thread(gets_its_wake, word) if plain_world.backend == "asyncio" else gets_its_wake(word)

    plain_world.run(main)
    gets_its_wake(word)
    word.close()


def test_closers_that_race_the_loop(plain_world):
    """The natural way: a task that is unparked and parks again, while another thread closes."""
    parkers = []

    async def park(parker):
        try:
            while True:
                await parker.park()
        except aiopark.ClosedError:
            pass

    async def main():
        import anyio

        for i in range(40):
            word = aiopark.Word()
            parker = aiopark.Parker(word)
            parkers.append(word)

            def disturb(parker=parker, word=word, i=i):
                block_until(lambda: is_parked(parker))
                word.unpark()
                for _ in range(i * 30):
                    pass
                parker.close()

            with anyio.fail_after(20), in_thread(disturb):
                await park(parker)

    plain_world.run(main)
    for word in parkers:
        gets_its_wake(word)
