"""Ring: waits on futexes through an io_uring."""

import errno
import sys
from typing import Any

import pytest
from support import Crew, block_until

from aiopark._os import Futex

if not sys.platform.startswith("linux"):
    pytest.skip("io_uring is Linux' own", allow_module_level=True)

from support.rings import cells, completed, failing, needs_ring, rings, wait_on

from aiopark._os import _io_uring
from aiopark._os._io_uring import Ring
from aiopark._os._io_uring_memory import COMPLETIONS, SUBMISSIONS

UNMAPPED = 4  # in the page at zero, which no process has


# --- waits ---


@needs_ring
@pytest.mark.parametrize("shared", [False, True])
def test_a_wait_completes_when_it_is_woken(ring: Ring, eventfd: int, futex: Futex, shared: bool) -> None:
    memory, addresses = cells(5)
    wait_on(ring, addresses)
    assert ring.completions() == []
    assert rings(eventfd) == 0
    for i in (3, 1):
        memory[i] = 0
        futex.wake_one(addresses[i], shared=shared)
    assert completed(ring, 2) == {3: 0, 1: 0}
    assert ring.completions() == []
    for address in addresses:
        futex.wake_all(address, shared=shared)
    assert completed(ring, 3) == {0: 0, 2: 0, 4: 0}


@needs_ring
def test_a_word_that_holds_something_else(ring: Ring) -> None:
    _memory, addresses = cells(3, value=2**32 - 1)
    wait_on(ring, addresses[:2], expected=0)
    assert completed(ring, 2) == {0: -errno.EAGAIN, 1: -errno.EAGAIN}
    wait_on(ring, addresses, expected=2**32 - 1)
    assert ring.completions() == []


@needs_ring
def test_a_bad_address_is_a_result(ring: Ring) -> None:
    wait_on(ring, [UNMAPPED])
    assert completed(ring, 1) == {0: -errno.EFAULT}
    memory, (address,) = cells(1)  # and the ring goes on
    wait_on(ring, [address], expected=0)
    assert completed(ring, 1) == {0: -errno.EAGAIN}
    del memory


@needs_ring
def test_a_wake_that_came_between_queueing_and_submitting(ring: Ring) -> None:
    memory, (address,) = cells(1)
    assert ring.prepare(address, 1, 0)
    memory[0] = 0
    ring.submit()
    assert completed(ring, 1) == {0: -errno.EAGAIN}


@needs_ring
def test_the_largest_user_data(ring: Ring) -> None:
    _memory, (address,) = cells(1)
    assert ring.prepare(address, 0, 2**64 - 1)
    ring.submit()
    assert completed(ring, 1) == {2**64 - 1: -errno.EAGAIN}


# --- the queues ---


@needs_ring
def test_a_full_queue(ring: Ring, futex: Futex) -> None:
    _memory, addresses = cells(200)
    queued = 0
    while ring.prepare(addresses[queued], 1, queued):
        queued += 1
    assert queued == SUBMISSIONS
    assert not ring.prepare(addresses[queued], 1, queued)
    ring.submit()
    assert ring.prepare(addresses[queued], 1, queued)
    ring.submit()
    for address in addresses:
        futex.wake_one(address)
    assert set(completed(ring, queued + 1)) == set(range(queued + 1))


@needs_ring
def test_more_wakes_than_the_queue_has_room_for(ring: Ring, futex: Futex) -> None:
    number = 2 * COMPLETIONS + 100
    memory, (address,) = cells(1)
    wait_on(ring, [address] * number)
    memory[0] = 0
    futex.wake_all(address)
    taken = completed(ring, number)
    assert set(taken) == set(range(number))
    assert set(taken.values()) == {0}
    assert ring.completions() == []


@needs_ring
def test_more_completions_than_the_queue_has_room_for(ring: Ring) -> None:
    """None is taken while they come: the kernel keeps what overflows."""
    number = 2 * COMPLETIONS + 100
    _memory, (address,) = cells(1)
    taken = []
    for user_data in range(number):
        while not ring.prepare(address, 0, user_data):
            try:
                ring.submit()
            except BlockingIOError:  # which some kernels demand
                taken += ring.completions()
    ring.submit()
    assert ring.has_more() or taken
    taken += ring.completions()
    assert sorted(taken) == [(user_data, -errno.EAGAIN) for user_data in range(number)]
    assert not ring.has_more()


