"""ThreadParker: the permit, deadlines, one owner, and whatever interrupts a park."""

import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from types import FrameType
from typing import Any

import pytest
from support import REAL_BACKENDS, Crew, asleep, block_until, in_a_fork, is_ours, program, soon, storm

import aiopark
from aiopark import ThreadParker, Word
from aiopark._os import Backend

needs_signals = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="interval timers are POSIX'")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="fork is POSIX'")


@pytest.fixture
def parker(backend: Backend) -> ThreadParker:
    return ThreadParker()


def is_parked(parker: ThreadParker) -> bool:
    return asleep(parker.word.address) == 1


# The permit.


def test_a_new_parker_has_a_word_of_its_own_and_no_permit(parker: ThreadParker, backend: Backend) -> None:
    assert isinstance(parker.word, Word)
    assert parker.word is not ThreadParker().word
    assert parker.word._backend is backend
    assert parker.timed_out()
    assert parker.park_timeout(0) is False


def test_it_parks_on_the_word_that_it_is_given(backend: Backend) -> None:
    word = Word()
    parker = ThreadParker(word)
    assert parker.word is word
    with Crew() as crew:
        crew.start(parker.park)
        block_until(lambda: is_parked(parker))
        word.unpark()
    assert ThreadParker(word=word).park_timeout(0) is False  # park took the permit


@pytest.mark.parametrize("word", [0, "word", object(), Word])
def test_it_parks_on_nothing_else(word: Any) -> None:
    with pytest.raises(TypeError, match="parks on a Word, not on"):
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
        block_until(lambda: is_parked(parker))
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
        block_until(lambda: is_parked(parker))
        with lock:
            handle = parker.unpark_lock()
            assert parker.timed_out() is False
            assert is_parked(parker)
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
        block_until(lambda: is_parked(parker))
        handle.unpark()
        assert is_parked(parker)
        parker.unpark()


def test_a_handle_that_is_never_called_delays_to_the_deadline_and_loses_nothing(parker: ThreadParker) -> None:
    def park(seconds: float) -> None:
        answers.append(parker.park_timeout(seconds))

    for seconds in (0.2, 2.0, 20.0):  # once more, with more time, where the machine was too slow to see it parked
        answers: list[bool] = []
        with Crew() as crew:
            crew.start(park, seconds)
            block_until(lambda: answers or is_parked(parker))  # noqa: B023  # called at once
            parker.unpark_lock()
        if answers == [True]:
            return
        assert parker.park_timeout(0), "the permit is lost"
    pytest.fail("it was never seen parked")


def test_the_repr_names_the_word(parker: ThreadParker) -> None:
    assert repr(parker) == f"<aiopark.ThreadParker on {parker.word!r}>"


# Deadlines.


