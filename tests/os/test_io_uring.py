"""Ring: waits on futexes through an io_uring; and what is asked of the kernel before one is used."""

import ctypes
import errno
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import Crew, block_until, in_a_fork

from aiopark._fence import full_fence
from aiopark._os import Futex, _io_uring_probe
from aiopark._os._io_uring_probe import refusal

if not sys.platform.startswith("linux"):
    pytest.skip("io_uring is Linux' own", allow_module_level=True)

from aiopark._os import _io_uring, _io_uring_calls
from aiopark._os._io_uring import ForeignThreadError, Ring

needs_ring = pytest.mark.skipif(refusal() is not None, reason=str(refusal()))

UNMAPPED = 4  # in the page at zero, which no process has
WAKE = 1  # the expected value of a wait that sleeps, on a cell that holds it


@pytest.fixture
def eventfd() -> Iterator[int]:
    fileno = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    yield fileno
    os.close(fileno)


@pytest.fixture
def ring(eventfd: int) -> Iterator[Ring]:
    ring = Ring(eventfd, full_fence)
    yield ring
    ring.close()


@pytest.fixture
def futex() -> Futex:
    futex = Futex.create()
    assert futex is not None
    return futex


def cells(number: int, value: int = 1) -> tuple[Any, list[int]]:
    """Give the memory and the addresses of that many words."""
    memory = (ctypes.c_uint32 * number)(*[value] * number)
    start = ctypes.addressof(memory)
    return memory, [start + 4 * i for i in range(number)]


def wait_on(ring: Ring, addresses: list[int], expected: int = 1, *, shared: bool = False) -> None:
    for user_data, address in enumerate(addresses):
        while not ring.prepare(address, expected, user_data, shared=shared):
            ring.submit()
    ring.submit()


def completed(ring: Ring, number: int) -> dict[int, int]:
    """Take completions until there are that many."""
    taken: dict[int, int] = {}

    def take() -> bool:
        for user_data, result in ring.completions():
            assert user_data not in taken
            taken[user_data] = result
        return len(taken) >= number

    block_until(take)
    return taken


def rings(eventfd: int) -> int:
    """Take what the kernel wrote to the eventfd."""
    try:
        return os.eventfd_read(eventfd)
    except BlockingIOError:
        return 0


