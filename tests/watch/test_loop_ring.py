"""LoopRing, driven by hand: what the loop's passes do, and what is left when one is interrupted or refused."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import sys

import pytest
from support import WATCHERS, Interrupted, block_until, in_a_fork, in_thread, interrupted_at

import aiopark
from aiopark.lowlevel import default_backend

if "uring" not in WATCHERS:
    pytest.skip("no io_uring here", allow_module_level=True)

from aiopark._os import _io_uring
from aiopark._os._io_uring import Ring
from aiopark._watch import _loop_ring
from aiopark._watch._loop_ring import FEW, LoopRing


class Hints:
    """Counts those that came."""

    def __init__(self):
        self.number = 0

    def __call__(self):
        self.number += 1

    def taken(self):
        number, self.number = self.number, 0
        return number


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
        ring.arm(word, 1, Hints())
    return words


def rung(eventfd):
    try:
        return os.eventfd_read(eventfd) > 0
    except BlockingIOError:
        return False


def one_pass(ring):
    """Do what the loop does when the eventfd was written to."""
    ring.collect()
    ring.settle()


def done(ring, arm):
    one_pass(ring)
    return arm.done


def wakes(ring, word, arm, hints):
    """Tell whether the arm is in the kernel: a wake completes it, and it hints."""
    hints.taken()
    word._wake_all()
    block_until(lambda: done(ring, arm))
    return hints.taken() > 0


def test_a_wake_hints_and_ends_the_arm(ring, eventfd, hints, others):
    word = aiopark.Word()
    arm = ring.arm(word, 1, hints)
    one_pass(ring)
    assert (len(ring), hints.taken(), arm.done, rung(eventfd)) == (1 + len(others), 0, False, False)
    word.unpark()
    block_until(lambda: rung(eventfd))
    one_pass(ring)
    assert (len(ring), arm.done, arm.failure) == (len(others), True, None)
    assert hints.taken() > 0
    one_pass(ring)
    assert hints.taken() == 0
    assert not rung(eventfd)


def test_a_permit_in_few_words_hints_before_the_kernel_is_asked(ring, hints, monkeypatch):
    word, other = aiopark.Word(), aiopark.Word()
    arm = ring.arm(word, 1, hints)
    waits = ring.arm(other, 1, hints)
    word.unpark()
    block_until(ring._ring.has_more)
    with monkeypatch.context() as patch:
        patch.setattr(_io_uring, "raw", None)
        ring.collect()
    assert (arm.early, arm.done, hints.taken()) == (True, False, 1)
    assert not waits.early
    ring.settle()
    assert (arm.early, arm.done) == (False, True)
    assert not waits.done


def test_nothing_is_looked_at_while_the_kernel_has_nothing(ring, hints):
    word = aiopark.Word()
    ring.arm(word, 1, hints)
    word.store(0)  # and wakes nobody
    one_pass(ring)
    assert hints.taken() == 0


def test_many_words_are_asked_of_the_kernel_at_once(ring, hints):
    words = [aiopark.Word() for _ in range(300)]
    arms = [ring.arm(word, 1, hints) for word in words]
    assert len(ring) == 300
    for word in words:
        word.unpark()
    block_until(lambda: all(done(ring, arm) for arm in arms))
    assert len(ring) == 0
    assert hints.taken() == 300


def test_a_word_that_changed_meanwhile(ring, hints, others):
    word = aiopark.Word()
    word.unpark()
    arm = ring.arm(word, 1, hints)
    assert done(ring, arm)
    assert hints.taken() > 0
    assert arm.failure is None


# --- waiting on, for an owner that sleeps again before its arm is done ---


def early(ring, word, hints):
    """Give an arm that was hinted early, and whose owner took the permit and sleeps again."""
    arm = ring.arm(word, 1, hints)
    word.unpark()
    block_until(ring._ring.has_more)
    ring.collect()
    assert arm.early
    hints.taken()
    word.store(1)
    arm.again = 1
    return arm


def test_an_arm_waits_on(ring, hints):
    word = aiopark.Word()
    for _ in range(3):
        arm = early(ring, word, hints)
        ring.settle()
        assert (arm.done, arm.early, arm.again, len(ring), hints.taken()) == (False, False, None, 1, 0)
        assert wakes(ring, word, arm, hints)
    assert len(ring) == 0


def test_an_arm_that_waits_on_misses_no_permit_that_came_first(ring, hints):
    word = aiopark.Word()
    arm = early(ring, word, hints)
    word.unpark()
    block_until(lambda: done(ring, arm))
    assert hints.taken() > 0


def test_an_arm_that_is_taken_off_does_not_wait_on(ring, hints):
    """Its memory may be gone by then."""
    memory = mmap.mmap(-1, 4096)
    word = aiopark.Word.from_buffer(memory, shared=False)
    word.store(1)
    arm = early(ring, word, hints)
    arm.take_off()
    word.close()
    memory.close()
    block_until(lambda: done(ring, arm))
    assert arm.failure is None
    assert len(ring) == 0


def test_an_arm_that_is_taken_off_between_queueing_and_submitting(ring, hints, monkeypatch):
    """Another thread closes: the kernel is handed a wait whose word nobody wakes any more, but we do."""
    memory = mmap.mmap(-1, 4096)
    word = aiopark.Word.from_buffer(memory, shared=False)
    word.store(1)
    arm = early(ring, word, hints)
    submit, closed = Ring.submit, []

    def closed_meanwhile(self):
        if not closed:
            arm.take_off()
            word.close()
            with pytest.raises(BufferError):
                memory.close()  # the kernel will read it
            closed.append(True)
        submit(self)

    monkeypatch.setattr(Ring, "submit", closed_meanwhile)
    ring.settle()
    assert closed
    block_until(lambda: done(ring, arm))
    assert arm.failure is None
    memory.close()


# --- words and memory that go away ---


def test_a_word_that_is_closed_before_its_arm_is_reaped(ring, hints, others):
    word = aiopark.Word()
    arm = ring.arm(word, 1, hints)
    arm.take_off()
    word.close()
    block_until(ring._ring.has_more)
    assert done(ring, arm)
    assert arm.failure is None
    assert len(ring) == len(others)


@pytest.mark.parametrize("how", ["close", "collect"])
def test_memory_that_is_gone_before_the_ring_ends(eventfd, hints, how):
    memory = mmap.mmap(-1, 4096)
    word = aiopark.Word.from_buffer(memory, shared=False)
    word.store(1)
    ring = LoopRing(eventfd)
    arm = ring.arm(word, 1, hints)
    arm.take_off()
    word.close()
    memory.close()
    if how == "close":
        ring.close()
        ring.close()
    else:
        del ring  # what a finalizer raises is a failure here
    assert arm.done
    assert arm.failure is None


def test_the_end_of_a_ring_hints_everybody(eventfd, hints):
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    ring = LoopRing(eventfd)
    word = aiopark.Word()
    arms = [ring.arm(word, 1, hints) for _ in range(3)]
    assert sum(len(one()) for one in _loop_ring.rings.copy() if one() is ring) == 3
    ring.close()
    assert all(arm.done for arm in arms)
    assert hints.taken() == 3
    assert len(ring) == 0
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    one_pass(ring)


# --- what the kernel refuses ---


@pytest.mark.parametrize("shared", [False, True])
def test_what_the_kernel_cannot_wait_on(ring, hints, shared):
    if shared and not default_backend().supports_shared:
        pytest.skip("this backend reaches no other process")
    address = 4  # in the page at zero, which no process has
    word = aiopark.Word.from_address(address, shared=shared)
    arm = ring.arm(word, 1, hints)
    block_until(lambda: done(ring, arm))
    assert hints.taken() > 0
    assert arm.failure.errno == errno.EFAULT
    assert "FUTEX_WAIT on the word at 0x4: " in str(arm.failure)


@pytest.mark.parametrize("error", [errno.ENOMEM, errno.EAGAIN, errno.EINTR, errno.EBADR])
def test_an_arm_that_is_refused_was_never_there(ring, hints, others, monkeypatch, error):
    """Nothing stays queued, which the next submit would hand over for nobody. The ring is retired."""
    word = aiopark.Word()

    def refuse(self):
        raise OSError(error, "refused")

    with monkeypatch.context() as patch:
        patch.setattr(Ring, "submit", refuse)
        with pytest.raises(OSError, match="refused"):
            ring.arm(word, 1, hints)
    assert len(ring) == 0
    hints.taken()
    arm = ring.arm(word, 1, hints)
    word.unpark()
    block_until(lambda: done(ring, arm))
    assert hints.taken() in {1, 2}  # early and done; of one arm


def test_one_submit_that_is_refused_while_settling_loses_no_wake(ring, hints, monkeypatch):
    word = aiopark.Word()
    arm = early(ring, word, hints)

    def refuse(self):
        raise OSError(errno.ENOMEM, "refused")

    with monkeypatch.context() as patch:
        patch.setattr(Ring, "submit", refuse)
        with pytest.raises(OSError, match="refused"):
            ring.settle()
    assert arm.done
    assert hints.taken()
    assert wakes(ring, word, ring.arm(word, 1, hints), hints)


def test_completions_are_taken_when_the_kernel_wants_it(ring, hints, monkeypatch):
    first, second = aiopark.Word(), aiopark.Word()
    arm = ring.arm(first, 1, hints)
    first.unpark()
    submit, refused = Ring.submit, []

    def refuse_once(self):
        if not refused:
            refused.append(True)
            raise BlockingIOError(errno.EBUSY, "completions first")
        submit(self)

    with monkeypatch.context() as patch:
        patch.setattr(Ring, "submit", refuse_once)
        later = ring.arm(second, 1, hints)
    assert arm.done
    assert not later.done
    assert wakes(ring, second, later, hints)


def test_more_arms_wait_on_than_the_queue_has_room_for(ring, hints, monkeypatch):
    monkeypatch.setattr(_loop_ring, "FEW", 1000)
    words = [aiopark.Word() for _ in range(300)]
    arms = [ring.arm(word, 1, hints) for word in words]
    for word in words:
        word.unpark()
    ring.collect()
    assert all(arm.early for arm in arms)
    for word, arm in zip(words, arms, strict=True):
        word.store(1)
        arm.again = 1
    ring.settle()
    assert len(ring) == 300
    assert not any(arm.done for arm in arms)
    hints.taken()
    for word in words:
        word._wake_all()
    block_until(lambda: all(done(ring, arm) for arm in arms))
    assert hints.taken() == 300


# --- interruptions: a signal handler that raises ---


def interrupted_enter(monkeypatch, number):
    """Let a signal handler raise right after the number-th io_uring_enter from now."""
    raw, calls = _io_uring.raw, []

    def enter(*arguments):
        result = raw(*arguments)
        calls.append(result)
        if len(calls) == number:
            raise Interrupted
        return result

    monkeypatch.setattr(_io_uring, "raw", enter)
    return calls


def test_an_arm_that_is_interrupted_after_the_kernel_has_it_leaves_no_wait(ring, hints, others, monkeypatch):
    """It would swallow the wake of the owner's next arm."""
    word = aiopark.Word()
    with monkeypatch.context() as patch:
        interrupted_enter(patch, 1)
        with pytest.raises(Interrupted):
            ring.arm(word, 1, hints)
    assert len(ring) == 0
    assert wakes(ring, word, ring.arm(word, 1, hints), hints)


