"""statistics(): what aiopark does in this process right now."""

import dataclasses

from aiopark._loops import parked_tasks
from aiopark._os import default_backend
from aiopark._watch import waiter_threads, watched_words, watcher


@dataclasses.dataclass(frozen=True, slots=True)
class Statistics:
    """A picture of this process, taken while other threads went on.

    Attributes:
        backend: what threads wait with: "futex", "waitaddress", "ulock" or "portable".
        watcher: what waits in the kernel for tasks that park on a word: "uring" or "threads".
        parked_tasks: tasks that sleep in `Parker.park*`, over all loops.
        watched_words: words that are watched right now, or whose watch thread rests.
        waiter_threads: threads that wait on behalf of tasks, one a word that no ring watches.

    Example:
        >>> import aiopark
        >>> aiopark.statistics().waiter_threads
        0
    """

    backend: str
    watcher: str
    parked_tasks: int
    watched_words: int
    waiter_threads: int


def statistics() -> Statistics:
    """Take a picture of what aiopark does in this process.

    May be called from any thread. Does not block.

    Returns:
        The figures; they need not be of one instant.

    Raises:
        ValueError: AIOPARK_BACKEND or AIOPARK_WATCHER names none that there is.
        UnsupportedError: AIOPARK_BACKEND or AIOPARK_WATCHER forces one that does not work here.

    Example:
        >>> import aiopark
        >>> aiopark.statistics().parked_tasks
        0
    """
    return Statistics(
        backend=default_backend().name,
        watcher=watcher(),
        parked_tasks=parked_tasks(),
        watched_words=watched_words(),
        waiter_threads=waiter_threads(),
    )