def held() -> tuple[int, int]:
    """Count what a ring holds of this process: descriptors, and mappings."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    return len(os.listdir("/proc/self/fd")), sum("io_uring" in line for line in maps)  # noqa: PTH208


# --- waits ---


@needs_ring
@pytest.mark.parametrize("shared", [False, True])
def test_a_wait_completes_when_it_is_woken(ring: Ring, eventfd: int, futex: Futex, shared: bool) -> None:
    memory, addresses = cells(5)
    wait_on(ring, addresses, shared=shared)
    assert list(ring.completions()) == []
    assert rings(eventfd) == 0
    for i in (3, 1):
        memory[i] = 0
        futex.wake_one(addresses[i], shared=shared)
    assert completed(ring, 2) == {3: 0, 1: 0}
    assert list(ring.completions()) == []
    for address in addresses:
        futex.wake_all(address, shared=shared)
    assert completed(ring, 3) == {0: 0, 2: 0, 4: 0}


@needs_ring
def test_private_and_shared_waits_are_apart(ring: Ring, futex: Futex) -> None:
    _memory, (address,) = cells(1)
    assert ring.prepare(address, 1, 7, shared=False)
    assert ring.prepare(address, 1, 8, shared=True)
    ring.submit()
    futex.wake_all(address, shared=True)
    assert completed(ring, 1) == {8: 0}
    futex.wake_all(address)
    assert completed(ring, 1) == {7: 0}


@needs_ring
def test_a_word_that_holds_something_else(ring: Ring) -> None:
    _memory, addresses = cells(3, value=2**32 - 1)
    wait_on(ring, addresses[:2], expected=0)
    assert completed(ring, 2) == {0: -errno.EAGAIN, 1: -errno.EAGAIN}
    wait_on(ring, addresses, expected=2**32 - 1)
    assert list(ring.completions()) == []


@needs_ring
@pytest.mark.parametrize("shared", [False, True])
def test_a_bad_address_is_a_result(ring: Ring, shared: bool) -> None:
    wait_on(ring, [UNMAPPED], shared=shared)
    assert completed(ring, 1) == {0: -errno.EFAULT}
    memory, (address,) = cells(1)  # and the ring goes on
    wait_on(ring, [address], expected=0, shared=shared)
    assert completed(ring, 1) == {0: -errno.EAGAIN}
    del memory


@needs_ring
def test_a_wake_that_came_between_queueing_and_submitting(ring: Ring) -> None:
    memory, (address,) = cells(1)
    assert ring.prepare(address, 1, 0, shared=False)
    memory[0] = 0
    ring.submit()
    assert completed(ring, 1) == {0: -errno.EAGAIN}


@needs_ring
def test_the_largest_user_data(ring: Ring) -> None:
    _memory, (address,) = cells(1)
    assert ring.prepare(address, 0, 2**64 - 1, shared=False)
    ring.submit()
    assert completed(ring, 1) == {2**64 - 1: -errno.EAGAIN}


# --- the queues ---


@needs_ring
def test_a_full_queue(ring: Ring, futex: Futex) -> None:
    _memory, addresses = cells(200)
    queued = 0
    while ring.prepare(addresses[queued], 1, queued, shared=False):
        queued += 1
    assert queued == _io_uring._SUBMISSIONS
    assert not ring.prepare(addresses[queued], 1, queued, shared=False)
    ring.submit()
    assert ring.prepare(addresses[queued], 1, queued, shared=False)
    ring.submit()
    for address in addresses:
        futex.wake_one(address)
    assert set(completed(ring, queued + 1)) == set(range(queued + 1))


@needs_ring
def test_what_is_taken_back_is_not_submitted(ring: Ring, futex: Futex) -> None:
    _memory, addresses = cells(4)
    assert ring.prepare(addresses[0], 1, 0, shared=False)
    mark = ring.mark()
    for i in (1, 2):
        assert ring.prepare(addresses[i], 1, i, shared=False)
    assert ring.take_back(mark)
    assert ring.take_back(mark)
    assert ring.prepare(addresses[3], 1, 3, shared=False)
    ring.submit()
    for address in addresses:
        futex.wake_one(address)
    assert completed(ring, 2) == {0: 0, 3: 0}
    assert list(ring.completions()) == []


@needs_ring
def test_what_is_submitted_is_not_taken_back(ring: Ring, futex: Futex) -> None:
    _memory, addresses = cells(3)
    mark = ring.mark()
    wait_on(ring, addresses[:2])
    assert not ring.take_back(mark)
    later = ring.mark()
    assert ring.prepare(addresses[2], 1, 2, shared=False)
    assert not ring.take_back(mark)  # nothing is forgotten: some of it was submitted
    assert ring.take_back(later)
    assert ring.prepare(addresses[2], 1, 2, shared=False)
    ring.submit()
    for address in addresses:
        futex.wake_one(address)
    assert completed(ring, 3) == {0: 0, 1: 0, 2: 0}


@needs_ring
def test_more_wakes_than_the_queue_has_room_for(ring: Ring, futex: Futex) -> None:
    number = 2 * _io_uring._COMPLETIONS + 100
    memory, (address,) = cells(1)
    wait_on(ring, [address] * number)
    memory[0] = 0
    futex.wake_all(address)
    taken = completed(ring, number)
    assert set(taken) == set(range(number))
    assert set(taken.values()) == {0}
    assert list(ring.completions()) == []


@needs_ring
def test_more_completions_than_the_queue_has_room_for(ring: Ring) -> None:
    """None is taken while they come: the kernel keeps what overflows."""
    number = 2 * _io_uring._COMPLETIONS + 100
    _memory, (address,) = cells(1)
    taken = []
    for user_data in range(number):
        while not ring.prepare(address, 0, user_data, shared=False):
            try:
                ring.submit()
            except BlockingIOError:  # which some kernels demand
                taken += list(ring.completions())
    ring.submit()
    assert ring.has_more() or taken
    taken += list(ring.completions())
    assert sorted(taken) == [(user_data, -errno.EAGAIN) for user_data in range(number)]
    assert not ring.has_more()


@needs_ring
def test_a_completion_counts_as_taken_when_the_next_is_asked_for(ring: Ring) -> None:
    _memory, addresses = cells(3)
    wait_on(ring, addresses, expected=0)
    first = next(ring.completions())
    assert next(ring.completions()) == first
    assert len(set(ring.completions())) == 3


@needs_ring
def test_a_kernel_that_wants_completions_taken_first(ring: Ring, monkeypatch: pytest.MonkeyPatch) -> None:
    _memory, (address,) = cells(1)
    with monkeypatch.context() as patch:
        patch.setattr(_io_uring, "raw", failing(errno.EBUSY))
        ring.prepare(address, 0, 0, shared=False)
        with pytest.raises(BlockingIOError, match="completions to be taken"):
            ring.submit()
    ring.submit()
    assert completed(ring, 1) == {0: -errno.EAGAIN}


@needs_ring
def test_a_failed_submission_stays_queued(ring: Ring, monkeypatch: pytest.MonkeyPatch) -> None:
    _memory, (address,) = cells(1)
    with monkeypatch.context() as patch:
        patch.setattr(_io_uring, "raw", failing(errno.ENOMEM))
        mark = ring.mark()
        ring.prepare(address, 0, 0, shared=False)
        with pytest.raises(OSError, match="io_uring_enter") as caught:
            ring.submit()
        assert caught.value.errno == errno.ENOMEM
    ring.submit()
    assert completed(ring, 1) == {0: -errno.EAGAIN}
    assert not ring.take_back(mark)


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
        assert list(ring.completions()) == [(i, 0)]
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
            ring.prepare(mine, 1, i, shared=False)
            ring.submit()
            memory[1] = 0
            futex.wake_one(theirs)
            taken: list[tuple[int, int]] = list(ring.completions())
            if not taken:

                def rung(taken: list[tuple[int, int]] = taken) -> bool:
                    if rings(eventfd):
                        taken += ring.completions()
                    return bool(taken)

                block_until(rung)
            assert [user_data for user_data, _ in taken] == [i]
            memory[0] = 1


# --- threads, forks, descriptors ---


@needs_ring
def test_it_belongs_to_one_thread(ring: Ring, futex: Futex) -> None:
    _memory, (first, second) = cells(2)
    wait_on(ring, [first])

    def foreign() -> None:
        mark = ring.mark()
        ring.prepare(second, 1, 1, shared=False)
        with pytest.raises(ForeignThreadError):
            ring.submit()
        assert ring.take_back(mark)
        assert list(ring.completions()) == []  # nothing to ask for
        futex.wake_one(first)
        block_until(ring.has_more)
        with pytest.raises(ForeignThreadError):
            list(ring.completions())

    with Crew() as crew:
        crew.start(foreign)
    assert completed(ring, 1) == {0: 0}


@needs_ring
def test_a_ring_whose_thread_has_ended(eventfd: int, futex: Futex) -> None:
    _memory, (address,) = cells(1)
    made: list[Ring] = []

    def make() -> None:
        ring = Ring(eventfd, full_fence)
        wait_on(ring, [address])
        made.append(ring)

    with Crew() as crew:
        crew.start(make)
    (ring,) = made
    ring.prepare(address, 1, 1, shared=False)
    with pytest.raises(ForeignThreadError):
        ring.submit()
    futex.wake_all(address)
    ring.close()


@needs_ring
@pytest.mark.parametrize("where", ["here", "another thread"])
def test_close(eventfd: int, futex: Futex, where: str) -> None:
    _memory, addresses = cells(3)
    before = held()
    ring = Ring(eventfd, full_fence)
    assert ring.fileno() >= 0
    assert not os.get_inheritable(ring.fileno())
    assert held() == (before[0] + 1, before[1] + 2)
    wait_on(ring, addresses)
    for address in addresses:
        futex.wake_all(address)
    if where == "here":
        ring.close()
    else:
        with Crew() as crew:
            crew.start(ring.close)
    assert ring.fileno() == -1
    ring.close()
    assert held() == before


@needs_ring
def test_rings_leave_nothing_behind(eventfd: int) -> None:
    before = held()
    for _ in range(100):
        Ring(eventfd, full_fence)  # collected
        refusal.__wrapped__()
    assert held() == before


@needs_ring
@pytest.mark.parametrize("call", ["io_uring_register", "first mmap", "second mmap"])
def test_one_that_could_not_be_made_leaves_nothing_behind(
    eventfd: int, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    true_call, true_map = _io_uring.system_call, _io_uring.map_ring
    maps = []

    def system_call(name: str, *arguments: int) -> int:
        if name.startswith(call):
            raise OSError(errno.EMFILE, name)
        return true_call(name, *arguments)

    def map_ring(*arguments: int) -> int:
        maps.append(arguments)
        if f"{'first' if len(maps) == 1 else 'second'} mmap" == call:
            raise OSError(errno.EMFILE, call)
        return true_map(*arguments)

    monkeypatch.setattr(_io_uring, "system_call", system_call)
    monkeypatch.setattr(_io_uring, "map_ring", map_ring)
    before = held()
    with pytest.raises(OSError, match=call):
        Ring(eventfd, full_fence)
    assert held() == before


@needs_ring
def test_a_child_of_a_fork_closes_it_without_touching_the_memory(ring: Ring, futex: Futex) -> None:
    _memory, (address,) = cells(1)
    wait_on(ring, [address])

    def child() -> None:
        # The ring's addresses are free here, and anybody's.
        private_anonymous_noreplace = 0x2 | 0x20 | 0x100000
        mapped = _io_uring_calls._mmap(ring._base, ring._size, 3, private_anonymous_noreplace, -1, 0)
        assert mapped == ring._base
        ctypes.memset(ring._base, 7, ring._size)
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        ring.close()
        assert len(os.listdir("/proc/self/fd")) == before - 1  # noqa: PTH208
        assert ctypes.string_at(ring._base, ring._size) == b"\7" * ring._size

    in_a_fork(child)
    assert list(ring.completions()) == []
    futex.wake_all(address)
    assert completed(ring, 1) == {0: 0}


@needs_ring
def test_a_child_of_a_fork_has_rings_of_its_own(ring: Ring, eventfd: int, futex: Futex) -> None:
    _memory, (address,) = cells(1)
    wait_on(ring, [address])

    def child() -> None:
        _io_uring_probe.settle_private_futexes()
        own = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        mine = Ring(own, full_fence)
        wait_on(mine, [address])
        futex.wake_all(address)
        assert completed(mine, 1) == {0: 0}
        assert rings(own) > 0
        mine.close()

    in_a_fork(child)
    assert list(ring.completions()) == []
    assert rings(eventfd) == 0
    futex.wake_all(address)
    assert completed(ring, 1) == {0: 0}


# --- the probe ---


def failing(error: int) -> Callable[..., int]:
    """Give a system call that fails."""

    def raw(*_: object) -> int:
        ctypes.set_errno(error)
        return -1

    return raw


@pytest.mark.parametrize(
    ("error", "texts"),
    [
        (errno.EPERM, ["Operation not permitted", "seccomp", "sysctl kernel.io_uring_disabled"]),
        (errno.ENOSYS, ["Function not implemented", "Linux 6.7", platform.release()]),
        (errno.EINVAL, ["Invalid argument", "Linux 6.7", platform.release()]),  # a flag that it does not know
        (errno.EACCES, ["io_uring_setup: Permission denied"]),
    ],
)
def test_a_kernel_that_gives_no_ring(monkeypatch: pytest.MonkeyPatch, error: int, texts: list[str]) -> None:
    monkeypatch.setattr(_io_uring_calls, "raw", failing(error))
    before = held()
    refused = refusal.__wrapped__()
    assert refused is not None
    assert refused.startswith("io_uring_setup: ")
    for text in texts:
        assert text in refused
    assert held() == before


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
@pytest.mark.parametrize("call", ["eventfd", "io_uring_setup"])
def test_a_shortage_says_nothing_about_the_kernel(monkeypatch: pytest.MonkeyPatch, error: int, call: str) -> None:
    def no_eventfd(*_: object) -> int:
        raise OSError(error, "eventfd")

    if call == "eventfd":
        monkeypatch.setattr(os, "eventfd", no_eventfd)
    else:
        monkeypatch.setattr(_io_uring_calls, "raw", failing(error))
    assert refusal.__wrapped__() is None


def test_a_kernel_without_eventfd(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_eventfd(*_: object) -> int:
        raise OSError(errno.ENOSYS, "eventfd: Function not implemented")

    monkeypatch.setattr(os, "eventfd", no_eventfd)
    assert "Linux 6.7" in str(refusal.__wrapped__())


@pytest.mark.parametrize("result", [-errno.EINVAL, 0])
def test_a_kernel_whose_rings_do_not_wait_on_futexes(monkeypatch: pytest.MonkeyPatch, result: int) -> None:
    closed = []

    class OldRing:
        def __init__(self, *_: object) -> None:
            self.queued = 0

        def prepare(self, *_: object, shared: bool) -> bool:
            self.queued += 1
            return True

        def submit(self) -> None:
            pass

        def completions(self) -> Iterator[tuple[int, int]]:
            return ((user_data, result) for user_data in range(self.queued))

        def close(self) -> None:
            closed.append(self)

    monkeypatch.setattr(_io_uring_probe, "Ring", OldRing)
    refused = refusal.__wrapped__()
    assert refused == (
        f"IORING_OP_FUTEX_WAIT gave [{result}, {result}] (it came with Linux 6.7, and this is {platform.release()})"
    )
    assert len(closed) == 1


def test_a_kernel_whose_rings_drop_completions(monkeypatch: pytest.MonkeyPatch) -> None:
    before = held()
    monkeypatch.setattr(_io_uring, "system_call", lambda *_: os.dup(0))  # no features
    assert "NODROP" in str(refusal.__wrapped__())
    assert held() == before


def test_another_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "sunos5")
    assert refusal.__wrapped__() == "io_uring is Linux' own, and this is sunos5"


def test_a_python_without_eventfd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delattr(os, "eventfd", raising=False)  # as in PyPy
    assert "no os.eventfd" in str(refusal.__wrapped__())


# --- private waits, and the first thread of a process ---

ORPHANS = """
import ctypes, os, sys, threading
from aiopark._fence import full_fence
from aiopark._os import Futex
from aiopark._os._io_uring import Ring
from aiopark._os._io_uring_calls import private_futex_slots
from aiopark._os._io_uring_probe import settle_private_futexes