@pytest.mark.parametrize("seconds", [1e-6, 0.0003, 0.001, 0.0042, 0.03])
def test_a_park_is_never_early(parker: ThreadParker, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    assert parker.park_until(deadline) is False
    assert time.monotonic() >= deadline
    before = time.monotonic()
    assert parker.park_timeout(seconds) is False
    assert Fraction(time.monotonic()) >= Fraction(before) + Fraction(seconds)


def test_random_deadlines_are_never_early(parker: ThreadParker) -> None:
    chance = random.Random(1)
    until = time.monotonic() + 0.3
    while time.monotonic() < until:
        deadline = time.monotonic() + chance.expovariate(2000)
        assert parker.park_until(deadline) is False
        assert time.monotonic() >= deadline


@pytest.mark.parametrize("deadline", [-math.inf, -1e300, -1, 0, 0.0, 1, -(10**400), Fraction(-1, 3), Decimal(0)])
def test_a_past_deadline_takes_a_permit_or_returns_at_once(parker: ThreadParker, deadline: Any) -> None:
    assert parker.park_until(deadline) is False
    parker.unpark()  # a tie: the unpark wins
    assert parker.park_until(deadline) is True
    assert parker.park_until(deadline) is False


@pytest.mark.parametrize("timeout", [-math.inf, -1e300, -1, 0, -0.0, -(10**400), Fraction(-1, 3), Decimal(0), False])
def test_a_timeout_of_nothing_takes_a_permit_or_returns_at_once(parker: ThreadParker, timeout: Any) -> None:
    assert parker.park_timeout(timeout) is False
    parker.unpark()
    assert parker.park_timeout(timeout) is True
    assert parker.park_timeout(timeout) is False


FAR = [
    100 * 86_400.0,
    60 * 86_400,
    1e12,
    1e300,
    sys.float_info.max,
    10**400,
    Fraction(10**400),
    Decimal("1e999"),
    math.inf,
]


@pytest.mark.parametrize("far", FAR, ids=lambda far: f"{type(far).__name__} {far if far < 10**300 else 'huge'}")
@pytest.mark.parametrize("how", ["park_until", "park_timeout"])
def test_far_deadlines_are_waited_for(parker: ThreadParker, how: str, far: Any) -> None:
    answers: list[bool] = []
    with Crew() as crew:
        crew.start(lambda: answers.append(getattr(parker, how)(far)))
        block_until(lambda: is_parked(parker))
        assert not answers
        parker.unpark()
    assert answers == [True]


def test_a_park_goes_round_again_after_each_capped_wait(parker: ThreadParker, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("_linux", "_macos", "_windows", "_portable"):
        monkeypatch.setattr(f"aiopark._os.{module}.LONGEST_WAIT", 0.001)
    waits = 0
    sleep = parker.word._sleep

    def count(*arguments: Any, **keywords: Any) -> None:
        nonlocal waits
        waits += 1
        sleep(*arguments, **keywords)

    monkeypatch.setattr(parker.word, "_sleep", count)
    deadline = time.monotonic() + 0.03
    assert parker.park_until(deadline) is False
    assert time.monotonic() >= deadline
    assert waits > 1
    with Crew() as crew:
        crew.start(parker.park_until, time.monotonic() + 100 * 86_400)
        block_until(lambda: waits > 50)
        parker.unpark()


@pytest.mark.parametrize("value", [math.nan, -math.nan, Decimal("NaN")])
@pytest.mark.parametrize(("how", "what"), [("park_until", "deadline"), ("park_timeout", "timeout")])
def test_nan_is_no_time(parker: ThreadParker, how: str, what: str, value: Any) -> None:
    parker.unpark()
    with pytest.raises(ValueError, match=f"{what} is NaN"):
        getattr(parker, how)(value)
    assert parker.park_timeout(0) is True  # the permit stayed


@pytest.mark.parametrize("value", ["1", None, b"1", [], 1j, object(), time.monotonic], ids=lambda v: type(v).__name__)
@pytest.mark.parametrize(("how", "what"), [("park_until", "deadline"), ("park_timeout", "timeout")])
def test_what_is_no_number_is_no_time(parker: ThreadParker, how: str, what: str, value: Any) -> None:
    parker.unpark()
    with pytest.raises(TypeError, match=f"{what} must be a number of seconds, not {type(value).__name__}"):
        getattr(parker, how)(value)
    assert parker.park_timeout(0) is True


class Index:
    def __index__(self) -> int:
        return 0


@pytest.mark.parametrize(
    "value", [0, True, Fraction(1, 1000), Decimal("0.001"), Index()], ids=lambda v: type(v).__name__
)
def test_every_kind_of_number_is_a_time(parker: ThreadParker, value: Any) -> None:
    assert parker.park_until(value) is False
    parker.unpark()
    assert parker.park_timeout(value) is True


# One owner.


@pytest.mark.parametrize("how", ["park", "park_until", "park_timeout"])
@pytest.mark.parametrize("same_parker", [True, False])
def test_a_second_park_is_an_error_that_says_what_to_do(parker: ThreadParker, how: str, same_parker: bool) -> None:
    answers: list[bool] = []
    other = parker if same_parker else ThreadParker(parker.word)
    arguments = {"park": (), "park_until": (0,), "park_timeout": (0,)}[how]
    with Crew() as crew:
        crew.start(lambda: answers.append(parker.park_until(soon())))
        block_until(lambda: is_parked(parker))
        with pytest.raises(
            RuntimeError, match=r"already parked on .* give each of them its own ThreadParker"
        ) as caught:
            getattr(other, how)(*arguments)
        assert type(caught.value) is RuntimeError
        assert is_parked(parker)
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


@needs_signals
def test_a_park_within_a_park_is_refused(parker: ThreadParker) -> None:
    refused: list[str] = []

    def handler(*_: object) -> None:
        try:
            parker.park()
        except RuntimeError as error:
            refused.append(str(error))
        parker.unpark()

    with handling(handler), Crew() as crew:
        crew.start(interrupt_once_parked, parker)
        assert parker.park_until(soon()) is True
    assert len(refused) == 1


# What interrupts: signals.


class handling:  # noqa: N801  # used as a context manager, like those of contextlib
    """Handle SIGALRM; at the end, no timer runs any more."""

    def __init__(self, handler: Callable[..., object]) -> None:
        self.handler = handler

    def __enter__(self) -> None:
        assert threading.current_thread() is threading.main_thread()
        self.previous = signal.signal(signal.SIGALRM, self.handler)

    def __exit__(self, *_: object) -> None:
        while True:
            try:
                signal.signal(signal.SIGALRM, signal.SIG_IGN)
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, self.previous)
                return
            except RaisedByHandlerError:
                continue


class RaisedByHandlerError(Exception):
    pass


def interrupt_once_parked(parker: ThreadParker) -> None:
    block_until(lambda: is_parked(parker))
    signal.pthread_kill(threading.main_thread().ident, signal.SIGALRM)


@needs_signals
@pytest.mark.parametrize("two_phases", [False, True])
def test_a_handler_unparks_the_thread_that_it_interrupts(parker: ThreadParker, two_phases: bool) -> None:
    def handler(*_: object) -> None:
        if two_phases:
            parker.unpark_lock().unpark()
        else:
            parker.unpark()

    with handling(handler):
        for _ in range(5):
            with Crew() as crew:
                crew.start(interrupt_once_parked, parker)
                assert parker.park_until(soon()) is True


@needs_signals
def test_signals_are_invisible(parker: ThreadParker) -> None:
    with storm(lambda: None) as handled:
        deadline = time.monotonic() + 0.2
        assert parker.park_until(deadline) is False
        assert time.monotonic() >= deadline
    assert handled[0] > 10


@needs_signals
def test_a_storm_of_handlers_that_unpark_loses_nothing(parker: ThreadParker) -> None:
    # Some of them come while the thread sleeps, some between any two instructions of the park.
    given = taken = 0

    def handler() -> None:
        nonlocal given
        if given == taken:
            given += 1
            parker.unpark()

    with storm(handler):
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            assert parker.park_until(soon()), "an unpark was lost"
            taken += 1
    assert taken > 50
    assert given - taken in (0, 1)
    assert parker.park_timeout(0) is (given > taken)


@needs_signals
def test_an_exception_of_a_handler_ends_the_park(parker: ThreadParker) -> None:
    def handler(*_: object) -> None:
        raise RaisedByHandlerError

    with handling(handler), Crew() as crew:
        crew.start(interrupt_once_parked, parker)
        with pytest.raises(RaisedByHandlerError):
            parker.park()
    assert parker.park_timeout(0) is False  # it is free
    parker.unpark()
    assert parker.park_timeout(0) is True


class Beneath:
    """Raises at the n-th point beneath a park at which CPython would run a signal handler.

    These are the entry of each Python function and the return from each function written in C.
    """

    def __init__(self, n: int) -> None:
        self.left = n
        self.raised = False

    def __enter__(self) -> "Beneath":  # noqa: PYI034
        self.previous = sys.getprofile()
        sys.setprofile(self._profile)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(self.previous)

    def _profile(self, frame: FrameType, event: str, _: object) -> None:
        if event in {"call", "c_return"} and is_ours(frame.f_code.co_filename):
            self.left -= 1
            if self.left < 0 and not self.raised:
                self.raised = True
                raise RaisedByHandlerError


@pytest.mark.parametrize("permit", [True, False])
def test_an_exception_anywhere_in_a_park_keeps_the_permit_and_frees_the_parker(
    parker: ThreadParker, permit: bool
) -> None:
    n, failures = 0, []
    while True:
        parker = ThreadParker()
        if permit:
            parker.unpark()
        answer = None
        with Beneath(n) as beneath:
            try:
                answer = parker.park_until(0.0)
            except RaisedByHandlerError:
                pass
        if not beneath.raised:
            break
        if answer is None and parker.timed_out() is permit:
            failures.append(f"point {n}: the permit is lost" if permit else f"point {n}: a permit out of nothing")
        parker.unpark()
        try:
            assert parker.park_until(0.0) is True
        except RuntimeError as error:
            failures.append(f"point {n}: {error}")
        n += 1
    assert n > 5
    assert not failures


@needs_signals
@pytest.mark.raises_anywhere
def test_a_storm_of_handlers_that_raise_keeps_the_permit_and_frees_the_parker(parker: ThreadParker) -> None:
    chance, raised, within = random.Random(3), 0, False

    def handler(*_: object) -> None:
        raise RaisedByHandlerError

    def go_on_until_it_raises() -> None:  # CPython 3.14 leaves a `while` without the `except` around it, see Word._park
        nonlocal within
        while True:
            parker.unpark()
            within = True
            answer = parker.park_until(0.0)
            within = False
            assert answer

    with handling(handler):
        until = time.monotonic() + 0.7
        while time.monotonic() < until:
            try:
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(5e-6, 1e-4))
                go_on_until_it_raises()
            except RaisedByHandlerError:
                raised += 1
                if within:
                    assert not parker.timed_out(), "the permit is lost"
                within = False
    assert raised > 100


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT cannot be sent there, see tests/test_console.py")
@pytest.mark.parametrize("park", ["forever", "timeout"])
@pytest.mark.parametrize("name", list(REAL_BACKENDS))
def test_ctrl_c_ends_a_park_of_the_main_thread(name: str, park: str) -> None:
    process = subprocess.Popen(
        program("ctrl_c", park),
        env={**os.environ, "AIOPARK_BACKEND": name},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            block_until(lambda: sleeps(process))
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=20)
        finally:
            process.kill()
    assert (output, process.returncode) == ("interrupted\nTrue\n", 0), errors


