"""The interpreter ends while a Worker that nobody closed is there: the argument names what goes on.

Nothing here may say a word, but "done" where something has to be done still.
"""

from __future__ import annotations

import asyncio
import atexit
import sys
import threading
import time

import aiopark

worker = aiopark.Worker()
kept = [worker]


def idle():
    worker.blocking_run(len, "abc")
    pool = aiopark.WorkerPool(3)
    list(pool.map(time.sleep, [0.01] * 6))
    kept.append(pool)


def a_loop_that_ended():
    asyncio.run(worker.run(len, "abc"))


def a_function_that_runs():
    def function():
        time.sleep(0.1)
        print("done")

    worker.submit(function)


def a_server_thread():
    """Another thread goes on after the main one, and uses a Worker, whose thread stays the same."""

    def serve():
        threading.main_thread().join()
        threads = {asyncio.run(worker.run(threading.current_thread)) for _ in range(20) if not time.sleep(0.005)}
        assert threads == {before}
        print("done")

    before = worker.blocking_run(threading.current_thread)
    threading.Thread(target=serve).start()


def a_worker_that_uses_another():
    other = aiopark.Worker()
    kept.append(other)

    def function():
        threading.main_thread().join()
        time.sleep(0.1)
        assert other.blocking_run(threading.current_thread) is before
        print("done")

    before = other.blocking_run(threading.current_thread)
    worker.submit(function)


def a_storm_of_calls():
    def storm():
        while True:
            try:
                worker.blocking_run(len, "abc")
            except RuntimeError:
                return  # at the very end no thread can be started

    for _ in range(3):
        threading.Thread(target=storm, daemon=True).start()
    time.sleep(0.05)


def first_used_at_the_end():
    """By a thread that goes on after the main one."""

    def late():
        threading.main_thread().join()
        time.sleep(0.05)
        try:
            with aiopark.Worker() as late:
                assert late.blocking_run(len, "abc") == 3
            assert worker.blocking_run(len, "abc") == 3
        except RuntimeError as error:
            assert sys.version_info[:2] == (3, 12), "the first releases of which start no thread any more then"
            assert "can't create new thread" in str(error)
        print("done")

    threading.Thread(target=late).start()


def without_the_hook():
    """A Python that has no way to be told of the main thread's end."""
    del threading._register_atexit
    if sys.version_info >= (3, 13):  # before that, whoever joins the main thread there may fail it
        worker.blocking_run(len, "abc")


def in_atexit():
    """When the threads have ended: it is said, or it works; it does not hang."""

    def last():
        try:
            worker.blocking_run(len, "abc")
        except RuntimeError:
            pass
        worker.close()

    worker.blocking_run(len, "abc")
    atexit.register(last)


def unclosed_on_a_daemon():
    """A daemon thread waits for a function when the interpreter ends: that function ends first."""

    def function():
        time.sleep(0.1)
        print("done")

    threading.Thread(target=worker.blocking_run, args=(function,), daemon=True).start()
    while not worker.statistics().running:
        time.sleep(0.001)


if __name__ == "__main__":
    globals()[sys.argv[1]]()
