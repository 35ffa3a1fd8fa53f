"""Words in memory that is somebody else's: other buffers, native code's, other processes'."""

from __future__ import annotations

import array
import ctypes
import mmap
import sys
import threading
from multiprocessing.shared_memory import SharedMemory

import pytest
from support import block_until, in_thread, is_owned

import aiopark
from aiopark import ThreadParker, Word
from aiopark._cell import _cell
from aiopark._word import cell_of
from aiopark.lowlevel import Portable, default_backend

shares = pytest.mark.skipif(not default_backend().supports_shared, reason="this backend reaches no other process")

BUFFERS = {
    "bytearray": lambda: bytearray(64),
    "memoryview": lambda: memoryview(bytearray(64)),
    "array": lambda: array.array("d", bytes(64)),
    "ctypes": ctypes.c_uint32 * 16,
    "mmap": lambda: mmap.mmap(-1, 64),
    "two dimensions": lambda: memoryview(bytearray(64)).cast("B", (8, 8)),
}


@pytest.mark.parametrize("kind", BUFFERS)
def test_any_writable_buffer(kind):
    buffer = BUFFERS[kind]()
    word = Word.from_buffer(buffer, 8, shared=False)
    assert word.load() == 0  # attaching changes nothing, and zero-filled memory reads "permit"
    parker = ThreadParker(word)
    parker.prepare_park()
    assert bytes(memoryview(buffer).cast("B") if memoryview(buffer).ndim == 1 else memoryview(buffer).tobytes())[
        8:12
    ] == (1).to_bytes(4, sys.byteorder)
    assert parker.park_timeout(0) is False
    with in_thread(lambda: (block_until(lambda: is_owned(word)), word.unpark())):
        parker.park()
    word.close()


def test_shared_memory_can_be_closed_after_the_word():
    memory = SharedMemory(create=True, size=64)
    try:
        word = Word.from_buffer(memory.buf, 4, shared=False)
        handle = word.unpark_lock()
        with pytest.raises(BufferError):
            memory.close()
        handle.unpark()
        word.close()
        with pytest.raises(aiopark.ClosedError):
            word.unpark()
        memory.close()
    finally:
        memory.unlink()


@pytest.mark.parametrize(
    ("buffer", "offset", "error", "match"),
    [
        (b"12345678", 0, TypeError, "bytes is read-only"),
        (memoryview(bytearray(8)).toreadonly(), 0, TypeError, "read-only"),
        ("text", 0, TypeError, "buffer of writable memory, not str"),
        (None, 0, TypeError, "not NoneType"),
        (bytearray(8), 0.0, TypeError, "float"),
        (bytearray(8), 5, ValueError, "needs 4 bytes.*offset 5"),
        (bytearray(8), -4, ValueError, "offset -4"),
        (bytearray(8), 8, ValueError, "buffer of 8 .* offset 8"),
        (bytearray(0), 0, ValueError, "buffer of 0"),
        (memoryview(bytearray(32))[::2], 0, ValueError, "gaps"),
    ],
)
def test_bad_buffers(buffer, offset, error, match):
    with pytest.raises(error, match=match):
        Word.from_buffer(buffer, offset, shared=False)


@pytest.mark.parametrize("shift", [1, 2, 3])
def test_a_misaligned_word_is_told_where_to_go(shift):
    cells = (ctypes.c_uint32 * 4)()
    with pytest.raises(ValueError, match=f"multiple of 4, and offset {shift} .*use offset 4"):
        Word.from_buffer(cells, shift, shared=False)
    assert Word.from_buffer(cells, 4, shared=False).address == ctypes.addressof(cells) + 4


@pytest.mark.parametrize(
    ("address", "error", "match"),
    [
        (0, ValueError, "not 0"),
        (-4, ValueError, "not -4"),
        (0x1001, ValueError, "multiple of 4"),
        (2**64, ValueError, "0x10000000000000000 is more than a pointer holds"),
        (2**200, ValueError, "more than a pointer holds"),
        (-(2**64), ValueError, "exist, not -"),
        ("x", TypeError, "str"),
    ],
)
def test_bad_addresses(address, error, match):
    with pytest.raises(error, match=match):
        Word.from_address(address)


def test_an_address_and_what_keeps_it_alive():
    class Owner:
        pass

    native, owner = ctypes.c_uint32(1), Owner()
    word = Word.from_address(ctypes.addressof(native), owner=owner)
    assert (word.load(), word.address, word.shared) == (1, ctypes.addressof(native), False)
    references = sys.getrefcount(owner)
    word.store(0)
    assert native.value == 0
    word.close()
    assert sys.getrefcount(owner) == references - 1


def test_two_words_at_one_address_have_one_owner():
    native = ctypes.c_uint32(1)
    first, second = (Word.from_address(ctypes.addressof(native), owner=native) for _ in range(2))
    with in_thread(ThreadParker(first).park):
        block_until(lambda: is_owned(first))
        with pytest.raises(RuntimeError, match=r"is taken by aiopark\.ThreadParker .* close that one first"):
            ThreadParker(second).park()
        with pytest.raises(RuntimeError, match="still parks"):
            first.close()
        second.unpark()


def test_a_second_word_closes_while_somebody_parks_through_the_first():
    """Each holds the memory for itself: an unparker comes and goes."""
    native = ctypes.c_uint32(1)
    first, second = (Word.from_address(ctypes.addressof(native), owner=native) for _ in range(2))
    with in_thread(ThreadParker(first).park):
        block_until(lambda: is_owned(first))
        second.close()
        assert cell_of(second).closed
        first.unpark()


def test_a_private_word_and_one_attached_to_its_address_have_one_owner():
    word = Word()
    attached = Word.from_address(word.address, owner=word)
    with in_thread(ThreadParker(attached).park):
        block_until(lambda: is_owned(attached))
        with pytest.raises(RuntimeError, match=r"is taken by aiopark\.ThreadParker .* close that one first"):
            ThreadParker(word).park()
        with pytest.raises(RuntimeError, match="still parks"):
            word.close()
        word.unpark()


def test_threads_that_close_at_once():
    native = ctypes.c_uint32(1)
    for _ in range(100):
        words = [Word.from_address(ctypes.addressof(native)) for _ in range(2)]
        with in_thread(words[0].close), in_thread(words[0].close), in_thread(words[1].close):
            pass
        assert all("closed" in repr(word) for word in words)


def test_a_finalizer_that_runs_in_close_may_use_words():
    native, seen = ctypes.c_uint32(1), []

    class Owner:
        def __del__(self):
            second.close()
            seen.append(repr(second))

    first = Word.from_address(ctypes.addressof(native), owner=Owner())
    second = Word.from_address(ctypes.addressof(native))
    first.close()
    assert ["closed" in text for text in seen] == [True]


def test_of_many_threads_that_attach_all_get_one_place():
    native = ctypes.c_uint32(1)
    for _ in range(50):
        words, barrier = [], threading.Barrier(4)

        def attach(words=words, barrier=barrier):
            barrier.wait()
            words.append(Word.from_address(ctypes.addressof(native)))

        threads = [threading.Thread(target=attach) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({id(cell_of(word).place) for word in words}) == 1


@pytest.mark.parametrize("make", [lambda: Word.from_buffer(bytearray(8)), lambda: Word.from_address(64, shared=True)])
def test_what_reaches_no_other_process_says_so_at_once(make, monkeypatch):
    monkeypatch.setattr(_cell, "default_backend", Portable)
    with pytest.raises(aiopark.UnsupportedError, match="shared=False"):
        make()
