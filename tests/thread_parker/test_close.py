"""ThreadParker: close and `with`, on a word and without."""

from __future__ import annotations

import _thread
import gc
import sys
import time

import pytest
from support import Crew, block_until, in_thread, interruption, is_owned, is_parked, soon, storm

from aiopark import ClosedError, Parker, ThreadParker, Word

CLOSED = "closed: make a new one to park again"


@pytest.fixture(params=["word", "no word"])
def parker(request, backend):
    return ThreadParker(Word() if request.param == "word" else None)


def park_and_note(parker, outcomes, how="park", *arguments):
    try:
        outcomes.append(getattr(parker, how)(*arguments))
    except ClosedError as error:
        outcomes.append(str(error))


@pytest.mark.parametrize("how", ["park", "park_until", "park_timeout"])
def test_a_pending_park_ends(parker, how):
    outcomes = []
    arguments = {"park": (), "park_until": (soon(),), "park_timeout": (20,)}[how]
    with in_thread(park_and_note, parker, outcomes, how, *arguments):
        block_until(lambda: is_parked(parker))
        parker.close()
    assert len(outcomes) == 1
    assert outcomes[0].endswith(CLOSED)
    assert not is_parked(parker)


def test_at_any_moment(parker):
    for _ in range(200):
        one, outcomes = ThreadParker(parker.word), []
        with in_thread(park_and_note, one, outcomes):
            one.close()
        assert len(outcomes) == 1
        assert outcomes[0].endswith(CLOSED)


def test_a_park_after_it_is_refused(parker):
    parker.close()
    for park in (parker.park, lambda: parker.park_timeout(0), lambda: parker.park_until(soon())):
        with pytest.raises(ClosedError, match=CLOSED):
            park()


def test_the_permit_comes_first(parker):
    parker.unpark()
    parker.close()
    assert parker.timed_out() is False
    assert parker.park_timeout(0) is True
    assert parker.timed_out() is True
    with pytest.raises(ClosedError):
        parker.park_timeout(0)


def test_an_unpark_and_a_close_at_once_are_a_permit(parker):
    for _ in range(100):
        one, outcomes = ThreadParker(parker.word), []
        with in_thread(park_and_note, one, outcomes):
            block_until(lambda: is_parked(one))  # noqa: B023  # called at once
            one.unpark()
            one.close()
        assert outcomes == [None]
        assert one.timed_out()


def test_an_unpark_after_it_is_a_permit(parker):
    parker.close()
    parker.unpark()
    assert parker.park_timeout(0) is True
    parker.unpark_lock().unpark()
    assert parker.park_timeout(0) is True


def test_twice(parker):
    parker.close()
    parker.close()
    with in_thread(parker.close), in_thread(parker.close):
        pass
    with pytest.raises(ClosedError):
        parker.park()


def test_many_threads_close_it_while_one_parks(parker):
    for _ in range(30):
        one, outcomes = ThreadParker(parker.word), []
        with Crew() as crew:
            crew.start(park_and_note, one, outcomes)
            for _ in range(3):
                crew.start(one.close)
        assert len(outcomes) == 1


def test_the_context_manager(parker):
    with parker as entered:
        assert entered is parker
        parker.unpark()
        parker.park()
    assert "closed" in repr(parker)
    with pytest.raises(ClosedError):
        parker.park()
    with pytest.raises(ZeroDivisionError), ThreadParker(parker.word) as another:
        raise ZeroDivisionError
    with pytest.raises(ClosedError):
        another.park()


def test_the_word_stays_open_and_is_free(backend):
    word = Word()
    parker, outcomes = ThreadParker(word), []
    with in_thread(park_and_note, parker, outcomes):
        block_until(lambda: is_parked(parker))
        parker.close()
        assert not is_owned(word)  # close has returned, so the thread has let go of it
    assert word.load() == 1
    with in_thread(ThreadParker(word).park):
        block_until(lambda: is_owned(word))
        word.unpark()
    with Parker(word):
        pass
    word.close()


def test_a_closed_one_takes_no_permit_of_the_words_next_owner(backend):
    word = Word()
    parker = ThreadParker(word)
    parker.close()
    with Parker(word):
        word.unpark()
        with pytest.raises(RuntimeError):  # a ClosedError, or that it is taken
            parker.park_timeout(0)
        assert word.load() == 0


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_by_a_signal_handler_that_interrupts_the_very_park(parker):
    with interruption(parker.close, lambda: is_parked(parker)), pytest.raises(ClosedError):
        parker.park_until(soon())
    assert not is_parked(parker)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_by_a_storm_of_signal_handlers(parker):
    """They come at any line of the park, the one between its look and its sleep included."""
    current, before = [parker], _thread._count()
    with storm(lambda: current[0].close()):  # noqa: PLW0108  # the current one
        for _ in range(100):
            current[0] = one = ThreadParker(parker.word)
            with pytest.raises(ClosedError):
                one.park_until(soon())
    block_until(lambda: _thread._count() <= before)  # what a handler started, to wake it, has ended


def test_by_a_finalizer_of_another_thread(parker):
    class Closes:
        def __del__(self):
            parker.close()

    outcomes = []
    with in_thread(park_and_note, parker, outcomes):
        block_until(lambda: is_parked(parker))
        cycle = Closes()
        cycle.itself = cycle
        del cycle
        gc.collect()
    assert len(outcomes) == 1


def test_by_a_finalizer_on_the_parked_thread_itself(backend):
    """A wait that the finalizer interrupts, so to speak: it runs inside of the park's own calls."""
    parkers = [ThreadParker(Word()), ThreadParker()]

    class Closes:
        def __init__(self, parker):
            self.parker = parker

        def __del__(self):
            self.parker.close()

    for parker in parkers:
        closes, closed = [Closes(parker)], []
        claim = parker._cell.setdefault
        del claim

        def profile(frame, event, _, closes=closes, closed=closed):
            if frame.f_code.co_name in {"_sleep_until", "_sleep_until_permit"} and event == "call":
                closed.append(True)
                closes.clear()

        sys.setprofile(profile)
        try:
            with pytest.raises(ClosedError):
                parker.park_until(soon())
        finally:
            sys.setprofile(None)
        assert closed


def test_it_returns_at_once_with_nobody_parked(parker):
    start = time.monotonic()
    parker.close()
    assert time.monotonic() - start < 20


def test_prepare_park_and_timed_out_after_it(parker):
    parker.close()
    parker.prepare_park()
    assert parker.timed_out() is True
    with pytest.raises(ClosedError):
        parker.park_timeout(0)
