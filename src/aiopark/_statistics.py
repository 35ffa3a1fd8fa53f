"""statistics(): what aiopark does in this process right now."""

import dataclasses

from aiopark._loops import parked_tasks
from aiopark._os import default_backend


@dataclasses.dataclass(frozen=True, slots=True)
class Statistics:
    """A picture of this process, taken while other threads went on.

    Attributes:
        backend: what threads wait with: "futex", "waitaddress", "ulock" or "portable".
        watcher: who waits in the kernel for tasks; None, since this release watches no words.
        parked_tasks: tasks that sleep in `Parker.park*`, over all loops.
        watched_words: words that the kernel watches for tasks.
        waiter_threads: threads that wait on behalf of tasks.

    Example:
        >>> import aiopark
        >>> aiopark.statistics().waiter_threads
        0
    """

    backend: str
    watcher: str | None
    parked_tasks: int
    watched_words: int
    waiter_threads: int


def statistics() -> Statistics:
    """Take a picture of what aiopark does in this process.

    May be called from any thread. Does not block.

    Returns:
        The figures; they need not be of one instant.

    Raises:
        ValueError: AIOPARK_BACKEND names no backend.
        UnsupportedError: AIOPARK_BACKEND forces a backend that does not work here.

    Example:
        >>> import aiopark
        >>> aiopark.statistics().parked_tasks
        0
    """
    return Statistics(
        backend=default_backend().name,
        watcher=None,
        parked_tasks=parked_tasks(),
        watched_words=0,
        waiter_threads=0,
    )
