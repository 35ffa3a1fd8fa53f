"""Crew: the threads of a Worker.

Who writes what:
  threads   a dict: place to thread. A thread takes a free place, or ends; and it leaves the place at its end.
  _idle     a deque: the waiters of threads that sleep, or are about to. Each thread puts in and takes out its own.
  _closers  a dict, whose keys are the Parkers of tasks that wait for the end. Each puts in and takes out its own.

Each operation on them is one step in C, as in `_permit`. (A copy of a deque is none on free-threaded builds.)

Which race each re-check closes:
  no call sleeps  a caller puts its call into the queue, then looks into `_idle`; a thread enters `_idle`, then looks
                  into the queue once more. Both are operations of `_idle`, so one comes second: the look, which finds
                  the thread and hints it; or the entry, and then the thread's look at the queue finds what was there
                  before. A hint goes to the first in `_idle`, whoever was hinted before: so a thread that took a call
                  hints the next one, if there are more.
  all end         `shut` closes the queue, then wakes every thread. One that did not see it closed sleeps on a lock that
                  was released since, or will be.
  nobody waits    a task enters `_closers`, then looks for threads; a thread leaves its place, then unparks who is in
                  there.

`_thread_waiter` says how a thread sleeps. A hint too many is harmless, so interruptions are, too: who is interrupted
between put and hint withdraws the call.
"""

from __future__ import annotations

import math
import threading
import time
import warnings
from _thread import allocate_lock
from collections import deque
from typing import TYPE_CHECKING, Final

from aiopark import _fork
from aiopark._parker import Parker
from aiopark._thread_waiter import ThreadWaiter
from aiopark._worker import _exit
from aiopark._worker._disposal import tell
from aiopark._worker._queue import CallQueue

if TYPE_CHECKING:
    from aiopark._worker._call import Item
    from aiopark._worker._disposal import Disposal


class WorkerThread(threading.Thread):
    """A thread of a Worker.

    Attributes:
        worker: whose function it runs now, or None. Written by the thread itself.
        sleeps: whether it has nothing to do. Written by the thread itself.
        crew: what it belongs to.
        waiter: how it sleeps.
        is_placed: a lock, released when it has looked for a place.
    """

    worker: object = None
    sleeps = False

    def __init__(self, crew: Crew) -> None:
        super().__init__(name=crew.name, daemon=False)  # otherwise it would inherit that
        self.crew: Final = crew
        self.waiter: Final = ThreadWaiter()
        self.is_placed: Final = allocate_lock()
        self.is_placed.acquire()

    def run(self) -> None:
        self.crew.work(self)

    def has_nothing_to_do(self) -> bool:
        """Return whether it sleeps until there is a call."""
        return self.sleeps and not self.crew.queue


