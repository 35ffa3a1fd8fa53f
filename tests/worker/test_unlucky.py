"""Moments in which a call, its thread and whoever closes the Worker meet."""

from __future__ import annotations

import gc
import threading

import pytest
from support import PATIENCE, block_until, in_thread, interrupted_at

import aiopark
from aiopark._worker._call import Call
from aiopark._worker._function import Function


def is_worker_code(filename):
    return "/aiopark/_worker/" in filename.replace("\\", "/")


def a_call(function, interrupt=None, on_dropped=None):
    return Call("a test", aiopark.ThreadParker(), Function(function, (), {}), interrupt, on_dropped)


def test_a_function_that_never_begins_is_not_interrupted():
    """Else the interrupt would hit the function of another, which runs: a call that is being dropped has no thread."""
    interrupted, ran = [], []
    call = a_call(lambda: ran.append(1), lambda: interrupted.append(1))
    assert call.give_up() is True
    call.run()
    assert (interrupted, ran) == ([], [])


def test_a_function_that_has_begun_is_interrupted():
    interrupted = []

    def function():
        assert call.give_up() is True

    call = a_call(function, lambda: interrupted.append(1))
    call.run()
    assert interrupted == [1]


def test_callers_of_a_close_that_was_interrupted_hear_of_it_at_the_next_one():
    number, hit = 0, [""]
    while hit:
        number += 1
        worker, begun, goes_on = aiopark.Worker(), threading.Event(), threading.Event()
        worker.submit(lambda begun=begun, goes_on=goes_on: (begun.set(), goes_on.wait(PATIENCE)))
        assert begun.wait(PATIENCE)
        futures = [worker.submit(pow, 1, 1) for _ in range(3)]
        gc.collect()
        timer = threading.Timer(0.01, goes_on.set)
        timer.start()
        with interrupted_at(number, "calls", is_worker_code) as hit:
            worker.close()
        worker.close()
        timer.join()
        assert all(future.done() for future in futures), f"after {hit}"
    assert number > 5


def test_two_functions_of_a_pool_that_close_it():
    pool, both = aiopark.WorkerPool(2), threading.Barrier(2)

    def close():
        both.wait(PATIENCE)
        pool.close()

    futures = [pool.submit(close) for _ in range(2)]
    for future in futures:
        future.result(PATIENCE)
    pool.close()


def test_an_interrupted_caller_loses_no_result():
    """Of all points from the queue to the return: the caller has it, or `on_dropped` gets it."""
    number, hit = 0, [""]
    with aiopark.Worker() as worker:
        worker.blocking_run(pow, 1, 1)
        while hit:
            number += 1
            ran, dropped, taken = [], [], []
            gc.collect()
            with interrupted_at(number, "calls", is_worker_code) as hit:
                taken.append(worker.blocking_run(lambda ran=ran: ran.append(1) or "result", on_dropped=dropped.append))
            worker.blocking_run(pow, 1, 1)
            assert len(taken) + len(dropped) == len(ran), f"after {hit}"
    assert number > 5


def test_a_callback_of_a_future_that_exits_does_not_end_the_thread(monkeypatch):
    told = []
    monkeypatch.setattr(threading, "excepthook", told.append)

    def leave(_):
        raise SystemExit

    with aiopark.Worker() as worker:
        goes_on = threading.Event()
        first = worker.submit(goes_on.wait, PATIENCE)
        first.add_done_callback(leave)
        second = worker.submit(pow, 2, 3)
        goes_on.set()
        assert second.result(PATIENCE) == 8
    assert [arguments.exc_type for arguments in told] == [SystemExit]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_hook_that_raises_keeps_nobody_waiting(monkeypatch, capfd):
    def fail(_):
        raise ZeroDivisionError

    monkeypatch.setattr(threading, "excepthook", fail)
    begun, goes_on = threading.Event(), threading.Event()

    def function():
        begun.set()
        return goes_on.wait(PATIENCE)

    def call():
        with pytest.raises(TimeoutError):
            worker.blocking_run(function, timeout=0.01, interrupt=goes_on.set, on_dropped=fail)

    with aiopark.Worker() as worker, in_thread(call):
        block_until(begun.is_set)
    assert "ZeroDivisionError" in capfd.readouterr().err
