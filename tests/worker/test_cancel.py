"""A caller of run that is cancelled: in the queue, while the function runs, and after it has ended."""

from __future__ import annotations

import threading
import time

import anyio
from support import Caller, Held, block_until, in_thread, queued, until

import aiopark
from aiopark._worker._call import Call
from aiopark._worker._function import Function


def test_in_the_queue_it_never_runs(world, make):
    async def main():
        async with make() as worker:
            first = [Held() for _ in range(worker._crew.size)]
            never = Held()
            async with anyio.create_task_group() as tasks:
                for held in first:
                    tasks.start_soon(Caller(worker, held))
                await until(lambda: all(held.runs() for held in first))
                caller = Caller(worker, never, interrupt=never.interrupt, on_dropped=never.on_dropped)
                tasks.start_soon(caller)
                await queued(worker)
                caller.scope.cancel()
                await until(lambda: caller.over)  # while the thread still runs another's
                assert worker.statistics().queued == 0
                assert caller.is_cancelled
                for held in first:
                    held.release()
            assert await worker.run(len, "abc") == 3
            assert (never.threads, never.interrupts, never.dropped) == ([], [], [])
            assert [held.interrupts for held in first] == [[]] * len(first)

    world.run(main)


def test_while_it_runs_it_is_interrupted_and_waited_for(world, make):
    """Once, on the loop's thread; the caller goes on only when the function has ended."""

    async def main():
        held = Held()
        interrupts = []

        def interrupt():
            interrupts.append(threading.current_thread())

        async with make() as worker, anyio.create_task_group() as tasks:
            caller = Caller(worker, held, interrupt=interrupt, on_dropped=held.on_dropped)
            tasks.start_soon(caller)
            await until(held.runs)
            caller.scope.cancel()
            await until(lambda: interrupts)
            for _ in range(3):
                caller.scope.cancel()
                await anyio.sleep(0.001)
            assert not caller.over
            assert not held.ended
            held.release()
            await until(lambda: caller.over)
            assert held.ended == 1
            assert caller.is_cancelled
            assert interrupts == [threading.current_thread()]
            await until(lambda: held.dropped)
            assert held.dropped == [(held.threads[0], "result")]

    world.run(main)


def test_the_functions_exception_is_the_context_of_the_cancellation(world, make):
    async def main():
        held = Held(ValueError("interrupted"))
        async with make() as worker, anyio.create_task_group() as tasks:
            caller = Caller(worker, held, interrupt=held.interrupt, on_dropped=held.on_dropped)
            tasks.start_soon(caller)
            await until(held.runs)
            caller.scope.cancel()
            await until(lambda: caller.over)
            assert caller.is_cancelled
            assert caller.error.__context__ is held.outcome
            assert held.dropped == []

    world.run(main)


def test_inside_of_an_except_block_too(world):
    """There Python has a context of its own for whatever is raised."""

    async def main():
        held = Held(ValueError("interrupted"))
        outer = KeyError("being handled")
        async with aiopark.Worker() as worker, anyio.create_task_group() as tasks:
            caller = Caller(worker, held, interrupt=held.interrupt)

            async def clean_up():
                try:
                    raise outer
                except KeyError:
                    await caller()

            tasks.start_soon(clean_up)
            await until(held.runs)
            caller.scope.cancel()
            await until(lambda: caller.over)
            assert caller.error.__context__ is held.outcome
            assert held.outcome.__context__ is outer

    world.run(main)


def test_an_interrupt_that_fails_is_not_swallowed(world):
    async def main():
        held = Held(ValueError("the function's"))
        failure = OSError("the interrupt's")

        def interrupt():
            held.release()
            raise failure

        async with aiopark.Worker() as worker, anyio.create_task_group() as tasks:
            caller = Caller(worker, held, interrupt=interrupt)
            tasks.start_soon(caller)
            await until(held.runs)
            caller.scope.cancel()
            await until(lambda: caller.over)
            assert held.ended == 1
            assert caller.is_cancelled
            assert caller.error.__context__ is held.outcome
            assert held.outcome.__context__ is failure

    world.run(main)


def test_abandoned_it_leaves_at_once(world, make):
    async def main():
        held = Held()
        async with make() as worker, anyio.create_task_group() as tasks:
            caller = Caller(worker, held, on_dropped=held.on_dropped, abandon_on_cancel=True)
            tasks.start_soon(caller)
            await until(held.runs)
            caller.scope.cancel()
            await until(lambda: caller.over)
            assert caller.is_cancelled
            assert not held.ended
            held.release()
            await until(lambda: held.dropped)
            assert held.dropped == [(held.threads[0], "result")]

    world.run(main)


def test_abandoned_it_is_interrupted_too(world):
    """What comes of that nobody needs to hear."""

    async def main():
        held = Held(ValueError("interrupted"))
        async with aiopark.Worker() as worker, anyio.create_task_group() as tasks:
            caller = Caller(worker, held, interrupt=held.interrupt, abandon_on_cancel=True)
            tasks.start_soon(caller)
            await until(held.runs)
            caller.scope.cancel()
            await until(lambda: caller.over and held.ended)
            assert held.interrupts == [threading.current_thread()]

    world.run(main)


