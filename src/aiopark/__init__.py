"""aiopark: park asyncio and trio tasks until a thread unparks them."""

from aiopark._errors import ClosedError, UnsupportedError
from aiopark._parker import Parker
from aiopark._statistics import Statistics, statistics
from aiopark._thread_parker import ThreadParker
from aiopark._unpark_handle import UnparkHandle
from aiopark._word import Word

__all__ = [
    "ClosedError",
    "Parker",
    "Statistics",
    "ThreadParker",
    "UnparkHandle",
    "UnsupportedError",
    "Word",
    "statistics",
]

for _name in __all__:  # users see aiopark.Parker, in tracebacks too, wherever it is written down
    globals()[_name].__module__ = __name__
del _name