@needs_ring
def test_a_kernel_that_wants_completions_taken_first(ring: Ring, monkeypatch: pytest.MonkeyPatch) -> None:
    _memory, (address,) = cells(1)
    with monkeypatch.context() as patch:
        patch.setattr(_io_uring, "raw", failing(errno.EBUSY))
        ring.prepare(address, 0, 0)
        with pytest.raises(BlockingIOError, match="completions to be taken"):
            ring.submit()
    ring.submit()
    assert completed(ring, 1) == {0: -errno.EAGAIN}


@needs_ring
def test_a_failed_submission_stays_queued(ring: Ring, monkeypatch: pytest.MonkeyPatch) -> None:
    _memory, (address,) = cells(1)
    with monkeypatch.context() as patch:
        patch.setattr(_io_uring, "raw", failing(errno.ENOMEM))
        ring.prepare(address, 0, 0)
        with pytest.raises(OSError, match="io_uring_enter") as caught:
            ring.submit()
        assert caught.value.errno == errno.ENOMEM
    ring.submit()
    assert completed(ring, 1) == {0: -errno.EAGAIN}


# --- the eventfd ---


@needs_ring
def test_the_eventfd_is_written_on_a_wake_and_not_by_our_own_asking(ring: Ring, eventfd: int, futex: Futex) -> None:
    _memory, addresses = cells(50)
    wait_on(ring, addresses)
    assert rings(eventfd) == 0
    assert not ring.has_more()
    for i, address in enumerate(addresses):
        futex.wake_one(address)
        block_until(ring.has_more)
        assert rings(eventfd) > 0
        assert ring.completions() == [(i, 0)]
        assert not ring.has_more()
        assert rings(eventfd) == 0
    wait_on(ring, addresses)
    for address in addresses:
        futex.wake_one(address)
    assert rings(eventfd) > 0
    assert len(completed(ring, 50)) == 50  # asked for several times
    assert rings(eventfd) == 0


@needs_ring
def test_a_wake_by_another_thread_is_never_missed(ring: Ring, eventfd: int, futex: Futex) -> None:
    """Either the eventfd is written, or the look at the end of `completions` sees it."""
    memory, (mine, theirs) = cells(2)
    rounds = 3000

    def wake() -> None:
        for _ in range(rounds):
            while memory[1]:
                futex.wait(theirs, 1)
            memory[1] = 1
            memory[0] = 0
            futex.wake_one(mine)

    with Crew() as crew:
        crew.start(wake)
        for i in range(rounds):
            ring.prepare(mine, 1, i)
            ring.submit()
            memory[1] = 0
            futex.wake_one(theirs)
            taken: list[tuple[int, int]] = ring.completions()
            if not taken:

                def rung(taken: list[tuple[int, int]] = taken) -> bool:
                    if rings(eventfd):
                        taken += ring.completions()
                    return bool(taken)

                block_until(rung)
            assert [user_data for user_data, _ in taken] == [i]
            memory[0] = 1


# --- to submit and to ask in one call ---


