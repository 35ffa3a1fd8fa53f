"""Signal handlers that raise inside of the watches, and of what passes their hints on: no wake is lost after that."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import threading
import time

import anyio
import pytest
from support import PATIENCE, Interrupted, block_until, in_thread, is_ours, is_parked, switch_interval

import aiopark
from aiopark._loops import running_loop
from aiopark._watch import waiter_threads

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals"),
    pytest.mark.raises_anywhere,
    pytest.mark.usefixtures("watcher"),
    # Where the exception lands in a finalizer, Python says so and goes on.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


FILES = ("_loop_ring.py", "_io_uring.py", "_uring.py", "_kernel_wait.py", "_threads.py", "_mailbox.py", "_doorbell.py")
FEW, MANY = 0, 17  # other words that are watched: whether the loop looks at the words before it asks the kernel


class Interruption:
    """Raises where CPython runs signal handlers: when a function begins, and after a call of a C function.

    At the number-th of those points in the watches' files, on the thread that made it.
    """

    def __init__(self, number, files=FILES):
        self.number = number
        self.files = files
        self.count = 0
        self.where = ""

    def __enter__(self):
        sys.setprofile(self.profile)
        return self

    def __exit__(self, *_):
        sys.setprofile(None)

    def profile(self, frame, event, argument):
        code = frame.f_code
        if event in {"call", "c_return"} and is_ours(code.co_filename) and code.co_filename.endswith(self.files):
            self.count += 1
            if self.count == self.number:
                sys.setprofile(None)
                self.where = f"{code.co_name}:{frame.f_lineno} {event} {getattr(argument, '__name__', '')}"
                raise Interrupted


async def park_in_spite(parker):
    """Park; whoever is interrupted parks again."""
    while True:
        try:
            return await parker.park()
        except Interrupted:
            pass


@pytest.mark.parametrize("others", [FEW, MANY], ids=["few words", "many words"])
def test_an_exception_anywhere_in_a_pass_or_an_arm_loses_no_wake(others):
    """A native thread unparks a task that parks again at once, and one step of it is interrupted."""

    async def one(number):
        loop = asyncio.get_running_loop()
        word = aiopark.Word()
        parker = aiopark.Parker(word)
        taken = [0]

        async def work():
            while True:
                await park_in_spite(parker)
                taken[0] += 1

        async def deposit(*, at_least):
            """Unpark, and wait until the permit is taken; `at_least` as many as that in all."""
            word.store(0)
            with in_thread(word.wake):
                pass
            give_up = loop.time() + PATIENCE / 3
            while taken[0] < at_least or word.load() == 0:
                assert loop.time() < give_up, f"lost: interrupted at {number}, {interruption.where}"
                await asyncio.sleep(0)

        interruption = Interruption(number)
        task = asyncio.ensure_future(work())
        await asyncio.sleep(0)
        assert is_parked(parker)
        with interruption:
            await deposit(at_least=1)
        await deposit(at_least=2)
        while not is_parked(parker):
            await asyncio.sleep(0)
        await deposit(at_least=3)
        task.cancel()
        await asyncio.wait([task])
        parker.close()
        return interruption.where

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # the loop tells of what it caught
        parkers = [aiopark.Parker(aiopark.Word()) for _ in range(others)]
        tasks = [asyncio.ensure_future(parker.park()) for parker in parkers]
        await asyncio.sleep(0.001)
        number = 1
        while await one(number):
            number += 1
        assert number > 8
        for task, parker in zip(tasks, parkers, strict=True):
            assert not task.done()
            parker.word.unpark()
        await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE)
        for parker in parkers:
            parker.close()
        while aiopark.statistics().watched_words:
            await asyncio.sleep(0)

    asyncio.run(main())


@pytest.mark.parametrize("others", [FEW, MANY], ids=["few words", "many words"])
def test_an_exception_anywhere_in_the_first_arm_loses_no_wake(others):
    """The ring is made, or the thread is started, and armed: then, or by the next park."""

    async def main(number):
        await aiopark.Parker().park_timeout(0)
        parkers = [aiopark.Parker(aiopark.Word()) for _ in range(others)]
        for parker in parkers:
            parker._tenancy.watched(running_loop())
        word = aiopark.Word()
        parker = aiopark.Parker(word)
        with Interruption(number) as interruption:
            try:
                parker._tenancy.watched(running_loop())
            except Interrupted:
                pass
        task = asyncio.ensure_future(parker.park())
        await asyncio.sleep(0)
        assert is_parked(parker)
        with in_thread(word.unpark):
            pass
        await asyncio.wait([task], timeout=PATIENCE / 3)
        assert task.done(), f"lost: interrupted at {number}, {interruption.where}"
        await task
        for one in (parker, *parkers):
            one.close()
        word.close()
        return interruption.where

    number = 1
    while asyncio.run(main(number)):
        number += 1
    assert number > 5
    block_until(lambda: waiter_threads() == 0)


@pytest.mark.parametrize("then", ["closed again", "dropped"])
def test_an_exception_anywhere_in_close_leaves_nothing_that_watches(then):
    def one(number):
        word = aiopark.Word()
        parker = aiopark.Parker(word)

        async def main():
            task = asyncio.ensure_future(parker.park())
            await asyncio.sleep(0)
            assert is_parked(parker)
            with Interruption(number, (*FILES, "_parker.py")) as interruption:
                try:
                    parker.close()
                except Interrupted:
                    pass
            if " closed on " not in repr(parker):
                assert interruption.count <= 2, interruption.where  # before anything was done
                parker.close()
            elif then == "closed again":
                parker.close()
            await asyncio.wait([task], timeout=PATIENCE / 3)
            assert isinstance(task.exception(), aiopark.ClosedError), interruption.where
            return interruption.where

        where = asyncio.run(main())
        if then == "dropped":
            del parker, main
            gc.collect()
        block_until(lambda: aiopark.statistics().watched_words == 0)
        word.close()
        return where

    number = 1
    while one(number):
        number += 1
    assert number > 5


def test_a_storm_of_signals_that_raise():
    """At random, while native threads unpark: every permit that is deposited is taken in the end."""
    interrupted, stop = [0], threading.Event()
    words = [aiopark.Word() for _ in range(20)]
    parkers = [aiopark.Parker(word) for word in words]
    armed = [False]

    def handler(_, frame):
        # Nowhere else: asyncio's own code would end the loop.
        if armed[0] and is_ours(frame.f_code.co_filename) and frame.f_code.co_filename.endswith(FILES):
            armed[0] = False
            interrupted[0] += 1
            raise Interrupted

    def send():
        main = threading.main_thread().ident
        while not stop.is_set():
            armed[0] = True
            signal.pthread_kill(main, signal.SIGUSR1)
            give_way.wait(0.0002)

    def unpark():
        while not stop.is_set():
            for word in words:
                word.unpark()
            give_way.wait(0.0005)

    give_way = threading.Event()  # never set
    give_up = time.monotonic() + 3

    async def work(parker):
        taken = 0
        while taken < 25 or (interrupted[0] < 20 and time.monotonic() < give_up):
            try:
                await parker.park()
                taken += 1
            except Interrupted:
                pass

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        tasks = [asyncio.ensure_future(work(parker)) for parker in parkers]
        with in_thread(send), in_thread(unpark):
            try:
                await asyncio.wait(tasks, timeout=PATIENCE)
            finally:
                stop.set()
        for task in tasks:
            assert task.done(), "a wake is lost"
            await task
        armed[0] = False
        # And now in peace: every one of them is woken.
        for parker in parkers:
            parker.prepare_park()
            with in_thread(lambda parker=parker: (block_until(lambda: is_parked(parker)), parker.word.unpark())):
                with anyio.fail_after(PATIENCE):
                    await parker.park()

    previous = signal.signal(signal.SIGUSR1, handler)
    try:
        with switch_interval(0.0005):
            asyncio.run(main())
    finally:
        signal.signal(signal.SIGUSR1, previous)
    for parker in parkers:
        parker.close()
    assert interrupted[0] > 0
