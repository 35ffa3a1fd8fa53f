"""ThreadParker: deadlines and timeouts."""

import math
import random
import sys
import time
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from support import Crew, block_until, is_asleep

from aiopark import ThreadParker
from aiopark._word import cell_of


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
        block_until(lambda: is_asleep(parker))
        assert not answers
        parker.unpark()
    assert answers == [True]


def test_a_park_goes_round_again_after_each_capped_wait(parker: ThreadParker, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("_linux", "_macos", "_windows", "_portable"):
        monkeypatch.setattr(f"aiopark._os.{module}.LONGEST_WAIT", 0.001)
    waits = 0
    cell = cell_of(parker.word)
    sleep = cell._sleep

    def count(*arguments: Any, **keywords: Any) -> None:
        nonlocal waits
        waits += 1
        sleep(*arguments, **keywords)

    monkeypatch.setattr(cell, "_sleep", count)
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
