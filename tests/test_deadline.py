"""Deadlines and timeouts as callers give them."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiopark._deadline import after, seconds


@given(st.one_of(st.floats(allow_nan=False), st.integers(), st.fractions(), st.decimals(allow_nan=False)))
def test_any_real_number_becomes_a_float(value):
    result = seconds(value, "deadline")
    assert type(result) is float
    if abs(value) < 1e300:
        assert result == float(value)
    else:
        assert (result > 0) == (value > 0)


class Index:
    def __index__(self):
        return 3


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, 1.0),
        (Fraction(1, 4), 0.25),
        (Decimal("0.5"), 0.5),
        (Index(), 3.0),
        (10**400, math.inf),
        (-(10**400), -math.inf),
    ],
)
def test_numbers(value, expected):
    assert seconds(value, "timeout") == expected


@pytest.mark.parametrize("value", ["1", b"1", None, 1j, [], object()])
def test_what_is_no_number(value):
    with pytest.raises(TypeError, match=f"timeout must be a number of seconds, not {type(value).__name__}"):
        seconds(value, "timeout")


@pytest.mark.parametrize("value", [math.nan, Decimal("NaN")])
def test_nan(value):
    with pytest.raises(ValueError, match=r"deadline is NaN.*math\.inf"):
        seconds(value, "deadline")


@given(st.floats(0, 1e9), st.floats(0, 1e9))
def test_a_timeout_is_rounded_up(now, timeout):
    deadline = after(now, timeout)
    if timeout == 0:
        assert deadline == -math.inf
        return
    assert Fraction(deadline) >= Fraction(now) + Fraction(timeout)
    assert deadline <= now + timeout or math.nextafter(now + timeout, math.inf) == deadline
    assert after(now, math.inf) == math.inf
