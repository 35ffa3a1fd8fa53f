"""Deadlines and timeouts: what the caller gave, checked and turned into a float."""

import math
from typing import SupportsFloat, SupportsIndex

Seconds = SupportsFloat | SupportsIndex


def seconds(value: Seconds, what: str) -> float:
    """Turn a deadline or timeout into seconds as a float.

    Args:
        value: any real number (int, float, Fraction, Decimal, numpy scalar); may be infinite.
        what: the argument's name, for the message.

    Returns:
        The number. One too large for a float becomes an infinity.

    Raises:
        TypeError: value is no number. A string of digits is none.
        ValueError: value is NaN.
    """
    if type(value) is not float:
        kind = type(value)
        if not hasattr(kind, "__float__") and not hasattr(kind, "__index__"):
            raise TypeError(f"{what} must be a number of seconds, not {kind.__name__}; math.inf waits forever")
        try:
            value = float(value)
        except OverflowError:
            value = math.inf if value > 0 else -math.inf  # type: ignore[operator]
    if value != value:  # noqa: PLR0124  # NaN alone differs from itself
        raise ValueError(f"{what} is NaN, which no clock ever reaches; use math.inf to wait forever")
    return value


def after(now: float, timeout: float) -> float:
    """Return the deadline that lies `timeout` seconds after `now`, rounded up so that it is never early."""
    if timeout <= 0:
        return -math.inf
    return math.nextafter(now + timeout, math.inf)