def test_an_arm_that_is_interrupted_before_the_kernel_has_it_is_forgotten(ring, hints, monkeypatch):
    def interrupt(self):
        raise Interrupted

    for name in ("submit", "prepare"):
        with monkeypatch.context() as patch:
            patch.setattr(Ring, name, lambda *_, **__: interrupt(None))
            with pytest.raises(Interrupted):
                ring.arm(aiopark.Word(), 1, hints)
        assert len(ring) == 0
        ring.settle()
        assert len(ring) == 0


@pytest.mark.raises_anywhere
@pytest.mark.parametrize("event", ["calls", "lines"])
def test_settling_that_is_interrupted_anywhere_loses_nobody(ring, eventfd, hints, event):
    """One arm waits on, another is done, a third waits as before: none is lost. Or all are done, and were hinted."""

    def one(number):
        waits_on, ends, waits = (aiopark.Word() for _ in range(3))
        arms = [early(ring, waits_on, hints), ring.arm(ends, 1, hints), ring.arm(waits, 1, hints)]
        ends.unpark()
        with interrupted_at(
            number, event, lambda file: file.endswith(("_loop_ring.py", "_io_uring.py", "_arm.py"))
        ) as hit:
            ring.settle()
        where = f"interrupted at {number}, {hit}"
        one_pass(ring)
        assert arms[1].done, where
        assert not (arms[0].done or arms[2].done) or hints.number, where
        for word, arm in ((waits_on, arms[0]), (waits, arms[2])):
            if not arm.done:
                rung(eventfd)
                word._wake_all()
                assert rung(eventfd) or event == "lines", where  # no signal handler runs at every line
                assert wakes(ring, word, arm, hints), where
        hints.taken()
        assert len(ring) == 0, where
        return hit

    number = 1
    while one(number):
        number += 1
    assert number > 20


