"""A check: it holds what it promises, fails with a reason, or takes too long. It never hangs and never raises."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from aiopark._cli._section import Line

if TYPE_CHECKING:
    from collections.abc import Callable

    # Does it hold, and what was measured.
    Outcome = tuple[bool, str]

LIMIT: Final = 10.0  # seconds; each check takes well under one


def check(name: str, function: Callable[[], Outcome], limit: float | None = None) -> Line:
    """Run one check, in a thread of its own, which is left behind if it hangs. Blocks for `limit` at most.

    Args:
        name: what is checked.
        function: returns the outcome; an exception counts as a failure.
        limit: seconds; LIMIT if None.

    Returns:
        The line of the report.
    """
    limit = LIMIT if limit is None else limit
    outcome: Outcome = (False, f"it hangs: not done after {limit:g} s")

    def run() -> None:
        nonlocal outcome
        try:
            outcome = function()
        except BaseException as error:
            outcome = (False, f"{type(error).__name__}: {error}")

    thread = threading.Thread(target=run, name=f"aiopark check: {name}", daemon=True)
    thread.start()
    thread.join(limit)
    holds, text = outcome
    return Line(name, text, holds=holds)


def judge_deadline(start: float, deadline: float, end: float, *, unparked: bool) -> Outcome:
    """Judge a park that nobody unparks: it may end at its deadline, and never before.

    Args:
        start: when it began, on the clock of the park.
        deadline: what `park_until` was given.
        end: when it came back.
        unparked: what it returned.
    """
    text = f"deadline {(deadline - start) * 1e3:.0f} ms, passed after"
    if unparked:
        return False, f"{text} {(end - start) * 1e3:.1f} ms, but it said unparked, and nobody did"
    if end < deadline:
        return False, f"{text} {(end - start) * 1e3:.6f} ms, too early"
    return True, f"{text} {(end - start) * 1e3:.1f} ms, never early"
