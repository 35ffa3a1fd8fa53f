"""Worker: functions that block, on threads of their own, for tasks of any loops, with a cancellation that is sound."""

from aiopark._worker._pool import WorkerPool
from aiopark._worker._statistics import WorkerStatistics
from aiopark._worker._worker import Worker, current_worker

__all__ = ["Worker", "WorkerPool", "WorkerStatistics", "current_worker"]
