"""WorkerPool: a Worker with several threads."""

from __future__ import annotations

from aiopark._worker._worker import Worker


class WorkerPool(Worker):
    """A Worker with up to n threads and one queue: functions start in the order of the calls, and run side by side.

    All the rest is as with a Worker. A thread is started when there is a function and no thread for it. No function may
    rely on a thread of its own; `on_dropped` is called on one of the threads.

    | methods | may be called from | block |
    | --- | --- | --- |
    | all | see Worker | see Worker |

    Args:
        n: how many threads at most.
        name: of its threads; shown by `repr`.
        limit: see Worker.

    Raises:
        TypeError: n or limit is no integer, or name no string.
        ValueError: n or limit is below 1.

    Example:
        >>> import asyncio, aiopark
        >>> async def main():
        ...     async with aiopark.WorkerPool(4) as pool:
        ...         return await asyncio.gather(*(pool.run(pow, 2, exponent) for exponent in range(5)))
        >>> asyncio.run(main())
        [1, 2, 4, 8, 16]
    """

    __slots__ = ()

    def __init__(self, n: int, *, name: str | None = None, limit: int | None = None) -> None:
        self._set_up(n, name, limit)
