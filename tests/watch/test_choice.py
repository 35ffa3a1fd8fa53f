"""Which watcher a process uses: the first that works, or the one that AIOPARK_WATCHER forces."""

from __future__ import annotations

import asyncio
import functools
import sys

import anyio
import pytest
from support import ASYNCIO, WATCHERS, in_thread, is_parked, run_program, until

import aiopark
import aiopark._watch
from aiopark import UnsupportedError
from aiopark._os import _io_uring_probe, default_backend
from aiopark._watch import RingWatch, ThreadWatch, refused_watchers, watch, watcher
from aiopark._word import cell_of

HERE = set(WATCHERS)
needs_ring = pytest.mark.skipif("uring" not in HERE, reason=f"no io_uring here: {refused_watchers().get('uring')}")


@pytest.fixture(autouse=True)
def choose_anew(monkeypatch):
    """Past the cache, which is for the whole process; and no choice of a test's stays in it."""
    monkeypatch.setattr(aiopark._watch, "_choice", functools.cache(aiopark._watch._choice.__wrapped__))


@pytest.fixture
def unforced(monkeypatch):
    monkeypatch.delenv("AIOPARK_WATCHER", raising=False)


@pytest.fixture
def refused(monkeypatch):
    monkeypatch.setattr(_io_uring_probe, "refusal", lambda: "the moon is full")


@pytest.fixture
def choice(monkeypatch):
    """Return a function that has this process use a watcher, as if it was forced."""
    return functools.partial(monkeypatch.setenv, "AIOPARK_WATCHER")


def test_the_order_in_which_they_are_tried(unforced):
    assert aiopark._watch.WATCHERS == ("uring", "threads")
    assert watcher() == next(name for name in aiopark._watch.WATCHERS if name in HERE)


def test_threads_where_a_ring_is_refused(unforced, refused):
    assert watcher() == "threads"


def test_it_is_chosen_once(monkeypatch, unforced):
    """Whether it was forced included: a variable that is set later, for a child process say, forces nothing."""
    chosen = watcher()
    monkeypatch.setenv("AIOPARK_WATCHER", chosen)
    assert watcher() == aiopark.statistics().watcher == chosen
    if chosen == "uring":
        assert not watch(cell_of(aiopark.Word()), int)._forced
    monkeypatch.setenv("AIOPARK_WATCHER", "nonsense")
    assert watcher() == aiopark.statistics().watcher == chosen
    aiopark.Parker(aiopark.Word()).close()


@needs_ring
def test_a_ring_that_was_forced_once_stays_so(monkeypatch, choice):
    choice("uring")
    watcher()
    monkeypatch.delenv("AIOPARK_WATCHER")
    assert watch(cell_of(aiopark.Word()), int)._forced


def test_an_empty_variable_forces_nothing(monkeypatch, unforced):
    unset = watcher()
    aiopark._watch._choice.cache_clear()
    monkeypatch.setenv("AIOPARK_WATCHER", "")
    assert watcher() == unset


@pytest.mark.parametrize("name", ["io_uring", "Threads", " uring"])
def test_an_unknown_watcher_lists_the_choices(monkeypatch, name):
    monkeypatch.setenv("AIOPARK_WATCHER", name)
    with pytest.raises(ValueError) as caught:
        watcher()
    assert str(caught.value) == f"AIOPARK_WATCHER is {name!r}; choose one of uring, threads"


def test_a_forced_watcher_that_does_not_work_says_why(choice, refused):
    choice("uring")
    with pytest.raises(UnsupportedError) as caught:
        aiopark.Parker(aiopark.Word())
    assert str(caught.value) == (
        "AIOPARK_WATCHER=uring does not work here: the moon is full; unset it, or use AIOPARK_WATCHER=threads"
    )


def test_a_parker_without_a_word_asks_for_no_watcher(monkeypatch):
    monkeypatch.setenv("AIOPARK_WATCHER", "nonsense")
    asyncio.run(aiopark.Parker().park_timeout(0))


def test_threads_can_always_be_forced(choice):
    choice("threads")
    assert isinstance(watch(cell_of(aiopark.Word()), int), ThreadWatch)


@needs_ring
def test_a_ring_can_be_forced(choice):
    choice("uring")
    watched = watch(cell_of(aiopark.Word()), int)
    assert isinstance(watched, RingWatch)
    assert watched._forced


@needs_ring
def test_a_ring_that_is_not_forced_is_not_forced(choice):
    choice("")
    watched = watch(cell_of(aiopark.Word()), int)
    assert isinstance(watched, RingWatch)
    assert not watched._forced


