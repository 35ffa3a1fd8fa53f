"""One of several ways to do a thing: the first that works here, or the one that an environment variable forces."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aiopark._errors import UnsupportedError


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen.

    Attributes:
        name: of the candidate.
        forced: whether the environment asked for it.
    """

    name: str
    forced: bool


def choose(variable: str, candidates: Mapping[str, Callable[[], str | None]], fallback: str) -> Choice:
    """Choose a candidate. Reads the environment anew at each call: whoever documents "read once" keeps the result.

    Args:
        variable: of the environment; empty counts as not set.
        candidates: from each name to a function that returns why it does not work here, or None if it does; in the
            order in which they are tried.
        fallback: the candidate that the message of a refusal suggests, since it works everywhere.

    Raises:
        ValueError: the variable names no candidate.
        UnsupportedError: the one that it names does not work here; the message says why.
    """
    forced = os.environ.get(variable)
    if not forced:
        return Choice(next(name for name, refusal in candidates.items() if refusal() is None), forced=False)
    if forced not in candidates:
        raise ValueError(f"{variable} is {forced!r}; choose one of {', '.join(candidates)}")
    reason = candidates[forced]()
    if reason is not None:
        raise UnsupportedError(
            f"{variable}={forced} does not work here: {reason}; unset it, or use {variable}={fallback}"
        )
    return Choice(forced, forced=True)
