"""KernelWait: each row of the table in its module, on a real ring."""

from __future__ import annotations

import errno
import os

import pytest
from support import WATCHERS, Interrupted, block_until

import aiopark
from aiopark._word import cell_of

if "uring" not in WATCHERS:
    pytest.skip("no io_uring here", allow_module_level=True)

from support.driving import Hints, arm, hinted, one_pass, over, wakes

from aiopark._watch import _loop_ring
from aiopark._watch._kernel_wait import EXPECTED, HINTED, OVER, WAITING, KernelWait
from aiopark._watch._loop_ring import LoopRing


@pytest.fixture
def ring():
    eventfd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    ring = LoopRing(eventfd)
    yield ring
    ring.close()
    os.close(eventfd)


@pytest.fixture
def hints():
    return Hints()


@pytest.fixture
def word():
    return aiopark.Word()


def changed(ring, word):
    """Unpark, and wait until the kernel knows."""
    word.unpark()
    block_until(ring._ring.has_more)


# --- WAITING ---


def test_waiting_seen_to_have_changed_before_a_drain_hints(ring, word, hints):
    wait = arm(ring, word, hints)
    assert wait.state is WAITING
    changed(ring, word)
    ring.before_drain()
    assert (wait.state, hints.taken()) == (HINTED, 1)


@pytest.mark.parametrize("seen", [0, 1, 7, 2**32 - 1])
def test_a_change_is_what_differs_from_what_the_owner_saw(ring, word, hints, seen):
    word.store(seen)
    wait = arm(ring, word, hints)
    cell_of(word).wake_all()
    block_until(ring._ring.has_more)
    ring.before_drain()
    assert (wait.state, hints.taken()) == (WAITING, 0)  # the same value: it is left to the kernel's answer
    word.store(seen ^ 1)
    ring.before_drain()
    assert (wait.state, hints.taken()) == (HINTED, 1)


def test_waiting_completed_by_the_kernel_hints(ring, word, hints):
    wait = arm(ring, word, hints)
    changed(ring, word)
    ring.after_drain()
    assert (wait.state, hints.taken(), len(ring)) == (OVER, 1, 0)


def test_waiting_completed_since_the_cell_held_something_else_hints(ring, word, hints):
    wait = arm(ring, word, hints, seen=7)
    block_until(lambda: over(ring, wait))
    assert (hints.taken(), wait.failure, len(ring)) == (1, None, 0)


def test_waiting_whose_owner_goes_to_sleep_is_the_same_wait(ring, word, hints, monkeypatch):
    wait = arm(ring, word, hints)
    with monkeypatch.context() as patch:
        patch.setattr(type(ring._ring), "submit", None)  # no system call
        assert arm(ring, word, hints, wait) is wait
    assert (wait.state, len(ring), hints.taken()) == (WAITING, 1, 0)
    assert wakes(ring, word, wait, hints)


def test_waiting_whose_owner_saw_another_value_meanwhile(ring, word, hints):
    """It changed without a wake. What it changes from now on counts from there."""
    wait = arm(ring, word, hints)
    word.store(7)
    assert arm(ring, word, hints, wait) is wait
    assert wait.seen == 7
    cell_of(word).wake_all()
    block_until(ring._ring.has_more)
    ring.before_drain()
    assert wait.state is WAITING
    word.store(1)
    ring.before_drain()
    assert wait.state is HINTED


# --- HINTED ---


def test_hinted_completed_by_the_kernel_hints_no_more(ring, word, hints):
    wait = hinted(ring, word, hints)
    ring.after_drain()
    assert (wait.state, hints.taken(), len(ring)) == (OVER, 0, 0)


def test_hinted_is_not_hinted_again(ring, word, hints):
    wait = hinted(ring, word, hints)
    word.store(0)
    ring.before_drain()
    assert (wait.state, hints.taken()) == (HINTED, 0)


def test_hinted_whose_owner_goes_to_sleep_is_over_and_a_new_one_waits(ring, word, hints):
    before = hinted(ring, word, hints)
    wait = arm(ring, word, hints, before)
    assert wait is not before
    assert (before.state, wait.state, len(ring), hints.taken()) == (OVER, WAITING, 1, 0)
    assert wakes(ring, word, wait, hints)