def test_refused_watchers_name_the_reason(monkeypatch):
    monkeypatch.setattr(_io_uring_probe, "refusal", lambda: "no ring")
    assert refused_watchers() == {"uring": "no ring"}
    monkeypatch.setattr(_io_uring_probe, "refusal", lambda: None)
    if default_backend().name == "futex":
        assert refused_watchers() == {}
    else:
        assert refused_watchers() == {
            "uring": f"a ring waits on futexes, and threads here wait with {default_backend().name}"
        }


# --- a loop that can watch no eventfd ---


@pytest.fixture
def deaf(monkeypatch):
    """Have asyncio's loop watch no descriptors."""
    if sys.platform == "win32":
        pytest.skip("the loops there watch no eventfd anyway")

    def refuse(self, fd, callback, *arguments):
        raise NotImplementedError

    monkeypatch.setattr(asyncio.SelectorEventLoop, "add_reader", refuse)


async def woken_in_time(parker):
    with in_thread(parker.word.unpark):
        with anyio.fail_after(20):
            await parker.park()


@needs_ring
def test_a_forced_ring_on_a_loop_without_an_eventfd(choice, deaf):
    choice("uring")
    word = aiopark.Word()
    with aiopark.Parker(word) as parker:
        with pytest.raises(UnsupportedError, match=r"cannot watch an eventfd.*AIOPARK_WATCHER"):
            ASYNCIO.run(parker.park)
        assert not is_parked(parker)
        assert aiopark.statistics().waiter_threads == 0
        word.unpark()  # who need not sleep needs no ring
        assert ASYNCIO.run(parker.park_timeout, 0) is True


@needs_ring
def test_a_ring_that_is_not_forced_gives_way_to_a_thread(choice, deaf):
    choice("")

    async def main():
        with aiopark.Parker(aiopark.Word()) as parker:
            for _ in range(3):
                await woken_in_time(parker)
            task = asyncio.ensure_future(parker.park())
            await until(lambda: is_parked(parker))
            statistics = aiopark.statistics()
            assert (statistics.watched_words, statistics.waiter_threads) == (1, 1)
            parker.word.unpark()
            await task
        assert aiopark.statistics().waiter_threads == 0

    ASYNCIO.run(main)


# --- whole processes ---


@pytest.fixture
def forced_by_nothing_else(monkeypatch):
    monkeypatch.delenv("AIOPARK_WATCHER", raising=False)
    monkeypatch.delenv("AIOPARK_BACKEND", raising=False)


@pytest.mark.usefixtures("forced_by_nothing_else")
@pytest.mark.parametrize("name", ["", "uring", "threads", "nonsense"])
def test_a_whole_process(name):
    ended = run_program("watched", AIOPARK_WATCHER=name)
    if name == "nonsense":
        assert "ValueError: AIOPARK_WATCHER is 'nonsense'; choose one of uring, threads" in ended.stderr
        assert ended.returncode == 1
    elif _io_uring_probe.refusal() is None and sys.platform == "linux" and name != "threads":
        assert (ended.stdout.strip(), ended.returncode) == ("uring 0", 0), ended.stderr
    elif name == "uring":
        assert "aiopark.UnsupportedError: AIOPARK_WATCHER=uring does not work here: " in ended.stderr
        assert ended.returncode == 1
    else:
        assert (ended.stdout.strip(), ended.returncode) == ("threads 1", 0), ended.stderr


@pytest.mark.usefixtures("forced_by_nothing_else")
def test_the_portable_backend_has_threads():
    ended = run_program("watched", AIOPARK_BACKEND="portable")
    assert (ended.stdout.strip(), ended.returncode) == ("threads 1", 0), ended.stderr


@pytest.mark.usefixtures("forced_by_nothing_else")
def test_the_portable_backend_refuses_a_ring():
    ended = run_program("watched", AIOPARK_BACKEND="portable", AIOPARK_WATCHER="uring")
    assert "AIOPARK_WATCHER=uring does not work here: " in ended.stderr
    assert ended.returncode == 1


@pytest.mark.usefixtures("forced_by_nothing_else")
def test_a_system_that_has_no_io_uring_at_all():
    """Nothing of it is needed, neither to import aiopark nor to park on a word."""
    ended = run_program("watched", "other system", AIOPARK_BACKEND="portable")
    assert (ended.stdout.strip(), ended.returncode) == ("threads 1", 0), ended.stderr