# --- threads and forks ---


def test_a_loop_that_goes_on_in_another_thread_gets_a_new_ring(ring, hints):
    word, other = aiopark.Word(), aiopark.Word()
    arm = ring.arm(word, 1, hints)

    def elsewhere():
        refused = ring.arm(other, 1, hints)  # the first sign of the other thread
        assert refused.done
        assert arm.done
        assert hints.taken() == 2
        again = ring.arm(word, 1, hints)
        assert not again.done
        word.unpark()
        block_until(lambda: done(ring, again))
        assert hints.taken() > 0

    with in_thread(elsewhere):
        pass


def test_a_wake_that_finds_the_loop_in_another_thread(ring, hints, others):
    word = aiopark.Word()
    arm = ring.arm(word, 1, hints)
    word.unpark()
    block_until(ring._ring.has_more)
    with in_thread(one_pass, ring):
        pass
    assert arm.done
    assert hints.taken() > 0
    assert len(ring) == 0


def test_an_arm_that_waits_on_when_the_loop_moves_is_hinted(ring, hints):
    arm = early(ring, aiopark.Word(), hints)
    with in_thread(ring.settle):
        pass
    assert arm.done
    assert hints.taken() > 0


def test_in_a_child_of_a_fork_it_does_nothing(ring, eventfd, hints):
    word = aiopark.Word()
    arm = ring.arm(word, 1, hints)

    def child():
        assert len(ring) == 0
        assert aiopark.statistics().watched_words == 0
        word.unpark()
        one_pass(ring)
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        ring.close()
        assert len(os.listdir("/proc/self/fd")) == before - 1  # noqa: PTH208
        assert hints.number == 0
        own = os.eventfd(0, os.EFD_NONBLOCK)
        mine = LoopRing(own)
        again = mine.arm(aiopark.Word(), 1, hints)
        again.word.unpark()
        block_until(lambda: done(mine, again))

    in_a_fork(child)
    assert not rung(eventfd)
    assert not arm.done
    assert wakes(ring, word, arm, hints)


def test_an_arm_holds_neither_the_ring_nor_the_eventfd(eventfd, hints):
    """A Parker that outlives its loop keeps no descriptor."""
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    ring = LoopRing(eventfd)
    arm = ring.arm(aiopark.Word(), 1, hints)
    del ring
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    assert arm.done


def test_the_memory_is_held_while_the_kernel_may_read_it(ring, hints):
    native = ctypes.c_uint32(1)
    before = sys.getrefcount(native)
    word = aiopark.Word.from_address(ctypes.addressof(native), owner=native)
    arm = ring.arm(word, 1, hints)
    word.close()
    assert sys.getrefcount(native) > before
    arm.take_off()
    block_until(lambda: done(ring, arm))
