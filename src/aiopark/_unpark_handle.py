"""UnparkHandle: the second half of a two-phase unpark."""

from collections.abc import Callable

from aiopark._not_copied import NotCopied


class UnparkHandle(NotCopied):
    """What `unpark_lock()` returns: the permit is deposited, the wake is still to come.

    Mark under your lock with `unpark_lock()`, release the lock, then call `unpark()`: the woken thread or task
    does not run into the lock that you still hold. A handle that is never called delays the wake to the parked
    side's deadline; it never loses the permit.

    `unpark` may be called from any thread, a signal handler or a finalizer. It does not block.

    Example:
        >>> import threading, aiopark
        >>> parker = aiopark.ThreadParker()
        >>> lock = threading.Lock()
        >>> with lock:
        ...     handle = parker.unpark_lock()
        >>> handle.unpark()
        >>> parker.park_timeout(0)
        True

    Source: parking_lot_core's `UnparkHandle` (`core/src/thread_parker/mod.rs`).
    """

    __slots__ = ("_keeps", "_wake")
    _instead = "call its unpark() in this process"

    def __init__(self, wake: Callable[[], object], keeps: object = None) -> None:
        self._wake: Callable[[], object] | None = wake
        self._keeps = keeps  # alive until the wake is done

    def unpark(self) -> None:
        """Wake whoever is parked. Later calls do nothing.

        Raises:
            OSError: the system call that wakes failed in a way that no rule allows for.

        Example:
            >>> import aiopark
            >>> handle = aiopark.ThreadParker().unpark_lock()
            >>> handle.unpark()
            >>> handle.unpark()
        """
        # Two threads may both see the callable: a second wake is a hint that finds nothing to do.
        wake = self._wake
        if wake is not None:
            try:
                wake()
            except BaseException:
                wake()  # a signal handler that raises (Ctrl-C) came in between
                raise
            self._wake = self._keeps = None
