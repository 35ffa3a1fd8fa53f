"""LoopRing: whatever raises in it retires the ring, which forgets nobody; threads and forks."""

from __future__ import annotations

import errno
import mmap
import os

import pytest
from support import WATCHERS, Interrupted, block_until, in_a_fork, in_thread, interrupted_at

import aiopark

if "uring" not in WATCHERS:
    pytest.skip("no io_uring here", allow_module_level=True)

from support.driving import Hints, arm, hinted, one_pass, over, rung, wakes
from support.rings import failing

from aiopark._os import _io_uring
from aiopark._os._io_uring import Ring
from aiopark._watch import _loop_ring
from aiopark._watch._kernel_wait import OVER, WAITING, KernelWait
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


# --- what the kernel refuses ---


def test_what_the_kernel_cannot_wait_on(ring, hints):
    with mmap.mmap(-1, 4096) as unmapped:
        word = aiopark.Word.from_buffer(unmapped, shared=False)
        address = word.address
        word.close()
    word = aiopark.Word.from_address(address)
    wait = arm(ring, word, hints, seen=1)
    block_until(lambda: over(ring, wait))
    assert hints.taken() > 0
    assert wait.failure.errno == errno.EFAULT
    assert f"FUTEX_WAIT on the word at {address:#x}: " in str(wait.failure)


def refuse(error):
    def method(*_, **__):
        raise error

    return method


@pytest.mark.parametrize("error", [errno.ENOMEM, errno.EAGAIN, errno.EINTR, errno.EBADR])
def test_a_wait_that_is_refused_was_never_there(ring, hints, others, monkeypatch, error):
    """Nothing stays queued, which the next submit would hand over for nobody. The ring is retired."""
    word = aiopark.Word()
    with monkeypatch.context() as patch:
        patch.setattr(Ring, "submit", refuse(OSError(error, "refused")))
        with pytest.raises(OSError, match="refused"):
            arm(ring, word, hints)
    assert len(ring) == 0
    hints.taken()
    wait = arm(ring, word, hints)
    word.unpark()
    block_until(lambda: over(ring, wait))
    assert hints.taken() == 1


def test_a_reap_that_is_refused_loses_nobody_and_says_so_once(ring, hints, monkeypatch, caplog):
    words = [aiopark.Word() for _ in range(3)]
    waits = [arm(ring, word, hints) for word in words]
    words[0].unpark()
    block_until(ring._ring.has_more)
    for _ in range(3):
        with monkeypatch.context() as patch:
            patch.setattr(_io_uring, "raw", failing(errno.EPERM))
            ring.after_drain()  # which tells whoever sleeps, and not the loop
        assert [wait.state for wait in waits] == [OVER] * 3
    assert hints.taken() == 3
    assert _loop_ring.taken_away()
    assert [record.name for record in caplog.records if "io_uring is refused" in record.getMessage()] == ["aiopark"]


def test_completions_are_taken_when_the_kernel_wants_it(ring, hints, monkeypatch):
    first, second = aiopark.Word(), aiopark.Word()
    wait = arm(ring, first, hints)
    first.unpark()
    submit, refused = Ring.submit, []

    def refuse_once(self, **options):
        if not refused:
            refused.append(True)
            raise BlockingIOError(errno.EBUSY, "completions first")
        submit(self, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Ring, "submit", refuse_once)
        later = arm(ring, second, hints)
    assert (wait.state, later.state) == (OVER, WAITING)
    assert wakes(ring, second, later, hints)


def test_more_go_to_sleep_than_the_queue_has_room_for(ring, hints, monkeypatch):
    monkeypatch.setattr(_loop_ring, "FEW", 1000)
    monkeypatch.setattr(LoopRing, "_submit", lambda *_, **__: None)  # until there is no room
    words = [aiopark.Word() for _ in range(300)]
    submits, submit = [], Ring.submit

    def counted(ring):
        submits.append(True)
        submit(ring._ring if isinstance(ring, LoopRing) else ring)

    monkeypatch.setattr(LoopRing, "_submit", lambda self, ring, **_: counted(ring) if full(ring) else None)
    waits = [arm(ring, word, hints) for word in words]
    monkeypatch.undo()
    ring._submit(ring._ring)
    assert submits
    assert len(ring) == 300
    for word in words:
        word.wake()
    block_until(lambda: all(over(ring, wait) for wait in waits))
    assert hints.taken() == 300


def full(ring):
    return ring._sq_tail.value - ring._sq_head.value > ring._sq_mask


# --- interruptions: a signal handler that raises ---


def test_a_wait_that_is_interrupted_after_the_kernel_has_it_leaves_none(ring, hints, others, monkeypatch):
    """It would swallow the wake of the owner's next one."""
    word, raw = aiopark.Word(), _io_uring.raw

    def enter(*arguments):
        raw(*arguments)
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(_io_uring, "raw", enter)
        with pytest.raises(Interrupted):
            arm(ring, word, hints)
    assert len(ring) == 0
    assert wakes(ring, word, arm(ring, word, hints), hints)


def test_a_wait_that_is_interrupted_before_the_kernel_has_it_is_forgotten(ring, hints, monkeypatch):
    for name in ("submit", "prepare"):
        with monkeypatch.context() as patch:
            patch.setattr(Ring, name, refuse(Interrupted))
            with pytest.raises(Interrupted):
                arm(ring, aiopark.Word(), hints)
        assert len(ring) == 0
        ring.after_drain()
        assert len(ring) == 0


