"""Ring: whose it is, and what is left of it: threads, forks, descriptors, memory."""

import ctypes
import errno
import os
import sys

import pytest
from support import Crew, block_until, in_a_fork

from aiopark._cell import full_fence
from aiopark._os import Futex

if not sys.platform.startswith("linux"):
    pytest.skip("io_uring is Linux' own", allow_module_level=True)

from support.rings import cells, completed, held, needs_ring, rings, wait_on

from aiopark._os import _io_uring_calls, _io_uring_memory
from aiopark._os._io_uring import ForeignThreadError, Ring
from aiopark._os._io_uring_probe import refusal


@needs_ring
def test_it_belongs_to_one_thread(ring: Ring, futex: Futex) -> None:
    _memory, (first, second) = cells(2)
    wait_on(ring, [first])

    def foreign() -> None:
        assert ring.completions() == []  # nothing to ask for
        ring.prepare(second, 1, 1)
        for get_events in (False, True):
            with pytest.raises(ForeignThreadError):
                ring.submit(get_events=get_events)
        futex.wake_one(first)
        block_until(ring.has_more)
        with pytest.raises(ForeignThreadError):
            ring.completions()

    with Crew() as crew:
        crew.start(foreign)
    assert completed(ring, 1) == {0: 0}
    ring.submit()  # still queued
    futex.wake_one(second)
    assert completed(ring, 1) == {1: 0}


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
    ring.prepare(address, 1, 1)
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
    true_call, true_map = _io_uring_memory.system_call, _io_uring_memory.map_ring
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

    monkeypatch.setattr(_io_uring_memory, "system_call", system_call)
    monkeypatch.setattr(_io_uring_memory, "map_ring", map_ring)
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
        address, size = ring._memory.maps[0]
        assert _io_uring_calls._mmap(address, size, 3, private_anonymous_noreplace, -1, 0) == address
        ctypes.memset(address, 7, size)
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        ring.close()
        assert len(os.listdir("/proc/self/fd")) == before - 1  # noqa: PTH208
        assert ctypes.string_at(address, size) == b"\7" * size

    in_a_fork(child)
    assert ring.completions() == []
    futex.wake_all(address)
    assert completed(ring, 1) == {0: 0}


@needs_ring
def test_a_child_of_a_fork_has_rings_of_its_own(ring: Ring, eventfd: int, futex: Futex) -> None:
    _memory, (address,) = cells(1)
    wait_on(ring, [address])

    def child() -> None:
        own = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        mine = Ring(own, full_fence)
        wait_on(mine, [address])
        futex.wake_all(address)
        assert completed(mine, 1) == {0: 0}
        assert rings(own) > 0
        mine.close()

    in_a_fork(child)
    assert ring.completions() == []
    assert rings(eventfd) == 0
    futex.wake_all(address)
    assert completed(ring, 1) == {0: 0}
