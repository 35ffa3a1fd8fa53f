"""ThreadParker: parks the calling thread on a word.

Who writes what: the word's cell, see `_word`; the owner slot of the word, see `_owner`. There is no other shared
state, and no lock: whatever interrupts a park (a signal handler, a finalizer) may unpark it.
"""

import math
import time
from typing import Final

from aiopark._deadline import Seconds, after, seconds
from aiopark._unpark_handle import UnparkHandle
from aiopark._word import PERMIT, Word


class ThreadParker:
    """Parks the calling thread until it is unparked: a port of parking_lot_core's ThreadParker.

    At most one permit is stored. `unpark` deposits it, a park that returns takes it: an unpark that comes first
    is never lost. One thread parks at a time; anyone unparks.

    Args:
        word: the cell to park on; a private one of its own if None.

    Attributes:
        word: the cell.

    Raises:
        TypeError: word is no Word.

    Example:
        >>> import threading, aiopark
        >>> parker = aiopark.ThreadParker()
        >>> threading.Timer(0.01, parker.unpark).start()
        >>> parker.park()

    Source: parking_lot_core, `core/src/thread_parker/mod.rs`. Unlike there, a park that returns takes the permit,
    as in crossbeam's `Parker` and Java's `LockSupport`.
    """

    __slots__ = ("__weakref__", "word")

    def __init__(self, word: Word | None = None) -> None:
        if word is not None and not isinstance(word, Word):
            raise TypeError(f"a ThreadParker parks on a Word, not on {type(word).__name__}")
        self.word: Final[Word] = Word() if word is None else word

    def __repr__(self) -> str:
        return f"<aiopark.ThreadParker on {self.word!r}>"

    def prepare_park(self) -> None:
        """Drop a stale permit: what was unparked before no longer counts.

        For the thread that will park. Does not block.

        Raises:
            ClosedError: the word was closed.

        Example:
            >>> import aiopark
            >>> parker = aiopark.ThreadParker()
            >>> parker.unpark()
            >>> parker.prepare_park()
            >>> parker.park_timeout(0)
            False
        """
        self.word._prepare()

    def park(self) -> None:
        """Block the thread until there is a permit, and take it.

        Blocks, with the GIL released; Ctrl-C ends it on the main thread. It blocks an event loop that runs on
        this thread too: a coroutine awaits `Parker.park()` instead.

        Raises:
            RuntimeError: another thread is parked on the word.
            ClosedError: the word was closed.
            OSError: the system call that waits failed in a way that no rule allows for.

        Example:
            >>> import aiopark
            >>> parker = aiopark.ThreadParker()
            >>> parker.unpark()
            >>> parker.park()
        """
        self.word._park(None)

    def park_until(self, deadline: Seconds) -> bool:
        """Block the thread until there is a permit, or until the clock reaches the deadline.

        Never early. When permit and deadline come together, the permit wins. Blocks as `park` does.

        Args:
            deadline: seconds on `time.monotonic()`. One in the past takes a stored permit or returns at once;
                math.inf waits forever.

        Returns:
            True: unparked, the permit is taken. False: the deadline passed.

        Raises:
            TypeError: deadline is no number.
            ValueError: deadline is NaN.
            RuntimeError: another thread is parked on the word.
            ClosedError: the word was closed.
            OSError: the system call that waits failed in a way that no rule allows for.

        Example:
            >>> import time, aiopark
            >>> aiopark.ThreadParker().park_until(time.monotonic() + 0.01)
            False
        """
        return self.word._park(_finite(seconds(deadline, "deadline")))

    def park_timeout(self, timeout: Seconds) -> bool:
        """Block the thread until there is a permit, or for this long. Otherwise as `park_until`.

        Args:
            timeout: seconds from now; negative ones count as none, math.inf waits forever.

        Returns:
            True: unparked, the permit is taken. False: the time passed.

        Raises:
            TypeError: timeout is no number.
            ValueError: timeout is NaN.
            RuntimeError: another thread is parked on the word.
            ClosedError: the word was closed.
            OSError: the system call that waits failed in a way that no rule allows for.

        Example:
            >>> import aiopark
            >>> aiopark.ThreadParker().park_timeout(0.01)
            False
        """
        return self.word._park(_finite(after(time.monotonic(), seconds(timeout, "timeout"))))

    def timed_out(self) -> bool:
        """After `park_until` gave False: is there still no permit?

        Ask it under your lock, the one under which others call `unpark_lock()`.

        May be called from any thread. Does not block.

        Returns:
            True: no permit came. False: one came after the deadline and is stored.

        Raises:
            ClosedError: the word was closed.

        Example:
            >>> import aiopark
            >>> parker = aiopark.ThreadParker()
            >>> parker.park_timeout(0), parker.timed_out()
            (False, True)
            >>> parker.unpark()
            >>> parker.timed_out()
            False
        """
        return self.word.load() != PERMIT

    def unpark_lock(self) -> UnparkHandle:
        """Deposit the permit now, wake later: for a caller that holds a lock.

        May be called from any thread, a signal handler or a finalizer. Does not block.

        Returns:
            The handle whose `unpark()` wakes.

        Raises:
            ClosedError: the word was closed.

        Example:
            >>> import aiopark
            >>> parker = aiopark.ThreadParker()
            >>> handle = parker.unpark_lock()  # under your lock
            >>> handle.unpark()                # after it
            >>> parker.park()
        """
        return self.word.unpark_lock()

    def unpark(self) -> None:
        """Deposit the permit and wake the parked thread.

        May be called from any thread, a signal handler or a finalizer. Does not block.

        Raises:
            ClosedError: the word was closed.
            OSError: the system call that wakes failed in a way that no rule allows for.

        Example:
            >>> import aiopark
            >>> parker = aiopark.ThreadParker()
            >>> parker.unpark()
            >>> parker.park()
        """
        self.word.unpark()


def _finite(deadline: float) -> float | None:
    return None if deadline == math.inf else deadline
