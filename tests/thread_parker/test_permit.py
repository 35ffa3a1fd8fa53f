"""ThreadParker: the permit, and its one owner."""

import threading
from typing import TYPE_CHECKING, Any

import pytest
from support import Crew, block_until, is_asleep, soon

from aiopark import ThreadParker, Word
from aiopark._os import Backend
from aiopark._word import cell_of

if TYPE_CHECKING:
    from collections.abc import Callable


def test_a_new_parker_has_no_permit(parker: ThreadParker, backend: Backend) -> None:
    assert cell_of(parker.word)._backend is backend
    assert parker.timed_out()
    assert parker.park_timeout(0) is False


def test_it_parks_on_the_word_that_it_is_given(backend: Backend) -> None:
    word = Word()
    parker = ThreadParker(word)
    assert parker.word is word
    with Crew() as crew:
        crew.start(parker.park)
        block_until(lambda: is_asleep(parker))
        word.unpark()
    assert ThreadParker(word=word).park_timeout(0) is False  # park took the permit


@pytest.mark.parametrize("word", [0, "word", object(), Word])
def test_it_parks_on_nothing_else(word: Any) -> None:
    with pytest.raises(TypeError, match="parks on a Word, or on none, not on"):
        ThreadParker(word)


def test_two_unparks_are_one_permit(parker: ThreadParker) -> None:
    parker.unpark()
    parker.unpark()
    assert parker.park_timeout(0) is True
    assert parker.park_timeout(0) is False


@pytest.mark.parametrize("how", ["unpark", "unpark_lock", "the handle"])
def test_an_unpark_that_comes_first_is_not_lost(parker: ThreadParker, how: str) -> None:
    if how == "unpark":
        parker.unpark()
    elif how == "unpark_lock":
        parker.unpark_lock()  # whose handle is never called
    else:
        parker.unpark_lock().unpark()
    parker.park()
    assert parker.timed_out()


@pytest.mark.parametrize("how", ["park", "park_until", "park_timeout"])
def test_a_parked_thread_is_unparked_and_takes_the_permit(parker: ThreadParker, how: str) -> None:
    answers: list[bool | None] = []
    calls: dict[str, Callable[[], bool | None]] = {
        "park": parker.park,
        "park_until": lambda: parker.park_until(soon()),
        "park_timeout": lambda: parker.park_timeout(20),
    }
    with Crew() as crew:
        crew.start(lambda: answers.append(calls[how]()))
        block_until(lambda: is_asleep(parker))
        assert not answers
        parker.unpark()
    assert answers == [None if how == "park" else True]
    assert parker.timed_out()  # nothing is left in store
    assert parker.park_timeout(0) is False


def test_prepare_park_drops_a_permit(parker: ThreadParker) -> None:
    parker.unpark()
    parker.prepare_park()
    assert parker.timed_out()
    assert parker.park_timeout(0) is False
    parker.prepare_park()
    parker.unpark()
    assert parker.park_timeout(0) is True


def test_timed_out_tells_whether_a_permit_came_late(parker: ThreadParker) -> None:
    assert parker.park_timeout(0) is False
    assert parker.timed_out() is True
    handle = parker.unpark_lock()
    assert parker.timed_out() is False
    assert parker.timed_out() is False  # it takes nothing
    handle.unpark()
    assert parker.park_timeout(0) is True


def test_unpark_lock_deposits_now_and_wakes_later(parker: ThreadParker) -> None:
    lock = threading.Lock()
    with Crew() as crew:
        thread = crew.start(parker.park)
        block_until(lambda: is_asleep(parker))
        with lock:
            handle = parker.unpark_lock()
            assert parker.timed_out() is False
            assert is_asleep(parker)
        handle.unpark()
        block_until(lambda: not thread.is_alive())
    handle.unpark()  # later calls do nothing
    handle.unpark()
    assert parker.park_timeout(0) is False


def test_a_handle_that_is_called_again_wakes_no_later_park(parker: ThreadParker) -> None:
    handle = parker.unpark_lock()
    handle.unpark()
    parker.park()
    with Crew() as crew:
        crew.start(parker.park)
        block_until(lambda: is_asleep(parker))
        handle.unpark()
        assert is_asleep(parker)
        parker.unpark()


def test_a_handle_that_is_never_called_delays_to_the_deadline_and_loses_nothing(parker: ThreadParker) -> None:
    def park(seconds: float) -> None:
        answers.append(parker.park_timeout(seconds))

    for seconds in (0.2, 2.0, 20.0):  # once more, with more time, where the machine was too slow to see it parked
        answers: list[bool] = []
        with Crew() as crew:
            crew.start(park, seconds)
            block_until(lambda: answers or is_asleep(parker))  # noqa: B023  # called at once
            parker.unpark_lock()
        if answers == [True]:
            return
        assert parker.park_timeout(0), "the permit is lost"
    pytest.fail("it was never seen parked")


def test_the_repr_names_the_word(parker: ThreadParker) -> None:
    assert repr(parker) == f"<aiopark.ThreadParker {id(parker._cell):#x} idle on {parker.word!r}>"


# One owner.


@pytest.mark.parametrize("how", ["park", "park_until", "park_timeout"])
@pytest.mark.parametrize("same_parker", [True, False])
def test_a_second_park_is_an_error_that_says_what_to_do(parker: ThreadParker, how: str, same_parker: bool) -> None:
    answers: list[bool] = []
    other = parker if same_parker else ThreadParker(parker.word)
    arguments = {"park": (), "park_until": (0,), "park_timeout": (0,)}[how]
    with Crew() as crew:
        crew.start(lambda: answers.append(parker.park_until(soon())))
        block_until(lambda: is_asleep(parker))
        with pytest.raises(
            RuntimeError,
            match=r"already parked on .* its own ThreadParker" if same_parker else r"is taken by .* its own Word",
        ) as caught:
            getattr(other, how)(*arguments)
        assert type(caught.value) is RuntimeError
        assert is_asleep(parker)
        assert not answers
        parker.unpark()
    assert answers == [True]
    other.unpark()
    assert other.park_timeout(0) is True  # free again


def test_of_many_that_park_at_once_one_parks(parker: ThreadParker) -> None:
    start, refused, parked = threading.Barrier(6), [], []

    def park() -> None:
        start.wait()
        try:
            parked.append(parker.park_until(soon()))
        except RuntimeError:
            refused.append(True)

    with Crew() as crew:
        for _ in range(6):
            crew.start(park)
        block_until(lambda: len(refused) == 5)
        parker.unpark()
    assert parked == [True]


def test_a_parker_may_move_from_thread_to_thread(parker: ThreadParker) -> None:
    for _ in range(20):
        with Crew() as crew:
            crew.start(parker.park)
            parker.unpark()
