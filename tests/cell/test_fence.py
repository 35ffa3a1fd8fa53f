"""The order of stores, loads and fences: what the processor would not tell."""

import ctypes
import platform
import sys
from collections.abc import Callable
from typing import Any

import pytest
from support import Crew, asleep, block_until, soon

from aiopark import Parker, ThreadParker, Word, lowlevel
from aiopark._cell import Cell, _cell, _fence
from aiopark._os import Backend, Futex
from aiopark._word import cell_of


@pytest.fixture
def word(backend: Backend) -> Word:
    return Word()


class Memory:
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
    """A word over such a memory, with a fence and a wake that write themselves down."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, ordered: bool) -> None:
        self.events: list[str] = []
        monkeypatch.setattr(_cell, "full_fence", lambda: self.events.append("fence"))
        monkeypatch.setattr(_cell, "PLAIN_IS_ORDERED", ordered)
        self.word = Word()
        self.cell: Cell = cell_of(self.word)
        self.cell._wake_all = lambda: self.events.append("wake")  # type: ignore[misc,assignment]

    def of(self, value: int, call: Callable[[], object]) -> list[str]:
        self.events.clear()
        self.cell.memory = Memory(self.events, value)  # type: ignore[assignment]
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


def park(word: Word) -> None:
    ThreadParker(word).park_timeout(0)


def test_the_owner_fences_after_it_takes_the_permit(processor: Recorder) -> None:
    events = processor.of(0, lambda: park(processor.word))
    assert events[-2:] == ["store 1", "fence"]
    assert events[0] == "load"
    assert processor.of(0, processor.cell.take) == ["load", "store 1", "fence"]


def test_the_owner_stores_nothing_where_there_is_no_permit(processor: Recorder) -> None:
    assert "store 1" not in processor.of(1, lambda: park(processor.word))
    assert "store 1" not in processor.of(2, lambda: park(processor.word))
    assert "store 1" not in processor.of(1, processor.cell.take)


def test_an_interrupted_fence_leaves_the_permit(processor: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(_cell, "full_fence", interrupted)
    with pytest.raises(KeyboardInterrupt):
        processor.of(0, processor.cell.take)
    assert processor.events == ["load", "store 1", "store 0"]


def test_the_owner_fences_after_it_drops_a_permit(processor: Recorder) -> None:
    # "prepare_park, look at the data, park": until the 1 is visible, an unpark in between is overwritten unseen.
    for parker in (ThreadParker(processor.word), Parker(processor.word)):
        events = processor.of(0, parker.prepare_park)
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
        crew.start(ThreadParker(word).park_until, soon())
        block_until(lambda: asleep(word.address) == 1)
        for _ in range(3):
            without_fence()
        assert asleep(word.address) == 1
        word.unpark()


@pytest.mark.parametrize("plain_is_ordered", [True, False])
def test_park_and_unpark_over_that_fence(
    without_fence: Callable[[], object], backend: Backend, monkeypatch: pytest.MonkeyPatch, plain_is_ordered: bool
) -> None:
    monkeypatch.setattr(_cell, "full_fence", without_fence)
    monkeypatch.setattr(_cell, "PLAIN_IS_ORDERED", plain_is_ordered)
    ping, pong = ThreadParker(Word()), ThreadParker(Word())

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


def test_the_fence_is_public() -> None:
    """For protocols of one's own on a word."""
    assert lowlevel.fence is _fence.fence
    assert "fence" in lowlevel.__all__
    assert lowlevel.fence() is None  # type: ignore[func-returns-value]