@pytest.mark.parametrize("what", ["wake", "hint", "ring"])
def test_a_retirement_that_is_interrupted_goes_on_at_the_next_call(ring, hints, monkeypatch, what):
    words = [aiopark.Word() for _ in range(3)]
    waits = [arm(ring, word, hints) for word in words]
    old = ring._ring
    kind, name = {
        "wake": (type(cell_of(words[0])), "wake_all"),
        "hint": (KernelWait, "complete"),
        "ring": (Ring, "close"),
    }[what]
    with monkeypatch.context() as patch:
        patch.setattr(kind, name, refuse(Interrupted))
        with pytest.raises(Interrupted):
            ring._retire()
    assert ring._broken
    ring.before_drain()
    assert [wait.state for wait in waits] == [OVER] * 3
    assert hints.taken() == 3
    assert len(ring) == 0
    assert old.fileno() == -1
    assert not ring._broken
    wait = arm(ring, words[0], hints, waits[0])
    assert wakes(ring, words[0], wait, hints)


@pytest.mark.raises_anywhere
@pytest.mark.parametrize("event", ["calls", "lines"])
@pytest.mark.parametrize("what", ["a pass", "an arm", "a retirement"])
def test_what_is_interrupted_anywhere_loses_nobody(ring, eventfd, event, what):
    """One was hinted and sleeps again, another is completed, a third waits: each is waiting, or was hinted."""

    def one(number):
        words = [aiopark.Word() for _ in range(3)]
        all_hints = [Hints() for _ in words]
        waits = [hinted(ring, words[0], all_hints[0]), *map(arm, [ring] * 2, words[1:], all_hints[1:])]
        if what != "an arm":
            waits[0] = arm(ring, words[0], all_hints[0], waits[0])
        words[1].unpark()
        for hints in all_hints:
            hints.taken()
        with interrupted_at(
            number, event, lambda file: file.endswith(("_loop_ring.py", "_io_uring.py", "_kernel_wait.py"))
        ) as hit:
            if what == "a pass":
                one_pass(ring)
            elif what == "an arm":
                waits[0] = arm(ring, words[0], all_hints[0], waits[0])
            else:
                ring._retire()
        where = f"interrupted at {number}, {hit}"
        if what == "an arm" and hit:  # the park raised: the owner parks again
            waits[0] = arm(ring, words[0], all_hints[0], waits[0])
        one_pass(ring)
        assert all_hints[1].taken(), where
        for word, hints, wait in zip(words, all_hints, waits, strict=True):
            if wait.state is WAITING:
                rung(eventfd)
                word.wake()
                assert rung(eventfd) or event == "lines", where  # no signal handler runs at every line
                assert wakes(ring, word, wait, hints) or hints.number, where
            elif wait is not waits[1]:
                assert hints.taken(), where
        one_pass(ring)
        assert len(ring) == 0, where
        return hit

    number = 1
    while one(number):
        number += 1
    assert number > 8


# --- threads and forks ---


def test_a_loop_that_goes_on_in_another_thread_gets_a_new_ring(ring, hints):
    word, other = aiopark.Word(), aiopark.Word()
    wait = arm(ring, word, hints)

    def elsewhere():
        first = arm(ring, other, Hints())  # the first sign of the other thread
        assert first.state is WAITING
        assert wait.state is OVER
        assert hints.taken() == 1
        again = arm(ring, word, hints, wait)
        assert again.state is WAITING
        assert wakes(ring, word, again, hints)
        assert len(ring) == 1
        ring.close()

    with in_thread(elsewhere):
        pass


@pytest.mark.parametrize("others", [0, FEW], ids=["few words", "many words"], indirect=True)
def test_a_wake_that_finds_the_loop_in_another_thread(ring, hints, others, caplog):
    word = aiopark.Word()
    wait = arm(ring, word, hints)
    word.unpark()
    block_until(ring._ring.has_more)
    with in_thread(one_pass, ring):
        pass
    assert wait.state is OVER
    assert hints.taken() > 0
    assert len(ring) == 0
    assert not _loop_ring.taken_away()  # that passes
    assert not caplog.records


def test_a_hinted_one_when_the_loop_moves(ring, hints):
    word = aiopark.Word()
    before = hinted(ring, word, hints)
    with in_thread(lambda: (arm(ring, word, hints, before), ring.close())):
        pass
    assert before.state is OVER
    assert hints.taken()  # by the close


def test_in_a_child_of_a_fork_it_does_nothing(ring, eventfd, hints):
    word = aiopark.Word()
    wait = arm(ring, word, hints)

    def child():
        assert len(ring) == 0
        assert aiopark.statistics().watched_words == 0
        word.unpark()
        one_pass(ring)
        with pytest.raises(RuntimeError, match="parent's, seen from a forked child"):
            arm(ring, word, hints, wait)
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        ring.close()
        assert len(os.listdir("/proc/self/fd")) == before - 1  # noqa: PTH208
        assert hints.number == 0
        mine = LoopRing(os.eventfd(0, os.EFD_NONBLOCK))
        again = arm(mine, word, hints)
        assert wakes(mine, word, again, hints)

    in_a_fork(child)
    assert not rung(eventfd)
    assert wait.state is WAITING
    assert wakes(ring, word, wait, hints)


def test_a_wait_holds_neither_the_ring_nor_the_eventfd(eventfd, hints):
    """A Parker that outlives its loop keeps no descriptor."""
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    ring = LoopRing(eventfd)
    wait = arm(ring, aiopark.Word(), hints)
    del ring
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    assert wait.state is OVER