def test_an_exception_that_nobody_hears_goes_to_the_hook(world, monkeypatch):
    told = []
    monkeypatch.setattr(threading, "excepthook", lambda arguments: told.append((arguments.exc_value, arguments.thread)))

    async def main():
        abandoned, dropped = Held(ValueError("abandoned")), Held()

        def fail(result):
            raise OSError(result)

        async with aiopark.Worker() as worker, anyio.create_task_group() as tasks:
            caller = Caller(worker, abandoned, abandon_on_cancel=True)
            tasks.start_soon(caller)
            await until(abandoned.runs)
            caller.scope.cancel()
            await until(lambda: caller.over)
            abandoned.release()
            await until(lambda: told)
            assert told == [(abandoned.outcome, abandoned.threads[0])]
            told.clear()

            caller = Caller(worker, dropped, interrupt=dropped.interrupt, on_dropped=fail)
            tasks.start_soon(caller)
            await until(dropped.runs)
            caller.scope.cancel()
            await until(lambda: caller.over)
            ((error, thread),) = told
            assert (type(error), error.args, thread) == (OSError, ("result",), dropped.threads[0])
            assert await worker.run(len, "abc") == 3

    world.run(main)


def test_when_it_has_ended_its_result_is_dropped_on_the_thread(world, make):
    """The caller is cancelled between the end of the function and its own next step."""

    async def main():
        held = Held()
        async with make() as worker:
            async with anyio.create_task_group() as tasks:
                caller = Caller(worker, held, interrupt=held.interrupt, on_dropped=held.on_dropped)
                tasks.start_soon(caller)
                await until(held.runs)
                held.release()
                block_until(lambda: held.ended and worker.statistics().running == 0)  # the loop stands still
                caller.scope.cancel()
            assert caller.is_cancelled
            await until(lambda: held.dropped)
            assert held.dropped == [(held.threads[0], "result")] or worker._crew.size > 1
            assert held.interrupts == []

    world.run(main)


def test_when_it_has_ended_its_exception_is_the_context(world):
    async def main():
        held = Held(ValueError("too late"))
        async with aiopark.Worker() as worker, anyio.create_task_group() as tasks:
            caller = Caller(worker, held, interrupt=held.interrupt, on_dropped=held.on_dropped)
            tasks.start_soon(caller)
            await until(held.runs)
            held.release()
            block_until(lambda: held.ended and worker.statistics().running == 0)
            caller.scope.cancel()
            await until(lambda: caller.over)
            assert caller.is_cancelled
            assert caller.error.__context__ is held.outcome
            assert (held.interrupts, held.dropped) == ([], [])

    world.run(main)


def test_a_result_that_nobody_takes_after_the_end_of_the_thread(plain_world):
    """Its own thread is gone: it is disposed of all the same."""

    async def main():
        held = Held()
        worker = aiopark.Worker()
        async with anyio.create_task_group() as tasks:
            caller = Caller(worker, held, on_dropped=held.on_dropped)
            tasks.start_soon(caller)
            await until(held.runs)
            held.release()
            with in_thread(worker.close) as closer:
                closer.join()  # the loop stands still
            caller.scope.cancel()
            await until(lambda: caller.over)
            assert caller.is_cancelled
            assert held.dropped == [(threading.current_thread(), "result")]

    plain_world.run(main)


def test_given_up_when_the_thread_has_it_in_hand_it_never_runs():
    """Between the queue and the function: there is no result, so nothing is dropped."""
    worker, parker, held = aiopark.Worker(), aiopark.ThreadParker(), Held()
    call = Call(worker, parker, Function(held, (), {}), held.interrupt, held.on_dropped)
    assert call.give_up()
    call.run()
    assert parker.park_timeout(0)
    assert (held.threads, held.dropped) == ([], [])


def test_no_interrupt_hits_the_next_function(world):
    """The thread goes on only when interrupt() has returned, and interrupt() is not called after the end."""

    async def main():
        current = []
        hit = []

        class Query:
            def __init__(self):
                self.go = threading.Event()

            def __call__(self):
                current.append(self)
                self.go.wait(0.0005)
                current.remove(self)

            def interrupt(self):
                seen = current.copy()
                self.go.set()
                time.sleep(0.0005)  # the function ends, and the next one would begin
                hit.extend(query for query in (*seen, *current) if query is not self)

        async with aiopark.Worker() as worker:
            for _ in range(30):
                async with anyio.create_task_group() as tasks:
                    for delay in (0, 0.0002, 0.0005, 0.001):

                        async def call(delay=delay):
                            query = Query()
                            with anyio.move_on_after(delay):
                                await worker.run(query, interrupt=query.interrupt)

                        tasks.start_soon(call)
        assert hit == []

    world.run(main)


def test_a_cancelled_scope_does_not_keep_the_loop_busy(world):
    """anyio cancels a task of asyncio in each pass of the loop, for as long as it goes on."""

    async def main():
        held = Held()
        interrupted = threading.Event()
        async with aiopark.Worker() as worker, anyio.create_task_group() as tasks:
            caller = Caller(worker, held, interrupt=interrupted.set)
            tasks.start_soon(caller)
            await until(held.runs)
            caller.scope.cancel()
            await until(interrupted.is_set)
            start = time.thread_time()
            await anyio.sleep(0.1)
            used = time.thread_time() - start
            held.release()
            await until(lambda: caller.over)
            assert used < 0.05

    world.run(main)


def test_in_a_cancelled_scope_nothing_is_called_on_trio(plain_world):
    """There a cancellation lasts. On asyncio it comes with the next sleep, when the thread may have begun."""

    async def main():
        held = Held()
        async with aiopark.Worker() as worker:
            with anyio.CancelScope() as scope:
                scope.cancel()
                await worker.run(held, interrupt=held.interrupt)
            assert scope.cancelled_caught
            assert worker.statistics().queued == 0
            assert held.ended == len(held.threads)
            assert plain_world.backend == "asyncio" or not held.runs()
            assert await worker.run(len, "abc") == 3

    plain_world.run(main)