def test_the_wake_of_a_hinted_one_may_have_come_for_the_new_sleep(ring, word, hints):
    """Two unparks, the second between the owner's look and its arm: one wake told of both."""
    before = hinted(ring, word, hints)
    word.store(0)
    arm(ring, word, hints, before, seen=1)
    block_until(lambda: (one_pass(ring), hints.number)[1])


def test_hinted_that_nobody_woke_is_taken_off_by_a_wake_of_ours(ring, word, hints):
    """The word was changed by a store without a wake, and some other wait rang the loop: it is still in the kernel."""
    other = aiopark.Word()
    other_hints = Hints()
    before = arm(ring, word, hints)
    arm(ring, other, other_hints)
    word.store(0)
    changed(ring, other)
    ring.before_drain()
    assert before.state is HINTED
    ring.after_drain()
    assert before.state is HINTED  # and still in the kernel
    word.store(1)
    hints.taken()
    wait = arm(ring, word, hints, before)
    block_until(lambda: over(ring, before))
    if wait.state is OVER:  # taken off with it, and hinted: the owner sleeps again
        assert hints.taken() > 0
        wait = arm(ring, word, hints, wait)
    assert len(ring) == 1
    assert wakes(ring, word, wait, hints)


# --- retired ---


@pytest.mark.parametrize("state", ["waiting", "hinted", "over"])
def test_retired_is_over_and_hints_who_was_not_hinted(ring, word, hints, state):
    if state == "hinted":
        wait = hinted(ring, word, hints)
    else:
        wait = arm(ring, word, hints)
        if state == "over":
            changed(ring, word)
            one_pass(ring)
            hints.taken()
            word.store(1)
    ring._retire()
    assert (wait.state, hints.taken(), len(ring)) == (OVER, int(state == "waiting"), 0)
    again = arm(ring, word, hints, wait)
    assert again is not wait
    assert again.state is WAITING
    assert wakes(ring, word, again, hints)


# --- OVER ---


def test_over_whose_owner_goes_to_sleep_gets_a_new_wait(ring, word, hints):
    before = arm(ring, word, hints)
    changed(ring, word)
    one_pass(ring)
    word.store(1)
    wait = arm(ring, word, hints, before)
    assert wait is not before
    assert wait.state is WAITING
    assert wakes(ring, word, wait, hints)


def test_a_wait_of_another_ring_is_none_of_this_ones(ring, word, hints):
    """The Parker moved to another loop, and the first one stands still."""
    before = arm(ring, word, hints)
    eventfd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    second = LoopRing(eventfd)
    mine = Hints()
    wait = arm(second, word, mine, before)
    assert wait is not before
    block_until(lambda: over(ring, before))  # taken off there
    if over(second, wait):  # and here, by the same wake: hinted, the owner sleeps again
        assert mine.taken() > 0
        wait = arm(second, word, mine, wait)
    assert wakes(second, word, wait, mine)
    second.close()
    os.close(eventfd)


# --- what the kernel answers ---


@pytest.mark.parametrize("result", sorted(EXPECTED))
def test_answers_that_only_say_look_again(word, hints, result):
    wait = KernelWait(None, cell_of(word), 1, hints)
    wait.complete(result)
    assert (wait.state, wait.failure, hints.taken()) == (OVER, None, 1)
    wait.complete(result)
    assert hints.taken() == 0


def test_any_other_answer_is_kept_for_the_owner(word, hints):
    wait = KernelWait(None, cell_of(word), 1, hints)
    wait.complete(-errno.EFAULT)
    assert (wait.state, hints.taken(), wait.failure.errno) == (OVER, 1, errno.EFAULT)
    assert f"FUTEX_WAIT on the word at {word.address:#x}: " in str(wait.failure)


def test_a_hint_that_is_interrupted_is_given_again(word):
    calls = []

    def hint():
        calls.append(True)
        if len(calls) == 1:
            raise Interrupted

    for end in (lambda wait: wait.complete(0), KernelWait.look):
        calls.clear()
        word.store(0)
        wait = KernelWait(None, cell_of(word), 1, hint)
        with pytest.raises(Interrupted):
            end(wait)
        assert wait.state is WAITING
        end(wait)
        assert len(calls) == 2


def test_a_closed_word_is_not_looked_at(word, hints):
    wait = KernelWait(None, cell_of(word), 1, hints)
    word.close()
    wait.look()
    assert (wait.state, hints.taken()) == (WAITING, 0)


def test_there_is_one_ring_for_each_that_is_alive(ring):
    assert ring in [reference() for reference in _loop_ring.rings.copy()]