@pytest.fixture
def entered(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Return the list of how many were handed over, and with which flags, at each io_uring_enter."""
    calls: list[tuple[int, int]] = []
    raw = _io_uring.raw

    def enter(*arguments: Any) -> int:
        calls.append((arguments[2].value, arguments[4].value))
        return raw(*arguments)

    monkeypatch.setattr(_io_uring, "raw", enter)
    return calls


@needs_ring
def test_one_call_submits_and_asks(ring: Ring, eventfd: int, futex: Futex, entered: list[tuple[int, int]]) -> None:
    memory, (woken, changed, waits) = cells(3)
    wait_on(ring, [woken])
    futex.wake_one(woken)
    block_until(ring.has_more)
    assert rings(eventfd) > 0
    memory[1] = 0
    entered.clear()
    assert ring.prepare(changed, 1, 1)
    assert ring.prepare(waits, 1, 2)
    ring.submit(get_events=True)
    assert not ring.has_more()
    assert sorted(ring.completions()) == [(0, 0), (1, -errno.EAGAIN)]
    assert entered == [(2, 1)]
    assert rings(eventfd) == 0  # what we ask for ourselves
    futex.wake_one(waits)
    block_until(lambda: rings(eventfd))  # it is written again
    assert completed(ring, 1) == {2: 0}


@needs_ring
def test_nothing_is_asked_for_without_being_told(ring: Ring, futex: Futex) -> None:
    _memory, (woken, waits) = cells(2)
    wait_on(ring, [woken])
    futex.wake_one(woken)
    block_until(ring.has_more)
    assert ring.prepare(waits, 1, 1)
    ring.submit()
    assert ring.has_more()
    assert ring.completions() == [(0, 0)]


@needs_ring
def test_nothing_queued_is_no_call(ring: Ring, entered: list[tuple[int, int]]) -> None:
    ring.submit()
    ring.submit(get_events=True)
    assert ring.completions() == []
    assert entered == []


@needs_ring
def test_one_that_the_kernel_refuses_does_not_keep_it_from_asking(
    ring: Ring, futex: Futex, entered: list[tuple[int, int]]
) -> None:
    """It stops at one that it refuses, and leaves out the events: they come with the rest."""
    _memory, (woken, waits) = cells(2)
    wait_on(ring, [woken])
    futex.wake_one(woken)
    block_until(ring.has_more)
    entered.clear()
    assert ring.prepare(waits, 1, 1)
    ring._sqes[64] = b"\xff"  # no operation of any kernel; the first entry was that of `woken`
    assert ring.prepare(waits, 1, 2)
    ring.submit(get_events=True)
    assert not ring.has_more()
    assert sorted(ring.completions()) == [(0, 0), (1, -errno.EINVAL)]
    assert entered == [(2, 1), (1, 1)]


@needs_ring
def test_more_than_one_call_gives(ring: Ring, futex: Futex) -> None:
    _memory, addresses = cells(50)
    wait_on(ring, addresses[:49])
    for address in addresses[:49]:
        futex.wake_one(address)
    block_until(ring.has_more)
    ring.prepare(addresses[49], 1, 49)
    ring.submit(get_events=True)
    assert sorted(ring.completions()) == [(i, 0) for i in range(49)]


@needs_ring
def test_a_call_that_fails_leaves_the_eventfd_on(
    ring: Ring, eventfd: int, futex: Futex, monkeypatch: pytest.MonkeyPatch
) -> None:
    _memory, (address,) = cells(1)
    wait_on(ring, [address])
    with monkeypatch.context() as patch:
        patch.setattr(_io_uring, "raw", failing(errno.ENOMEM))
        ring.prepare(address, 1, 1)
        with pytest.raises(OSError, match="io_uring_enter"):
            ring.submit(get_events=True)
    futex.wake_one(address)
    block_until(lambda: rings(eventfd))
    assert ring.completions() == [(0, 0)]


@needs_ring
def test_a_wake_by_another_thread_while_we_submit_and_ask_is_never_missed(
    ring: Ring, eventfd: int, futex: Futex
) -> None:
    """Either the eventfd is written, or `completions` sees it, which comes next."""
    memory, (mine, theirs) = cells(2)
    rounds = 3000

    def wake() -> None:
        for _ in range(rounds):
            while memory[1]:
                futex.wait(theirs, 1)
            memory[1] = 1
            memory[0] = 0
            futex.wake_one(mine)

    with Crew() as crew:
        crew.start(wake)
        for i in range(rounds):
            ring.prepare(mine, 1, i)
            memory[1] = 0
            futex.wake_one(theirs)
            ring.submit(get_events=True)
            taken = ring.completions()

            def rung(taken: list[tuple[int, int]] = taken) -> bool:
                if not taken and rings(eventfd):
                    taken += ring.completions()
                return bool(taken)

            block_until(rung)
            assert [user_data for user_data, _ in taken] == [i]
            memory[0] = 1
