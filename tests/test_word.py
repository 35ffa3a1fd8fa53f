"""Word: the cell, its order of stores and fences, its life."""

import ctypes
import gc
import math
import platform
import sys
import weakref
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
from support import Crew, asleep, block_until, soon

import aiopark
from aiopark import ClosedError, ThreadParker, UnparkHandle, Word, _fence, _word
from aiopark._os import Backend, Futex


@pytest.fixture
def word(backend: Backend) -> Word:
    return Word()


def test_a_new_word_is_parked_private_and_aligned(word: Word, backend: Backend) -> None:
    assert word.load() == 1
    assert word.shared is False
    assert word.address % 4 == 0
    assert ctypes.c_uint32.from_address(word.address).value == 1
    assert word._backend is backend


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
        thread = crew.start(word._sleep, soon())
        block_until(lambda: asleep(word.address) == 1)
        word.store(0)
        assert asleep(word.address) == 1
        word.unpark()
        block_until(lambda: not thread.is_alive())


def test_unpark_deposits_the_permit_and_wakes(word: Word) -> None:
    with Crew() as crew:
        thread = crew.start(word._sleep, soon())
        block_until(lambda: asleep(word.address) == 1)
        word.unpark()
        block_until(lambda: not thread.is_alive())
    assert word.load() == 0
    word.unpark()
    assert word.load() == 0


def test_unpark_lock_deposits_now_and_wakes_later(word: Word) -> None:
    with Crew() as crew:
        thread = crew.start(word._sleep, soon())
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
        crew.start(word._sleep, soon())
        block_until(lambda: asleep(word.address) == 1)
        handle.unpark()
        assert asleep(word.address) == 1  # nor does it deposit again
        assert word.load() == 1
        word.unpark()


def test_a_handle_keeps_the_memory_of_a_word_that_is_gone(backend: Backend) -> None:
    word = Word()
    memory = weakref.ref(word._cell)
    handle = word.unpark_lock()
    del word
    gc.collect()
    assert memory() is not None
    handle.unpark()
    del handle
    gc.collect()
    assert memory() is None


def test_a_handle_keeps_the_memory_of_a_word_that_is_closed(word: Word) -> None:
    memory = weakref.ref(word._cell)
    handle = word.unpark_lock()
    word.close()
    gc.collect()
    assert memory() is not None
    handle.unpark()


def test_a_word_that_is_gone_leaves_no_memory(backend: Backend) -> None:
    word = Word()
    memory, itself = weakref.ref(word._cell), weakref.ref(word)
    word.unpark()
    assert ThreadParker(word).park_timeout(0)
    del word
    gc.collect()
    assert (memory(), itself()) == (None, None)


def test_a_sleeping_thread_keeps_the_memory(backend: Backend) -> None:
    word = Word()
    address, memory = word.address, weakref.ref(word._cell)
    with Crew() as crew:
        crew.start(word._sleep, soon())
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
        lambda: word._park(0.0),
        ThreadParker(word).park,
        lambda: ThreadParker(word).park_timeout(0),
        ThreadParker(word).prepare_park,
        ThreadParker(word).timed_out,
        ThreadParker(word).unpark,
    ):
        with pytest.raises(ClosedError, match="make a new one"):
            use()


def test_close_may_be_repeated(word: Word) -> None:
    memory = weakref.ref(word._cell)
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


# The order of stores, loads and fences: what the processor would not tell.


class Cell:
    """Stands in for the memory, and writes down what is done to it."""

    def __init__(self, events: list[str], value: int) -> None:
        self.events, self._value = events, value

    @property
    def value(self) -> int:
        self.events.append("load")
        return self._value

    @value.setter
    def value(self, value: int) -> None:
        self.events.append(f"store {value}")
        self._value = value


class Recorder:
    """A word over a Cell, with a fence and a wake that write themselves down."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, ordered: bool) -> None:
        self.events: list[str] = []
        monkeypatch.setattr(_word, "full_fence", lambda: self.events.append("fence"))
        monkeypatch.setattr(_word, "PLAIN_IS_ORDERED", ordered)
        self.word = Word()
        self.word._wake = lambda: self.events.append("wake")

    def of(self, value: int, call: Callable[[], object]) -> list[str]:
        self.events.clear()
        self.word._cell = Cell(self.events, value)  # type: ignore[assignment]
        call()
        return list(self.events)


@pytest.fixture
def ordered(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """A processor whose plain loads and stores are acquires and releases: x86."""
    return Recorder(monkeypatch, ordered=True)


@pytest.fixture
def weak(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Any other processor."""
    return Recorder(monkeypatch, ordered=False)


@pytest.fixture(params=["ordered", "weak"])
def processor(request: pytest.FixtureRequest) -> Recorder:
    return request.getfixturevalue(request.param)


def test_the_owner_fences_after_it_takes_the_permit(processor: Recorder) -> None:
    assert processor.of(0, lambda: processor.word._park(0.0)) == ["load", "store 1", "fence"]


def test_the_owner_stores_nothing_where_there_is_no_permit(processor: Recorder) -> None:
    assert "store 1" not in processor.of(1, lambda: processor.word._park(0.0))


