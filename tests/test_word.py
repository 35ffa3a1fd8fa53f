"""Word: its value, its unpark, its life."""

import ctypes
import gc
import math
import weakref
from fractions import Fraction
from typing import Any

import pytest
from support import Crew, asleep, block_until, soon

import aiopark
from aiopark import ClosedError, ThreadParker, UnparkHandle, Word
from aiopark._os import Backend
from aiopark._word import cell_of


@pytest.fixture
def word(backend: Backend) -> Word:
    return Word()


def sleep(word: Word) -> None:
    """Park without taking anything."""
    assert word.blocking_wait_while(1, deadline=soon())


def test_a_new_word_is_parked_private_and_aligned(word: Word, backend: Backend) -> None:
    assert word.load() == 1
    assert word.shared is False
    assert word.address % 4 == 0
    assert ctypes.c_uint32.from_address(word.address).value == 1
    assert cell_of(word)._backend is backend


@pytest.mark.parametrize("value", [0, 1, 2, 2**31, 2**32 - 1, True, False])
def test_what_is_stored_is_loaded(word: Word, value: int) -> None:
    word.store(value)
    assert word.load() == value
    assert ctypes.c_uint32.from_address(word.address).value == value


@pytest.mark.parametrize("value", [-1, 2**32, 2**64, -(2**31)])
def test_what_does_not_fit_is_not_stored(word: Word, value: int) -> None:
    with pytest.raises(ValueError, match=rf"32 bits .* {value} does not fit"):
        word.store(value)
    assert word.load() == 1


@pytest.mark.parametrize("value", [None, "0", 0.0, b"0", Fraction(0), math.inf, [0]])
def test_what_is_no_integer_is_not_stored(word: Word, value: Any) -> None:
    with pytest.raises(TypeError, match=f"not {type(value).__name__}"):
        word.store(value)
    assert word.load() == 1


def test_a_store_wakes_nobody(word: Word) -> None:
    with Crew() as crew:
        thread = crew.start(sleep, word)
        block_until(lambda: asleep(word.address) == 1)
        word.store(0)
        assert asleep(word.address) == 1
        word.unpark()
        block_until(lambda: not thread.is_alive())


def test_unpark_deposits_the_permit_and_wakes(word: Word) -> None:
    with Crew() as crew:
        thread = crew.start(sleep, word)
        block_until(lambda: asleep(word.address) == 1)
        word.unpark()
        block_until(lambda: not thread.is_alive())
    assert word.load() == 0
    word.unpark()
    assert word.load() == 0


def test_unpark_lock_deposits_now_and_wakes_later(word: Word) -> None:
    with Crew() as crew:
        thread = crew.start(sleep, word)
        block_until(lambda: asleep(word.address) == 1)
        handle = word.unpark_lock()
        assert isinstance(handle, UnparkHandle)
        assert word.load() == 0
        assert asleep(word.address) == 1
        handle.unpark()
        block_until(lambda: not thread.is_alive())


def test_a_handle_wakes_once(word: Word) -> None:
    handle = word.unpark_lock()
    handle.unpark()
    word.store(1)
    with Crew() as crew:
        crew.start(sleep, word)
        block_until(lambda: asleep(word.address) == 1)
        handle.unpark()
        assert asleep(word.address) == 1  # nor does it deposit again
        assert word.load() == 1
        word.unpark()


def test_a_handle_keeps_the_memory_of_a_word_that_is_gone(backend: Backend) -> None:
    word = Word()
    memory = weakref.ref(cell_of(word).memory)
    handle = word.unpark_lock()
    del word
    gc.collect()
    assert memory() is not None
    handle.unpark()
    del handle
    gc.collect()
    assert memory() is None


def test_a_handle_keeps_the_memory_of_a_word_that_is_closed(word: Word) -> None:
    memory = weakref.ref(cell_of(word).memory)
    handle = word.unpark_lock()
    word.close()
    gc.collect()
    assert memory() is not None
    handle.unpark()


def test_a_word_that_is_gone_leaves_no_memory(backend: Backend) -> None:
    word = Word()
    memory, itself = weakref.ref(cell_of(word).memory), weakref.ref(word)
    word.unpark()
    assert ThreadParker(word).park_timeout(0)
    del word
    gc.collect()
    assert (memory(), itself()) == (None, None)


def test_a_sleeping_thread_keeps_the_memory(backend: Backend) -> None:
    word = Word()
    address, memory = word.address, weakref.ref(cell_of(word).memory)
    with Crew() as crew:
        crew.start(sleep, word)
        block_until(lambda: asleep(address) == 1)
        wake = word.unpark_lock()
        del word
        gc.collect()
        assert memory() is not None
        wake.unpark()


def test_a_closed_word_says_so(word: Word) -> None:
    word.close()
    for use in (
        word.load,
        lambda: word.store(0),
        word.unpark,
        word.unpark_lock,
        ThreadParker(word).park,
        lambda: ThreadParker(word).park_timeout(0),
        ThreadParker(word).prepare_park,
        ThreadParker(word).timed_out,
        ThreadParker(word).unpark,
        word.wake,
        lambda: word.blocking_wait_while(1),
        lambda: aiopark.Parker(word),
    ):
        with pytest.raises(ClosedError, match="make a new one"):
            use()


def test_close_may_be_repeated(word: Word) -> None:
    memory = weakref.ref(cell_of(word).memory)
    word.close()
    word.close()
    gc.collect()
    assert memory() is None


def test_close_lets_go_of_the_permit_too(word: Word) -> None:
    word.unpark()
    word.close()
    with pytest.raises(ClosedError):
        ThreadParker(word).park_timeout(0)


def test_close_is_refused_while_somebody_is_parked(word: Word) -> None:
    with Crew() as crew:
        thread = crew.start(ThreadParker(word).park_until, soon())
        block_until(lambda: asleep(word.address) == 1)
        with pytest.raises(RuntimeError, match="still parks") as caught:
            word.close()
        assert type(caught.value) is RuntimeError
        assert asleep(word.address) == 1  # unharmed
        word.unpark()
        block_until(lambda: not thread.is_alive())
    word.close()


def test_unparks_while_the_word_is_closed(backend: Backend) -> None:
    words = [Word() for _ in range(50)]
    progress = [0]

    def unpark() -> None:
        for number, word in enumerate(words):
            progress[0] = number
            try:
                while True:
                    word.unpark()
                    word.unpark_lock().unpark()
            except ClosedError:
                pass

    def close() -> None:
        for number, word in enumerate(words):
            block_until(lambda: progress[0] >= number)  # noqa: B023  # called at once
            word.close()

    with Crew() as crew:
        crew.start(unpark)
        crew.start(close)
    assert progress[0] == len(words) - 1


def test_the_repr_tells_the_state(word: Word) -> None:
    where = f"at {word.address:#x}>"
    assert repr(word) == f"<aiopark.Word parked {where}"
    word.unpark()
    assert repr(word) == f"<aiopark.Word unparked {where}"
    word.store(7)
    assert repr(word) == f"<aiopark.Word 7 {where}"
    word.close()
    assert repr(word) == f"<aiopark.Word closed {where}"


def test_native_code_unparks_by_the_address_alone(word: Word, backend: Backend) -> None:
    with Crew() as crew:
        crew.start(ThreadParker(word).park)
        block_until(lambda: asleep(word.address) == 1)
        ctypes.c_uint32.from_address(word.address).value = 0
        backend.wake_one(word.address)


def test_only_what_is_public_is_public() -> None:
    assert aiopark.Word is Word
    with pytest.raises(AttributeError):
        Word().something = 1  # type: ignore[attr-defined]
