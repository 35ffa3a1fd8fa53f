"""The lease of an address: one of those who try has it, it ends once, and the dead make room."""

from __future__ import annotations

import ctypes
import threading

import pytest
from support import in_thread, is_owned, switch_interval

from aiopark import ThreadParker, Word
from aiopark._cell import Lease, place_at
from aiopark._word import cell_of
from aiopark.lowlevel import default_backend


def lease_of(word, name="somebody", abandoned=lambda: False):
    return Lease(cell_of(word), lambda: name, abandoned)


def test_one_holder():
    word = Word()
    first, second = lease_of(word, "the first"), lease_of(word)
    first.take()
    with pytest.raises(RuntimeError, match=f"the word at {word.address:#x} is taken by the first: .* its own Word"):
        second.take()
    assert cell_of(word).current_lease() is first
    first.end()
    assert not is_owned(word)
    lease_of(word).take()
    assert is_owned(word)


def test_one_that_was_refused_ends_nobody_elses():
    word = Word()
    first, second = lease_of(word), lease_of(word)
    first.take()
    with pytest.raises(RuntimeError):
        second.take()
    second.end()
    assert cell_of(word).current_lease() is first


def test_one_that_ended_ends_nobody_elses():
    word = Word()
    first, second = lease_of(word), lease_of(word)
    first.take()
    first.end()
    second.take()
    first.end()
    assert cell_of(word).current_lease() is second


def test_the_abandoned_makes_room():
    word, dead = Word(), []
    lease_of(word, abandoned=lambda: bool(dead)).take()
    heir = lease_of(word)
    with pytest.raises(RuntimeError):
        heir.take()
    dead.append(True)
    assert not is_owned(word)
    heir = lease_of(word)
    heir.take()
    assert cell_of(word).current_lease() is heir


@pytest.mark.parametrize("kind", ["private", "attached"])
def test_all_words_at_one_address_have_one(kind):
    word = Word()
    other = Word.from_address(word.address, owner=word)
    held = lease_of(other if kind == "attached" else word)
    held.take()
    for each in (word, other):
        assert cell_of(each).current_lease() is held
        with pytest.raises(RuntimeError, match="is taken by somebody"):
            ThreadParker(each).park_timeout(0)


@pytest.mark.parametrize(("in_kernel", "wakes"), [(True, 1), (False, 0)])
def test_what_waits_in_the_kernel_is_taken_off_before_the_address_is_free(in_kernel, wakes):
    word, seen = Word(), []
    cell = cell_of(word)
    cell.in_kernel = in_kernel
    cell._wake_all = lambda: seen.append(is_owned(word))
    lease = lease_of(word)
    lease.take()
    lease.end()
    lease.end()
    assert seen == [True] * wakes


def test_an_end_that_was_interrupted_is_done_by_the_next():
    word = Word()
    cell = cell_of(word)
    cell.in_kernel = True
    interrupt = [True]

    def wake_all():
        if interrupt:
            interrupt.clear()
            raise KeyboardInterrupt

    cell._wake_all = wake_all
    lease = lease_of(word)
    lease.take()
    with pytest.raises(KeyboardInterrupt):
        lease.end()
    assert is_owned(word)
    lease.end()
    assert not is_owned(word)


@pytest.mark.parametrize("occupied", [False, True])
def test_of_many_that_take_it_one_wins(occupied):
    with switch_interval(1e-6):
        for _ in range(100):
            word = Word()
            if occupied:
                dead = []
                lease_of(word, abandoned=lambda dead=dead: bool(dead)).take()
                dead.append(True)
            start, won = threading.Barrier(4), []

            def attempt(word=word, start=start, won=won):
                mine = lease_of(word)
                start.wait()
                try:
                    mine.take()
                except RuntimeError:
                    return
                won.append(mine)

            with in_thread(attempt), in_thread(attempt), in_thread(attempt), in_thread(attempt):
                pass
            assert won == [cell_of(word).current_lease()]


def test_of_many_that_end_it_none_frees_the_next_ones():
    with switch_interval(1e-6):
        for _ in range(100):
            word, start, heirs = Word(), threading.Barrier(4), []
            old = lease_of(word)
            old.take()

            def end(old=old, start=start):
                start.wait()
                old.end()

            def take(word=word, start=start, heirs=heirs):
                start.wait()
                while True:
                    mine = lease_of(word)
                    try:
                        mine.take()
                    except RuntimeError:
                        continue
                    heirs.append(mine)
                    return

            with in_thread(end), in_thread(end), in_thread(end), in_thread(take):
                pass
            assert cell_of(word).current_lease() is heirs[0]


def test_a_place_lives_as_long_as_a_word_there():
    word = Word()
    memory = ctypes.c_uint32.from_address(word.address)
    place = place_at(word.address, memory, shared=False)
    assert cell_of(word).place is place
    with pytest.raises(ValueError, match="shared=False: all words at one address must say the same"):
        place_at(word.address, memory, shared=True)
    address = word.address
    del word, place, memory
    other = ctypes.c_uint32.from_address(address)
    assert place_at(address, other, shared=True).shared


@pytest.mark.skipif(not default_backend().supports_shared, reason="reaches no other process")
@pytest.mark.parametrize("shared", [False, True])
def test_a_word_that_is_closed_has_no_say_in_the_memory_that_comes_after(shared):
    """The same address, where the next mmap lies, say."""
    native = ctypes.c_uint32(1)
    closed = [Word.from_buffer(native, shared=shared) for _ in range(2)]
    closed[0].close()
    with pytest.raises(ValueError, match="must say the same"):
        Word.from_buffer(native, shared=not shared)
    closed[1].close()
    with Word.from_buffer(native, shared=not shared) as word:
        word.unpark()
        ThreadParker(word).park()
    assert [one.shared for one in closed] == [shared, shared]
