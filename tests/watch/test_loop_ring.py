"""LoopRing, driven by hand: what the loop's passes do, and what is left when one is interrupted or refused."""

from __future__ import annotations

import mmap
import os

import pytest
from support import WATCHERS, block_until
from support.driving import Hints, arm, hinted, one_pass, over, rung, wakes

import aiopark

if "uring" not in WATCHERS:
    pytest.skip("no io_uring here", allow_module_level=True)

from aiopark._cell import Lease
from aiopark._os import _io_uring
from aiopark._watch import _loop_ring
from aiopark._watch._kernel_wait import HINTED, OVER, WAITING
from aiopark._watch._loop_ring import FEW, LoopRing
from aiopark._word import cell_of


@pytest.fixture
def eventfd():
    fileno = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    yield fileno
    os.close(fileno)


@pytest.fixture
def ring(eventfd):
    ring = LoopRing(eventfd)
    yield ring
    ring.close()


@pytest.fixture
def hints():
    return Hints()


@pytest.fixture(params=[0, FEW], ids=["few words", "many words"])
def others(request, ring):
    """Whether the words are looked at first, or only the kernel is asked."""
    words = [aiopark.Word() for _ in range(request.param)]
    for word in words:
        arm(ring, word, Hints())
    return words


def test_a_wake_hints_and_ends_the_arm(ring, eventfd, hints, others):
    word = aiopark.Word()
    wait = arm(ring, word, hints)
    one_pass(ring)
    assert (len(ring), hints.taken(), wait.state is OVER, rung(eventfd)) == (1 + len(others), 0, False, False)
    word.unpark()
    block_until(lambda: rung(eventfd))
    one_pass(ring)
    assert (len(ring), wait.state is OVER, wait.failure) == (len(others), True, None)
    assert hints.taken() > 0
    one_pass(ring)
    assert hints.taken() == 0
    assert not rung(eventfd)


def test_a_permit_in_few_words_hints_before_the_kernel_is_asked(ring, hints, monkeypatch):
    word, other = aiopark.Word(), aiopark.Word()
    wait = arm(ring, word, hints)
    waits = arm(ring, other, hints)
    word.unpark()
    block_until(ring._ring.has_more)
    with monkeypatch.context() as patch:
        patch.setattr(_io_uring, "raw", None)
        ring.before_drain()
    assert (wait.state, hints.taken()) == (HINTED, 1)
    ring.after_drain()
    assert (wait.state, waits.state) == (OVER, WAITING)


def test_nothing_is_looked_at_while_the_kernel_has_nothing(ring, hints):
    word = aiopark.Word()
    arm(ring, word, hints)
    word.store(0)  # and wakes nobody
    one_pass(ring)
    assert hints.taken() == 0


def test_many_words_are_asked_of_the_kernel_at_once(ring, hints):
    words = [aiopark.Word() for _ in range(300)]
    waits = [arm(ring, word, hints) for word in words]
    assert len(ring) == 300
    for word in words:
        word.unpark()
    block_until(lambda: all(over(ring, wait) for wait in waits))
    assert len(ring) == 0
    assert hints.taken() == 300


def test_a_word_that_changed_meanwhile(ring, hints, others):
    word = aiopark.Word()
    word.unpark()
    wait = arm(ring, word, hints, seen=1)
    assert over(ring, wait)
    assert hints.taken() > 0
    assert wait.failure is None


def test_an_owner_that_sleeps_again_and_again(ring, hints):
    word = aiopark.Word()
    wait = None
    for _ in range(3):
        before = hinted(ring, word, hints)
        wait = arm(ring, word, hints, before)
        assert (before.state, wait.state, len(ring), hints.taken()) == (OVER, WAITING, 1, 0)
        assert wakes(ring, word, wait, hints)
    assert len(ring) == 0


# --- words and memory that go away ---


def test_a_lease_that_ends_takes_the_wait_off(ring, hints, others):
    """Nothing of it is left in the kernel, which would swallow the wake of the next owner."""
    word = aiopark.Word()
    lease = Lease(cell_of(word), lambda: "a test", lambda: False)
    lease.take()
    wait = arm(ring, word, hints)
    lease.end()
    block_until(ring._ring.has_more)
    assert over(ring, wait)
    assert (wait.failure, len(ring)) == (None, len(others))


@pytest.mark.parametrize("first", ["lease", "word"])
def test_memory_that_is_gone_before_its_wait_is_reaped(ring, hints, others, first):
    memory = mmap.mmap(-1, 4096)
    word = aiopark.Word.from_buffer(memory, shared=False)
    word.store(1)
    wait = arm(ring, word, hints)
    if first == "lease":
        lease = Lease(cell_of(word), lambda: "a test", lambda: False)
        lease.take()
        lease.end()
    word.close()  # takes the wait off, if nobody did
    memory.close()
    block_until(lambda: over(ring, wait))
    assert (wait.failure, len(ring)) == (None, len(others))


@pytest.mark.parametrize("how", ["close", "collect"])
def test_memory_that_is_gone_before_the_ring_ends(eventfd, hints, how):
    memory = mmap.mmap(-1, 4096)
    word = aiopark.Word.from_buffer(memory, shared=False)
    word.store(1)
    ring = LoopRing(eventfd)
    wait = arm(ring, word, hints)
    word.close()
    memory.close()
    if how == "close":
        ring.close()
        ring.close()
    else:
        del ring  # what a finalizer raises is a failure here
    assert wait.state is OVER
    assert wait.failure is None


def test_the_end_of_a_ring_hints_everybody(eventfd, hints):
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    ring = LoopRing(eventfd)
    word = aiopark.Word()
    waits = [arm(ring, word, hints) for _ in range(3)]
    assert sum(len(one()) for one in _loop_ring.rings.copy() if one() is ring) == 3
    ring.close()
    assert all(wait.state is OVER for wait in waits)
    assert hints.taken() == 3
    assert len(ring) == 0
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    one_pass(ring)
