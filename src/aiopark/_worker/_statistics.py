"""WorkerStatistics: what a Worker does right now."""

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class WorkerStatistics:
    """A picture of a Worker, taken while its threads went on.

    Attributes:
        queued: functions that wait in the queue; at most `limit`.
        waiting: functions beyond the limit, which wait for their turn to be queued.
        running: functions that run now.
        threads: threads that there are; none before the first call.
        limit: see Worker; None: none.

    Example:
        >>> import aiopark
        >>> with aiopark.Worker() as worker:
        ...     worker.statistics().threads, worker.blocking_run(sum, [1, 2]), worker.statistics().threads
        (0, 3, 1)
    """

    queued: int
    waiting: int
    running: int
    threads: int
    limit: int | None