class Crew:
    """See the module.

    Attributes:
        name: of the threads.
        size: how many there may be.
        queue: where they take their work from.
        threads: those that work.
    """

    __slots__ = ("__weakref__", "_closers", "_idle", "_started", "name", "queue", "size", "threads")

    def __init__(self, name: str, size: int, limit: int | None) -> None:
        self.name: Final = name
        self.size: Final = size
        self.queue: Final = CallQueue(limit)
        self.threads: Final[dict[int, WorkerThread]] = {}
        self._idle: Final[deque[ThreadWaiter]] = deque()
        self._started: Final[dict[WorkerThread, bool]] = {}
        self._closers: Final[dict[Parker, bool]] = {}
        _exit.register(self)

    # --- callers ---

    def enter(self, call: Item, *, refuses: bool = False) -> bool:
        """Put the call into the queue, and have a thread see it. As `CallQueue.put`.

        Raises:
            queue.Full: see there.
            RuntimeError: no thread could be started, and there is none; or the main thread has ended, and the calls of
                daemon threads would hold up the end of the interpreter.
        """
        if _exit.ending and threading.current_thread().daemon:
            raise RuntimeError("the main thread has ended: a daemon thread cannot run functions in a Worker any more")
        if not self.queue.put(call, refuses=refuses):
            return False
        self._hint()
        return True

    def dispose(self, disposal: Disposal | None) -> None:
        """Have a thread do it before it goes on to other calls. None: there is nothing to be done."""
        if disposal is None:
            return
        self.queue.put_first(disposal)
        if self.threads:
            self._hint()
        elif self.queue.withdraw(disposal):
            disposal.run()  # they have ended

    def has(self, thread: threading.Thread) -> bool:
        """Return whether it is a thread of this crew; not in the child of a fork."""
        return thread in self.threads.copy().values()

    def running(self) -> int:
        """Return how many functions run."""
        return sum(thread.worker is not None for thread in self.threads.copy().values())

    def _hint(self) -> None:
        try:
            self._idle[0].wake()
        except IndexError:
            if len(self.threads) < self.size and self.queue.may_have_more():  # else somebody took it
                self._start()

    def hint_all(self) -> None:
        """Have every thread look again."""
        for thread in self.threads.copy().values():
            thread.waiter.wake()

    def _start(self) -> None:
        thread = WorkerThread(self)
        self._started[thread] = True
        try:
            thread.start()
        except BaseException as error:
            if thread not in threading.enumerate():  # else it was started, and the wait for it interrupted
                self._started.pop(thread, None)
            if not (isinstance(error, RuntimeError) and self.threads):
                raise
        else:
            thread.is_placed.acquire()  # so that the next caller sees it: else he would start one more

    # --- the end ---

    def close(self) -> None:
        """Let nobody enter any more, and drop those that nobody has begun."""
        self.shut()
        self.queue.drop()

    def shut(self) -> None:
        """Let nobody enter any more."""
        self.queue.shut()
        self.hint_all()

    def collected(self, told: str) -> None:
        """Shut, since the Worker was forgotten; nothing is in the queue, as what is there holds the Worker."""
        if self.threads:
            self.shut()
            warnings.warn(
                f"{told} was never closed: use `async with`, `with` or close()", ResourceWarning, stacklevel=2
            )

    def join(self) -> None:
        """Block until every thread has ended. One of them waits for none: another might do so, too."""
        if self.has(threading.current_thread()):
            return
        for thread in list(self._started):
            while thread in self._started and thread is not threading.current_thread():
                try:
                    thread.join()
                    self._started.pop(thread, None)  # it knows the crew
                except RuntimeError:
                    if thread.ident is not None:
                        raise
                    time.sleep(0.001)  # another thread is about to start it

    async def wait_for_the_end(self) -> None:
        """Sleep until no thread works any more."""
        with Parker() as parker:
            self._closers[parker] = True
            try:
                while self.threads:
                    await parker.park()
            finally:
                self._closers.pop(parker, None)

    def forget_after_fork(self) -> None:
        """In the child of a fork: threads and calls are the parent's."""
        self.queue.forget_after_fork()
        self._idle.clear()
        for one in (self.threads, self._started, self._closers):
            one.clear()

    # --- the threads ---

    def work(self, thread: WorkerThread) -> None:
        """Run calls until there is a reason to end. The whole life of a thread."""
        place = next((place for place in range(self.size) if self.threads.setdefault(place, thread) is thread), None)
        epoch = _fork.epoch
        thread.is_placed.release()
        if place is None:
            return
        try:
            while (item := self._take(thread)) is not None:
                thread.worker = item.worker
                try:
                    item.run()
                except BaseException as error:  # of a callback of a Future; Exceptions the Future logs itself
                    tell(error)
                item = thread.worker = None  # lest it lives on while the thread sleeps
                if _fork.epoch != epoch:
                    return  # the function has forked, and this is the child, where this thread is no worker's
        finally:
            if self.threads.get(place) is thread:
                del self.threads[place]
            # Pairs with: dispose, which appends, then looks for threads; and wait_for_the_end.
            for item in self.queue.take_disposals():
                item.run()
            for parker in list(self._closers):
                parker.unpark()

    def _take(self, thread: WorkerThread) -> Item | None:
        """Sleep until there is a call, and take it; None: there is a reason to end."""
        queue, waiter = self.queue, thread.waiter
        while True:
            over = queue.is_closed() or (_exit.ending and _exit.is_over())  # before the look that finds nothing
            if thread.sleeps or queue.may_have_more():
                item = queue.take()
                if item is not None:
                    if thread.sleeps:
                        thread.sleeps = False
                        self._idle.remove(waiter)
                    if queue.may_have_more():
                        self._hint_another()
                    return item
            if not thread.sleeps:
                self._idle.appendleft(waiter)
                thread.sleeps = True
                continue  # to look once more
            if not over:
                waiter.sleep(time.monotonic() + _exit.LOOK_AGAIN if _exit.ending else math.inf)
            self._idle.remove(waiter)
            if over:
                return None
            thread.sleeps = False

    def _hint_another(self) -> None:
        try:
            self._hint()
        except RuntimeError:
            pass  # no more threads can be started; this one is there
