"""blocking_run: the same for threads; a timeout, or Ctrl-C, is to the caller what a cancellation is to a task."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from contextlib import contextmanager

import pytest
from support import PATIENCE, Held, block_until, in_thread

import aiopark


def test_the_result_and_the_arguments(make):
    def function(*arguments, **keywords):
        return arguments, keywords

    with make() as worker:
        assert worker.blocking_run(function, 1, self=2, timeout=PATIENCE) == ((1,), {"self": 2})
        with pytest.raises(ZeroDivisionError):
            worker.blocking_run(divmod, 1, 0)
        with pytest.raises(StopIteration):
            worker.blocking_run(next, iter(()))


def test_a_timeout_in_the_queue(make):
    with make() as worker:
        first = [Held() for _ in range(worker._crew.size)]
        futures = [worker.submit(held) for held in first]
        block_until(lambda: all(held.runs() for held in first))
        never = Held()
        with pytest.raises(TimeoutError, match=r"the function had not ended after 0\.01 seconds"):
            worker.blocking_run(never, timeout=0.01, interrupt=never.interrupt)
        assert worker.statistics().queued == 0
        for held in first:
            held.release()
        for future in futures:
            future.result()
        assert (never.threads, never.interrupts) == ([], [])


def test_a_timeout_while_it_runs(make):
    with make() as worker:
        held = Held()
        with pytest.raises(TimeoutError):
            worker.blocking_run(held, timeout=0.05, interrupt=held.interrupt, on_dropped=held.on_dropped)
        assert held.ended == len(held.threads) == len(held.interrupts) == len(held.dropped)
        assert all(thread is threading.current_thread() for thread in held.interrupts)
        held = Held(ValueError("interrupted"))
        with pytest.raises(TimeoutError) as caught:
            worker.blocking_run(held, timeout=0.05, interrupt=held.interrupt, on_dropped=held.on_dropped)
        assert caught.value.__context__ is held.outcome
        assert held.dropped == []


def test_a_timeout_that_abandons():
    with aiopark.Worker() as worker:
        held = Held()
        with pytest.raises(TimeoutError):
            worker.blocking_run(held, timeout=0.05, on_dropped=held.on_dropped, abandon_on_cancel=True)
        assert not held.ended
        held.release()
        block_until(lambda: held.dropped)


def test_a_result_that_comes_with_the_timeout_wins():
    """The function ends after the deadline, before the caller gives it up."""
    with aiopark.Worker() as worker:
        held = Held()

        def interrupt():
            raise AssertionError("it had ended")

        class Late(aiopark.ThreadParker):
            def park_until(self, deadline):
                block_until(held.runs)
                held.release()
                block_until(lambda: worker.statistics().running == 0)
                return False

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("aiopark._worker._worker.ThreadParker", Late)
            assert worker.blocking_run(held, timeout=0, interrupt=interrupt) == "result"


@pytest.mark.parametrize("timeout", [None, math.inf, 1e300])
def test_long_timeouts(timeout):
    with aiopark.Worker() as worker:
        assert worker.blocking_run(len, "abc", timeout=timeout) == 3


@pytest.mark.parametrize(("timeout", "error"), [(math.nan, ValueError), ("1", TypeError), (1j, TypeError)])
def test_bad_timeouts(timeout, error):
    called = []
    with aiopark.Worker() as worker:
        with pytest.raises(error, match="timeout"):
            worker.blocking_run(called.append, 1, timeout=timeout)
        assert worker.statistics().threads == 0
    assert called == []


def test_not_on_the_thread_of_a_running_loop(world, make):
    """It says so before it changes anything."""

    async def main():
        called = []
        async with make() as worker:
            with pytest.raises(RuntimeError, match=r"blocking_run\(\) would block the event loop .* `await run\(\)`"):
                worker.blocking_run(called.append, 1)
            with pytest.raises(RuntimeError, match=r"close\(\) would block the event loop .* `await aclose\(\)`"):
                worker.close()
            with pytest.raises(RuntimeError, match=r"shutdown\(\) would block"):
                worker.shutdown()
            with pytest.raises(RuntimeError, match=r"with would block the event loop .* `async with`"), worker:
                pass
            assert await worker.run(len, "abc") == 3
        assert called == []

    world.run(main)


def press_until(condition):
    """Send Ctrl-C to the main thread until it is handled: one that comes just before a wait does not interrupt it."""
    while not condition():
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        time.sleep(0.01)


@contextmanager
def ctrl_c_raises_in(*verbs):
    """Let Ctrl-C raise KeyboardInterrupt in a park by the first verb; after that, in one by the next. Yields the rest.

    Anywhere else it does nothing: several may be under way.
    """
    left = list(verbs)

    def handle(_, frame):
        while frame is not None:
            if left and frame.f_code.co_name == left[0]:
                del left[0]
                raise KeyboardInterrupt
            frame = frame.f_back

    previous = signal.signal(signal.SIGINT, handle)
    try:
        yield left
    finally:
        signal.signal(signal.SIGINT, previous)


needs_signals = pytest.mark.skipif(os.name == "nt", reason="no signal interrupts a thread there")


@needs_signals
def test_ctrl_c_interrupts_and_waits():
    def press():
        block_until(held.runs)
        press_until(lambda: not left)

    held = Held()
    with aiopark.Worker() as worker, ctrl_c_raises_in("park_until") as left:
        with in_thread(press), pytest.raises(KeyboardInterrupt):
            worker.blocking_run(held, interrupt=held.interrupt, on_dropped=held.on_dropped)
        assert held.ended == 1
        assert held.interrupts == [threading.current_thread()]
        block_until(lambda: held.dropped)


@needs_signals
def test_a_second_ctrl_c_leaves_the_function_alone():
    def press():
        block_until(held.runs)
        press_until(lambda: not left)

    held, interrupted = Held(), []
    with aiopark.Worker() as worker, ctrl_c_raises_in("park_until", "park") as left:
        with in_thread(press), pytest.raises(KeyboardInterrupt):
            worker.blocking_run(held, interrupt=lambda: interrupted.append(True), on_dropped=held.on_dropped)
        assert (held.ended, interrupted) == (0, [True])
        held.release()
        block_until(lambda: held.dropped)
