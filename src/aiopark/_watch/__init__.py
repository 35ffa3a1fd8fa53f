"""Who waits in the kernel for a task that sleeps on a cell: an io_uring where it can, else a thread a cell."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final

from aiopark._choice import Choice, choose
from aiopark._os import Futex, _io_uring_probe, default_backend
from aiopark._watch._loop_ring import rings, taken_away
from aiopark._watch._protocol import Hint, Watch
from aiopark._watch._threads import ThreadWatch, waiter_threads
from aiopark._watch._uring import RingWatch

if TYPE_CHECKING:
    from aiopark._cell import Cell

__all__ = [
    "WATCHERS",
    "RingWatch",
    "ThreadWatch",
    "Watch",
    "refused_watchers",
    "waiter_threads",
    "watch",
    "watched_words",
    "watcher",
]

ENVIRONMENT_VARIABLE: Final = "AIOPARK_WATCHER"
WATCHERS: Final = (RingWatch.name, ThreadWatch.name)  # in the order in which they are tried


def watch(cell: Cell, hint: Hint) -> Watch:
    """Return a watch on the cell, by the watcher of this process. It starts to watch when it is armed.

    Raises:
        ValueError: AIOPARK_WATCHER names no watcher.
        UnsupportedError: AIOPARK_WATCHER forces one that does not work here.
    """
    choice = _choice()
    return ThreadWatch(cell, hint) if choice.name == ThreadWatch.name else RingWatch(cell, hint, forced=choice.forced)


def watcher() -> str:
    """Return the watcher that this process uses: the first that works, or the one that AIOPARK_WATCHER forces.

    Chosen at the first call and then kept, unless the kernel takes the rings away. May be called from any thread; does
    not block.

    Returns:
        "uring" or "threads".

    Raises:
        ValueError: AIOPARK_WATCHER, or AIOPARK_BACKEND, names none that there is.
        UnsupportedError: AIOPARK_WATCHER, or AIOPARK_BACKEND, forces one that does not work here.
    """
    choice = _choice()
    return ThreadWatch.name if taken_away() and not choice.forced else choice.name


@functools.cache
def _choice() -> Choice:
    default_backend()  # its errors come first
    refusals = dict.fromkeys(WATCHERS, lambda: None) | {RingWatch.name: _ring_refusal}
    return choose(ENVIRONMENT_VARIABLE, refusals, ThreadWatch.name)


def _ring_refusal() -> str | None:
    backend = default_backend().name
    reason = _io_uring_probe.refusal()
    if reason is None and backend != Futex.name:
        reason = f"a ring waits on futexes, and threads here wait with {backend}"
    return reason


def refused_watchers() -> dict[str, str]:
    """Return why each watcher that does not work here was refused. Does not block.

    Returns:
        From the watcher's name to the reason; those that would work are left out.

    Raises:
        ValueError: AIOPARK_BACKEND names no backend.
        UnsupportedError: AIOPARK_BACKEND forces a backend that does not work here.
    """
    reason = _ring_refusal()
    return {} if reason is None else {RingWatch.name: reason}


def watched_words() -> int:
    """Return how many words are watched, over all loops of this process."""
    alive = (reference() for reference in rings.copy())
    return waiter_threads() + sum(len(ring) for ring in alive if ring is not None)
