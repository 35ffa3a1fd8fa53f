"""aiopark: park asyncio and trio tasks until a thread, native code or another process unparks them."""

from aiopark._errors import ClosedError, DroppedError, UnsupportedError
from aiopark._include import get_include
from aiopark._park_any import park_any
from aiopark._parker import Parker
from aiopark._statistics import Statistics, statistics
from aiopark._thread_parker import ThreadParker
from aiopark._unpark_handle import UnparkHandle
from aiopark._word import Word
from aiopark._worker import Worker, WorkerPool, WorkerStatistics, current_worker

__all__ = [
    "ClosedError",
    "DroppedError",
    "Parker",
    "Statistics",
    "ThreadParker",
    "UnparkHandle",
    "UnsupportedError",
    "Word",
    "Worker",
    "WorkerPool",
    "WorkerStatistics",
    "current_worker",
    "get_include",
    "park_any",
    "statistics",
]
