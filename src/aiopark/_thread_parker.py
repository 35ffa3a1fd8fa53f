"""ThreadParker: parks the calling thread, on a lock of Python, or on a word with the kernel's own wait.

On a word it is the port of parking_lot_core's ThreadParker: the permit is the word's, the wait is the kernel's. Without
one nobody but Python can unpark it, so a lock of Python will do, which takes half the time: the sleeper holds it, and
acquires it once more; a release is a hint, and a second release of it none too many.

Who writes what: the permit cell, see `_permit`; the word, see `_cell`; its lease, see `_cell/_lease`.
"""

from __future__ import annotations

import math
import time

from aiopark._base_parker import BaseParker
from aiopark._cell import LEASE, Cell, Lease
from aiopark._cell import PERMIT as WORD_PERMIT
from aiopark._deadline import Seconds, after, seconds
from aiopark._permit import CLOSED, OWNER, PERMIT, PermitCell
from aiopark._thread_waiter import ThreadWaiter
from aiopark._word import Word, cell_of


class ThreadParker(BaseParker):
    """Parks the calling thread until it is unparked: a port of parking_lot_core's ThreadParker.

    At most one permit is stored. `unpark` deposits it, a park that returns takes it: an unpark that comes first is
    never lost. One thread parks at a time; anyone unparks. Also a context manager, which closes it.

    | methods | may be called from | block |
    | --- | --- | --- |
    | `park`, `park_until`, `park_timeout` | the thread that parks | until unparked, without the GIL; Ctrl-C ends it |
    | `prepare_park` | the same | never |
    | `unpark`, `unpark_lock`, `timed_out` | any thread, a signal handler, a finalizer | never |
    | `close` | any thread, a signal handler, a finalizer | on a word, until the parked thread has noticed |

    A park blocks an event loop that runs on the same thread, too: a coroutine awaits `Parker.park()` instead.

    Args:
        word: the word to park on, with the kernel's own wait: whoever sees the word, native code and other processes
            included, unparks the thread. None: only this process does, and that is faster.
        name: shown by `repr` and in messages.

    Attributes:
        word: the word, or None.

    Raises:
        TypeError: word is no Word, or name no string.
        ClosedError: (all methods) the word was closed; (parks) the ThreadParker was closed, and holds no permit.
        RuntimeError: (parks) another thread is parked here, or somebody else parks on the word.
        OSError: (on a word) the system call that waits or wakes failed in a way that no rule allows for.

    Example:
        >>> import threading, aiopark
        >>> parker = aiopark.ThreadParker()
        >>> threading.Timer(0.01, parker.unpark).start()
        >>> parker.park()

    Source: parking_lot_core, `core/src/thread_parker/mod.rs`. Unlike there, a park that returns takes the permit,
    as in crossbeam's `Parker` and Java's `LockSupport`.
    """

    __slots__ = ()
    _kind = "ThreadParker"

    def __init__(self, word: Word | None = None, *, name: str | None = None) -> None:
        super().__init__(word, name)
        self._permit_word = word

    def park(self) -> None:
        """Block the thread until there is a permit, and take it.

        Example:
            >>> import aiopark
            >>> parker = aiopark.ThreadParker()
            >>> parker.unpark()
            >>> parker.park()
        """
        self._park(math.inf)

    def park_until(self, deadline: Seconds) -> bool:
        """Block the thread until there is a permit, or until the clock reaches the deadline.

        Never early. When permit and deadline come together, the permit wins.

        Args:
            deadline: seconds on `time.monotonic()`. One in the past takes a stored permit or returns at once; math.inf
                waits forever.

        Returns:
            True: unparked, the permit is taken. False: the deadline passed.

        Raises:
            TypeError: deadline is no number.
            ValueError: deadline is NaN.

        Example:
            >>> import time, aiopark
            >>> aiopark.ThreadParker().park_until(time.monotonic() + 0.01)
            False
        """
        return self._park(seconds(deadline, "deadline"))

    def park_timeout(self, timeout: Seconds) -> bool:
        """Block the thread until there is a permit, or for this long. Otherwise as `park_until`.

        Args:
            timeout: seconds from now; negative ones count as none, math.inf waits forever.

        Returns:
            True: unparked, the permit is taken. False: the time passed.

        Raises:
            TypeError: timeout is no number.
            ValueError: timeout is NaN.

        Example:
            >>> import aiopark
            >>> aiopark.ThreadParker().park_timeout(0.01)
            False
        """
        return self._park(after(time.monotonic(), seconds(timeout, "timeout")))

    def _end(self) -> None:
        waiter = self._cell.owner()
        if self.word is not None and isinstance(waiter, ThreadWaiter):
            # The kernel's wait does not end by itself, and the lease ends with the park.
            gone = lambda: self._cell.get(OWNER) is not waiter  # noqa: E731
            cell_of(self.word).wake_until(gone, wait=not waiter.is_this_thread())

    def _park(self, deadline: float) -> bool:
        cell = self._cell
        waiter = ThreadWaiter()
        # No loop in here, and statements that leave the slot: see Cell.sleep_until, and _permit.
        try:
            if cell.setdefault(OWNER, waiter) is not waiter:
                cell.claim(waiter)
            if self.word is not None:
                return _park_on_word(cell_of(self.word), cell, waiter, deadline)
            return _sleep_until_permit(cell, waiter, deadline)
        finally:
            try:
                if cell[OWNER] is waiter:
                    del cell[OWNER]
            except KeyError:
                pass  # another has the slot, or this is the child of a fork inside of the park


def _sleep_until_permit(cell: PermitCell, waiter: ThreadWaiter, deadline: float) -> bool:
    while True:
        if PERMIT in cell:
            try:
                del cell[PERMIT]
            except KeyError:
                pass  # a prepare_park in another thread dropped it
            else:
                return True
        if CLOSED in cell:
            raise cell.closed_error()
        if deadline != math.inf and time.monotonic() >= deadline:
            return False
        waiter.sleep(deadline)


def _park_on_word(word: Cell, cell: PermitCell, waiter: ThreadWaiter, deadline: float) -> bool:
    # Nobody else ends the lease while the thread stands in the slot of the cell; and if an interruption keeps this from
    # ending it, it counts as abandoned once the thread has left that.
    lease = Lease(word, cell.describe, lambda: cell.get(OWNER) is not waiter or waiter.never_wakes())
    leases = word.place.lease
    try:
        # Before the lease: once `close` has returned, the word is free. OWNER was written before this look.
        if CLOSED in cell and word.load() != WORD_PERMIT:
            raise cell.closed_error()
        lease.take()
        return word.sleep_until(
            lambda value: value == WORD_PERMIT and word.take(),
            lambda: CLOSED in cell,
            waiter,
            None if deadline == math.inf else deadline,
        )
    finally:
        # Not `lease.end()`, a call, in which a signal handler that raises would lose the permit that was just taken.
        try:
            if leases[LEASE] is lease:
                del leases[LEASE]
        except KeyError:
            pass  # this is the child of a fork inside of the park, and another took it over
