"""ThreadParker: many threads, and forks."""

import os
import random
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from support import Crew, block_until, in_a_fork, is_asleep, soon

import aiopark
from aiopark import ThreadParker, Word
from aiopark._os import Backend

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="fork is POSIX'")


# Many threads.


@pytest.fixture
def tiny_switch_interval() -> Iterator[None]:
    """Let threads change places all the time."""
    previous = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(previous)


@pytest.mark.usefixtures("tiny_switch_interval")
@pytest.mark.parametrize("unparkers", [1, 4])
def test_permits_are_conserved(parker: ThreadParker, unparkers: int) -> None:
    # Each unparker puts a number into a box and unparks; the owner empties the box after each park. Once all of
    # them are through, an empty store and a full box would be a lost wake-up.
    rounds = 400
    box: list[int] = []
    seen, timeouts = 0, 0
    chance = random.Random(unparkers)

    def unpark(seed: int) -> None:
        mine = random.Random(seed)
        for number in range(rounds):
            box.append(number)
            if mine.random() < 0.5:
                parker.unpark()
            else:
                parker.unpark_lock().unpark()

    def park() -> None:
        nonlocal seen, timeouts
        patience = soon()
        while seen < unparkers * rounds:
            far = chance.random() < 0.3
            deadline = patience if far else time.monotonic() + chance.uniform(-1e-5, 2e-4)
            if parker.park_until(deadline):
                while box:
                    box.pop()
                    seen += 1
            else:
                assert time.monotonic() >= deadline
                assert not far, "a wake-up was lost"
                timeouts += 1

    with Crew() as crew:
        crew.start(park)
        for seed in range(unparkers):
            crew.start(unpark, seed)
    assert seen == unparkers * rounds
    assert not box


@pytest.mark.usefixtures("tiny_switch_interval")
def test_each_permit_is_taken_exactly_once(parker: ThreadParker) -> None:
    # An unparker that waits for its permit to be taken: as many True as unparks, with deadlines in between.
    rounds, taken = 500, 0
    chance = random.Random(5)
    finished = threading.Event()

    def unpark() -> None:
        for number in range(rounds):
            parker.unpark()
            block_until(lambda: taken == number + 1)  # noqa: B023  # called at once
        finished.set()

    def park() -> None:
        nonlocal taken
        while not finished.is_set():
            taken += parker.park_timeout(chance.uniform(0, 2e-4))

    with Crew() as crew:
        crew.start(park)
        crew.start(unpark)
    assert taken == rounds


def test_ping_pong(backend: Backend) -> None:
    def play(mine: ThreadParker, theirs: ThreadParker) -> None:
        for _ in range(500):
            assert mine.park_until(deadline), "an unpark was lost"
            theirs.unpark()

    deadline = soon()
    with Crew() as crew:
        for _ in range(4):
            ping, pong = ThreadParker(Word()), ThreadParker(Word())
            ping.unpark()
            crew.start(play, ping, pong)
            crew.start(play, pong, ping)


def test_other_threads_run_while_one_is_parked(parker: ThreadParker) -> None:
    answers: list[bool] = []
    with Crew() as crew:
        crew.start(lambda: answers.append(parker.park_timeout(5)))
        block_until(lambda: is_asleep(parker))  # Python code that would stand still if the GIL were kept
        parker.unpark()
    assert answers == [True]


def test_unpark_from_a_finalizer(parker: ThreadParker) -> None:
    class Unparks:
        def __del__(self) -> None:
            parker.unpark()

    with Crew() as crew:
        crew.start(parker.park)
        block_until(lambda: is_asleep(parker))
        Unparks()


# fork.


@needs_fork
@pytest.mark.parametrize("permit", [False, True])
def test_a_child_parks_where_a_thread_of_the_parent_is_parked(parker: ThreadParker, permit: bool) -> None:
    def in_the_child() -> None:
        if permit:
            parker.unpark()
        assert parker.park_timeout(0.001) is permit
        with Crew() as crew:
            crew.start(parker.park)
            block_until(lambda: is_asleep(parker))
            with pytest.raises(RuntimeError, match="already parked"):
                parker.park_timeout(0)
            parker.unpark()

    with Crew() as crew:
        crew.start(parker.park)
        block_until(lambda: is_asleep(parker))
        in_a_fork(in_the_child)
        assert is_asleep(parker)  # the child unparked nobody here
        assert parker.timed_out()
        parker.unpark()


@needs_fork
def test_a_child_keeps_the_permit_that_was_stored(parker: ThreadParker) -> None:
    parker.unpark()

    def in_the_child() -> None:
        assert parker.park_timeout(0) is True

    in_a_fork(in_the_child)
    assert parker.park_timeout(0) is True


@needs_fork
def test_a_child_may_close_the_word_on_which_a_thread_of_the_parent_is_parked(parker: ThreadParker) -> None:
    def in_the_child() -> None:
        parker.word.close()
        with pytest.raises(aiopark.ClosedError):
            parker.park()

    with Crew() as crew:
        crew.start(parker.park)
        block_until(lambda: is_asleep(parker))
        in_a_fork(in_the_child)
        parker.unpark()