def sleeps(process: subprocess.Popen[str]) -> bool:
    """Tell whether the process sleeps; where that cannot be told, Ctrl-C comes before or during the park."""
    try:
        with open(f"/proc/{process.pid}/stat") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] == "S"
    except FileNotFoundError:
        return True


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
            ping, pong = ThreadParker(), ThreadParker()
            ping.unpark()
            crew.start(play, ping, pong)
            crew.start(play, pong, ping)


def test_other_threads_run_while_one_is_parked(parker: ThreadParker) -> None:
    answers: list[bool] = []
    with Crew() as crew:
        crew.start(lambda: answers.append(parker.park_timeout(5)))
        block_until(lambda: is_parked(parker))  # Python code that would stand still if the GIL were kept
        parker.unpark()
    assert answers == [True]


def test_unpark_from_a_finalizer(parker: ThreadParker) -> None:
    class Unparks:
        def __del__(self) -> None:
            parker.unpark()

    with Crew() as crew:
        crew.start(parker.park)
        block_until(lambda: is_parked(parker))
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
            block_until(lambda: is_parked(parker))
            with pytest.raises(RuntimeError, match="already parked"):
                parker.park_timeout(0)
            parker.unpark()

    with Crew() as crew:
        crew.start(parker.park)
        block_until(lambda: is_parked(parker))
        in_a_fork(in_the_child)
        assert is_parked(parker)  # the child unparked nobody here
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
        block_until(lambda: is_parked(parker))
        in_a_fork(in_the_child)
        parker.unpark()
