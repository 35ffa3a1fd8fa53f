"""A thread of its own waits for each watched cell: where the kernel offers nothing better.

Who writes what:
  _seen, _armed   what the owner saw, and True, by the owner (`arm`); False by the thread, before it hints.
  _again          a hint to the thread itself: by `arm` and by `close`.
  closing         True by whoever closes the watch.
  failure         by the thread, before its last hint.
  _runs           True by the thread, first of all.

The thread: sleep on `_again`; if armed, sleep as long as the cell holds `_seen`; `_armed = False`; hint; and from the
start. The owner: stand where a hint finds it; look at the cell; arm; sleep.

  The thread has not yet set `_armed` False: it hints after that, when the owner stands there.
  It has: the owner's `_armed` and `_again` come after, and it looks at the cell once more.
  Whether the cell changes before, between or after does not matter: the thread sleeps on what it looked at last, so the
  kernel compares, and a permit stays until the owner takes it. A thread that slept on a cell with a permit until it
  changes could sleep through "taken, deposited again": that is why it waits for `_again` and not for the cell.
"""

from __future__ import annotations

import errno
import math
import sys
import threading
import time
from typing import TYPE_CHECKING, ClassVar, Final

from aiopark import _fork
from aiopark._cell import Cell, full_fence
from aiopark._errors import ClosedError
from aiopark._thread_waiter import ThreadWaiter

if TYPE_CHECKING:
    from aiopark._watch._protocol import Hint, SourceOf

NAME_OF_THREADS: Final = "aiopark-watch-"


class WatchThread:
    """The thread, and what it shares with the watch. It refers to neither the watch nor the Parker."""

    def __init__(self, cell: Cell, hint: Hint) -> None:
        self.epoch: Final = _fork.epoch
        self.closing = False
        self.failure: BaseException | None = None
        self.thread: Final = threading.Thread(target=self._run, name=f"{NAME_OF_THREADS}{cell.address:#x}", daemon=True)
        self._cell: Final = cell
        self._hint: Final = hint
        self._again: Final = ThreadWaiter()
        self._armed = False
        self._runs = False
        self._seen = 0

    def start(self) -> None:
        """Start the thread. If that fails, or is interrupted, it ends soon."""
        try:
            self.thread.start()
        except BaseException as error:
            self.stop()
            if not isinstance(error, RuntimeError):
                raise
            raise OSError(errno.EAGAIN, f"no thread to watch the word at {self._cell.address:#x}: {error}") from error

    def arm(self, seen: int) -> None:
        """Have the thread wait while the cell holds `seen`."""
        full_fence()  # Pairs with: the fence in _run. The caller stands where a hint finds it before this.
        self._seen = seen
        self._armed = True
        self._again.wake()  # one too many costs a look, and no call has to know what the last one did

    def stop(self) -> None:
        """Have the thread end soon. It has to be woken in the kernel too, if it is among the cell's sleepers."""
        self.closing = True
        self._again.wake()

    def join(self) -> None:
        """Wait until the thread, which has an ident and was stopped, has ended."""
        while not self._runs:
            time.sleep(0)  # it has an ident a moment before it may be joined
        self.thread.join()

    def _run(self) -> None:
        self._runs = True
        try:
            while not self.closing:
                if self._armed:
                    self._cell.sleep_until(lambda value: value != self._seen, lambda: self.closing, self, None)
                    self._armed = False
                    full_fence()  # Pairs with: the fence in arm.
                    self._hint()
                self._again.sleep(math.inf)
        except ClosedError:
            pass  # it was stopped
        except BaseException as error:
            self.failure = error
            self._hint()


class ThreadWatch:
    """See `Watch`."""

    name: ClassVar[str] = "threads"

    __slots__ = ("_cell", "_closed", "_hint", "_thread")

    def __init__(self, cell: Cell, hint: Hint) -> None:
        self._thread: WatchThread | None = None
        self._closed = False
        self._cell: Final = cell
        self._hint: Final = hint

    def arm(self, seen: int, source_of: SourceOf) -> None:  # noqa: ARG002  # the thread looks itself
        """See `Watch.arm`. Starts the thread at the first call, and in a child of a fork."""
        thread = self._mine()
        if thread is None or thread.closing or thread.thread.ident is None:  # its start was interrupted, or failed
            thread = self._thread = WatchThread(self._cell, self._hint)
            thread.start()
        if thread.failure is not None:
            self._thread = None  # it has ended; the next park tries again
            raise thread.failure
        thread.arm(seen)
        if self._closed:  # by another thread, meanwhile
            self.close()

    def close(self) -> None:
        """See `Watch.close`."""
        self._closed = True
        thread = self._mine()
        if thread is not None and thread.thread.ident is not None:
            thread.stop()
            self._cell.wake_until_gone(thread)
            # A finalizer, or what a hint woke, may close it on that very thread; and at exit no thread ends any more.
            if thread.thread is not threading.current_thread() and not sys.is_finalizing():
                thread.join()

    def close_later(self) -> None:
        """See `Watch.close_later`."""
        self._closed = True
        thread = self._mine()
        if thread is not None:
            thread.stop()
            self._cell.wake_until(lambda: thread not in self._cell.sleepers, wait=False)

    def _mine(self) -> WatchThread | None:
        thread = self._thread
        return None if thread is None or thread.epoch != _fork.epoch else thread


def waiter_threads() -> int:
    """Return how many threads wait on behalf of tasks."""
    return sum(thread.name.startswith(NAME_OF_THREADS) for thread in threading.enumerate())
