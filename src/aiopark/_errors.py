"""The exceptions that aiopark adds to Python's own."""

from concurrent.futures import CancelledError


class ClosedError(RuntimeError):
    """The Parker, Word or Worker was closed while, or before, somebody used it.

    Example:
        >>> import asyncio, aiopark
        >>> async def main():
        ...     parker = aiopark.Parker()
        ...     asyncio.get_running_loop().call_soon(parker.close)
        ...     await parker.park()
        >>> asyncio.run(main())
        Traceback (most recent call last):
            ...
        aiopark.ClosedError: the Parker was closed: make a new one to park again
    """

    __module__ = "aiopark"  # what users see in a traceback, and import


class DroppedError(ClosedError, CancelledError):
    """The Worker was closed while the function was still in its queue: it never runs.

    Also a `concurrent.futures.CancelledError`, which is what the Future of a `submit` raises. It is none of asyncio's,
    as nobody cancelled the task that waits.

    Example:
        >>> import concurrent.futures, aiopark
        >>> issubclass(aiopark.DroppedError, (aiopark.ClosedError, concurrent.futures.CancelledError))
        True
    """

    __module__ = "aiopark"


class UnsupportedError(RuntimeError):
    """This operating system, or the forced backend, cannot do what was asked.

    Raised when the object is constructed, never later. The message says what to use instead.

    Example:
        >>> import os, subprocess, sys
        >>> run = subprocess.run(
        ...     [sys.executable, "-c", "import aiopark; aiopark.Word()"],
        ...     env={**os.environ, "AIOPARK_BACKEND": "ulock" if sys.platform != "darwin" else "futex"},
        ...     capture_output=True, text=True, check=False,
        ... )
        >>> "UnsupportedError" in run.stderr
        True
    """

    __module__ = "aiopark"