def test_the_owner_fences_after_it_drops_a_permit(processor: Recorder) -> None:
    # "prepare_park, look at the data, park": until the 1 is visible, an unpark in between is overwritten unseen.
    events = processor.of(0, ThreadParker(processor.word).prepare_park)
    assert events[-2:] == ["store 1", "fence"]


def test_an_unparker_stores_and_then_wakes(ordered: Recorder) -> None:
    assert ordered.of(1, ordered.word.unpark) == ["store 0", "wake"]
    assert ordered.of(1, lambda: ordered.word.unpark_lock().unpark()) == ["store 0", "wake"]
    assert ordered.of(1, lambda: ordered.word.store(0)) == ["store 0"]
    assert ordered.of(1, ordered.word.load) == ["load"]


def test_elsewhere_every_release_and_acquire_is_a_fence(weak: Recorder) -> None:
    assert weak.of(1, weak.word.unpark) == ["fence", "store 0", "wake"]
    assert weak.of(1, lambda: weak.word.unpark_lock().unpark()) == ["fence", "store 0", "wake"]
    assert weak.of(1, lambda: weak.word.store(0)) == ["fence", "store 0"]
    assert weak.of(1, weak.word.load) == ["load", "fence"]


def test_only_x86_is_ordered() -> None:
    machine = platform.machine().lower()
    x86 = machine in {"x86", "x86_64", "amd64"} or (machine[0] == "i" and machine[2:] == "86")
    assert _fence.PLAIN_IS_ORDERED is x86


class Library:
    """Stands in for ctypes.PyDLL where only some symbols are found."""

    def __init__(self, *symbols: str) -> None:
        self.symbols = symbols
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def __call__(self, name: str | None) -> Any:
        if name is None and sys.platform == "win32":
            raise TypeError("argument of type 'NoneType' is not iterable")
        return self

    def __getitem__(self, symbol: str) -> Any:
        if symbol not in self.symbols:
            raise AttributeError(symbol)

        def function(*arguments: Any) -> None:
            assert len(function.argtypes) == len(arguments)
            self.calls.append((symbol, arguments))

        return function


@pytest.mark.parametrize(
    ("system", "symbol", "arguments"),
    [
        ("linux", "atomic_thread_fence", (5,)),
        ("freebsd14", "atomic_thread_fence", (5,)),
        ("darwin", "OSMemoryBarrier", ()),
        ("win32", "FlushProcessWriteBuffers", ()),
    ],
)
def test_the_fence_of_each_system(
    monkeypatch: pytest.MonkeyPatch, system: str, symbol: str, arguments: tuple[int, ...]
) -> None:
    library = Library(symbol)
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(ctypes, "PyDLL", library, raising=False)
    name, fence = _fence.choose()
    assert name == symbol
    fence()
    assert library.calls == [(symbol, arguments)]


def without_library(name: str | None, **keywords: Any) -> Any:
    if name is None:  # the process itself, where system calls are found
        return TRUE_PYDLL(name, **keywords)
    raise OSError(f"{name}: cannot open shared object file")


def without_symbol(name: str | None, **keywords: Any) -> Any:
    return TRUE_PYDLL(name, **keywords) if name is None else Library()


TRUE_PYDLL = getattr(ctypes, "PyDLL", ctypes.CDLL)  # PyPy has no PyDLL


@pytest.fixture(params=["futex", "lock"])
def last_resort(request: pytest.FixtureRequest) -> str:
    """Name what is left where no library has a fence, with a futex or without."""
    if request.param == "futex" and Futex.refusal() is not None:
        pytest.skip(str(Futex.refusal()))
    return str(request.param)


@pytest.fixture(params=[without_library, without_symbol])
def without_fence(request: pytest.FixtureRequest, last_resort: str, backend: Backend) -> Callable[[], object]:
    """Give the fence that is left there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ctypes, "PyDLL", request.param, raising=False)
        if last_resort == "lock":
            patch.setattr(sys, "platform", "freebsd14")
        name, fence = _fence.choose()
    assert name == last_resort
    return fence


def test_the_last_resort_is_callable_and_wakes_nobody(without_fence: Callable[[], object], word: Word) -> None:
    with Crew() as crew:
        crew.start(word._sleep, soon())
        block_until(lambda: asleep(word.address) == 1)
        for _ in range(3):
            without_fence()
        assert asleep(word.address) == 1
        word.unpark()


@pytest.mark.parametrize("plain_is_ordered", [True, False])
def test_park_and_unpark_over_that_fence(
    without_fence: Callable[[], object], backend: Backend, monkeypatch: pytest.MonkeyPatch, plain_is_ordered: bool
) -> None:
    monkeypatch.setattr(_word, "full_fence", without_fence)
    monkeypatch.setattr(_word, "PLAIN_IS_ORDERED", plain_is_ordered)
    ping, pong = ThreadParker(), ThreadParker()

    def play(mine: ThreadParker, theirs: ThreadParker) -> None:
        for _ in range(200):
            assert mine.park_until(deadline), "an unpark was lost"
            theirs.unpark()

    deadline = soon()
    with Crew() as crew:
        crew.start(play, ping, pong)
        crew.start(play, pong, ping)
        ping.unpark()


def test_this_system_has_a_fence_that_works() -> None:
    name, fence = _fence.choose()
    assert name in {"atomic_thread_fence", "OSMemoryBarrier", "FlushProcessWriteBuffers", "futex", "lock"}
    assert fence() is None
