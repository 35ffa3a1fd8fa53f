"""Who waits in the kernel for a task that parks on a word: an io_uring where it can, else a thread a word."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Final

from aiopark import _fork
from aiopark._errors import UnsupportedError
from aiopark._os import Futex, _io_uring_probe, default_backend
from aiopark._watch import _loop_ring, _threads
from aiopark._watch._protocol import Hint, Watch
from aiopark._watch._threads import ThreadWatch, is_waited_for
from aiopark._watch._uring import RingWatch

if TYPE_CHECKING:
    from aiopark._word import Word

__all__ = [
    "RingWatch",
    "ThreadWatch",
    "Watch",
    "is_waited_for",
    "refused_watchers",
    "waiter_threads",
    "watch",
    "watched_words",
    "watcher",
]

ENVIRONMENT_VARIABLE: Final = "AIOPARK_WATCHER"

# In the order in which they are tried.
NAMES: Final = (RingWatch.name, ThreadWatch.name)


def watch(word: Word, hint: Hint) -> Watch:
    """Give a watch on the word, by the watcher of this process. It starts to watch when it is armed.

    Raises:
        ValueError: AIOPARK_WATCHER names no watcher.
        UnsupportedError: AIOPARK_WATCHER forces one that does not work here.
    """
    if watcher() == ThreadWatch.name:
        return ThreadWatch(word, hint)
    return RingWatch(word, hint, alone=bool(os.environ.get(ENVIRONMENT_VARIABLE)))


@functools.cache
def watcher() -> str:
    """Name the watcher that this process uses: the first that works, or the one that AIOPARK_WATCHER forces.

    Chosen at the first call and then kept. May be called from any thread; does not block.

    Returns:
        "uring" or "threads".

    Raises:
        ValueError: AIOPARK_WATCHER, or AIOPARK_BACKEND, names none that there is.
        UnsupportedError: AIOPARK_WATCHER, or AIOPARK_BACKEND, forces one that does not work here.
    """
    refused = refused_watchers()
    forced = os.environ.get(ENVIRONMENT_VARIABLE)
    if not forced:
        return next(name for name in NAMES if name not in refused)
    if forced not in NAMES:
        raise ValueError(f"{ENVIRONMENT_VARIABLE} is {forced!r}; choose one of {', '.join(NAMES)}")
    if forced in refused:
        raise UnsupportedError(
            f"{ENVIRONMENT_VARIABLE}={forced} does not work here: {refused[forced]}; "
            f"unset it, or use {ENVIRONMENT_VARIABLE}=threads"
        )
    return forced


def refused_watchers() -> dict[str, str]:
    """Say why each watcher that does not work here was refused. Does not block.

    Returns:
        From the watcher's name to the reason; those that would work are left out.

    Raises:
        ValueError: AIOPARK_BACKEND names no backend.
        UnsupportedError: AIOPARK_BACKEND forces a backend that does not work here.
    """
    backend = default_backend().name
    reason = _io_uring_probe.refusal()
    if reason is None and backend != Futex.name:
        reason = f"a ring waits on futexes, and threads here wait with {backend}"
    return {} if reason is None else {RingWatch.name: reason}


def watched_words() -> int:
    """Count the words that are watched, over all loops of this process."""
    alive = (reference() for reference in _loop_ring.rings.copy())
    return waiter_threads() + sum(len(ring) for ring in alive if ring is not None)


def waiter_threads() -> int:
    """Count the threads that wait on behalf of tasks."""
    return sum(thread.epoch == _fork.epoch for thread in _threads.running.copy())