settles, where = sys.argv[1:]
if where == "child":
    settle_private_futexes()
    if child := os.fork():
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
before = private_futex_slots()
if settles == "settles":
    settle_private_futexes()
    settle_private_futexes()
    assert threading.active_count() == 1
    assert private_futex_slots() != 0
ring = Ring(os.eventfd(0, os.EFD_NONBLOCK), full_fence)
memory = (ctypes.c_uint32 * 64)(*[1] * 64)
addresses = [ctypes.addressof(memory) + 4 * i for i in range(64)]
for i, address in enumerate(addresses):
    assert ring.prepare(address, 1, i, shared=False)
ring.submit()
thread = threading.Thread(target=int)
thread.start()
thread.join()
futex = Futex.create()
for address in addresses:
    futex.wake_all(address)
print(before, sum(result == 0 for _, result in ring.completions()), flush=True)
os._exit(0)
"""


def woken_after_a_thread(settles: str, where: str) -> tuple[int, int]:
    """Give the size of the process' futex table before, and how many of 64 private waits were woken."""
    run = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", ORPHANS, settles, where],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (run.returncode, run.stderr) == (0, "")
    before, woken = map(int, run.stdout.split())
    return before, woken


@needs_ring
@pytest.mark.parametrize("where", ["process", "child"])
def test_settled_private_waits_are_all_woken(where: str) -> None:
    assert woken_after_a_thread("settles", where)[1] == 64


@needs_ring
@pytest.mark.parametrize("where", ["process", "child"])
def test_private_waits_are_orphaned_by_the_first_thread_otherwise(where: str) -> None:
    """The pitfall itself, which is the kernel's."""
    before, woken = woken_after_a_thread("does not", where)
    if before != 0 or woken == 64:
        pytest.skip(f"this kernel, {platform.release()}, orphans no private wait")
    assert woken < 64


def test_nothing_is_settled_where_there_is_nothing_to_settle(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[object] = []
    monkeypatch.setattr(_io_uring_probe.threading, "Thread", started.append)
    for slots in (-1, 16):
        monkeypatch.setattr(_io_uring_probe, "private_futex_slots", lambda slots=slots: slots)
        _io_uring_probe.settle_private_futexes()
    assert not started
