"""A thread of its own waits for each watched word: where the kernel offers nothing better.

Who writes what:
  _armed    True by the owner of the word (`arm`), False by the thread, before it hints.
  _again    a word of the watch itself: the owner deposits a permit (`arm`), the thread takes it.
  closing   True by whoever closes or collects the watch.
  failure   by the thread, before its last hint.

The thread: park on `_again`; then sleep as long as the word holds no permit; `_armed = False`; hint; and from the
start. The owner: stand where a hint finds it; look at the word; unless `_armed`, set it and unpark `_again`; sleep.

  The owner finds `_armed` False: the thread will look at the word after that, and no hint is missed.
  The owner finds it True: the thread has yet to set it False, and hints after that, when the owner stands there.
  Whether the word changes before, between or after does not matter: the thread sleeps on what it saw last, so the
  kernel compares, and a permit stays until the owner takes it. A thread that slept on a word with a permit until it
  changes could sleep through "taken, deposited again": that is why it waits for `_again` and not for the word.
"""

from __future__ import annotations

import _thread
import sys
import threading
import time
from typing import TYPE_CHECKING, ClassVar, Final

from aiopark import _fork
from aiopark._fence import full_fence
from aiopark._thread_parker import ThreadParker
from aiopark._word import PERMIT, Word

if TYPE_CHECKING:
    from aiopark._watch._protocol import Hint, SourceOf

# Bytes. A watch thread calls one wait and one hint; but a finalizer of anybody's may run there, so not the least.
STACK: Final = 512 * 1024
# Seconds until a thread that should end is asked again.
PATIENCE: Final = 0.001
_stack = threading.RLock()  # over threading.stack_size, which is the process'

# Every watch thread that runs in this process. `add` and `discard` of a set are atomic.
running: Final[set[WatchThread]] = set()


class WatchThread:
    """The thread, and what it shares with the watch. It refers to neither the watch nor the Parker."""

    def __init__(self, word: Word, hint: Hint) -> None:
        self.epoch: Final = _fork.epoch
        self.closing = False
        self.failure: BaseException | None = None
        self.address: Final = word.address
        self._word: Final = word
        self._hint: Final = hint
        self._again: Final = ThreadParker()
        self._armed = False
        self.thread: Final = threading.Thread(target=self._run, name=f"aiopark-watch-{word.address:#x}", daemon=True)

    def start(self) -> None:
        try:
            running.add(self)
            with _stack:
                before = threading.stack_size()
                try:
                    threading.stack_size(STACK)
                    self.thread.start()
                finally:
                    try:
                        threading.stack_size(before)
                    except BaseException:
                        threading.stack_size(before)  # a signal handler that raises came first
                        raise
        except BaseException:  # no thread to be had; or a signal handler that raises, and there is one nobody knows
            self.closing = True
            self._again.unpark()
            if self.thread.ident is None:
                running.discard(self)
            raise

    def arm(self) -> None:
        full_fence()  # Pairs with: the fence in _run. The caller's place in the slot is visible before this look.
        if not self._armed:
            try:
                self._armed = True
                self._again.unpark()
            except BaseException:
                self._again.unpark()  # a signal handler that raises came in between
                raise

    def stop(self) -> bool:
        """Ask the thread to end. False: it may have been on its way to sleep, and have missed it; ask again."""
        self.closing = True
        self._again.unpark()
        if self in running:
            try:
                self._word._wake_all()
            except OSError:
                if self in running:
                    raise  # else it has ended, and somebody unmapped the word since
        return not self.thread.is_alive()

    def stop_later(self) -> None:
        """Ask the thread to end, without waiting: from a finalizer, or from the thread itself."""
        # Another thread asks again. Not a threading.Thread, whose lock may be held by what a finalizer interrupts.
        if not self.stop() and not sys.is_finalizing():
            _thread.start_new_thread(_stop, (self,))

    def _run(self) -> None:
        word = self._word
        memory = word._cell  # held until the kernel is done with it
        try:
            while True:
                self._again.park()
                if self.closing:
                    break
                while (value := word.load()) != PERMIT and not self.closing:
                    word._wait(value)
                self._armed = False
                full_fence()  # Pairs with: the fence in arm.
                self._hint()
        except BaseException as error:
            self.failure = error
            self._hint()
        finally:
            del memory
            running.discard(self)  # from now on the word may be another's


def is_waited_for(address: int) -> bool:
    """Tell whether a watch thread, other than this one, still uses the word at the address."""
    here = threading.current_thread()
    return any(thread.address == address and thread.thread is not here for thread in running.copy())


class ThreadWatch:
    """See `Watch`."""

    name: ClassVar[str] = "threads"

    __slots__ = ("__weakref__", "_closed", "_hint", "_thread", "_word")

    def __init__(self, word: Word, hint: Hint) -> None:
        self._thread: WatchThread | None = None
        self._closed = False
        self._word: Final = word
        self._hint: Final = hint

    def arm(self, seen: int, source_of: SourceOf) -> None:  # noqa: ARG002  # the thread looks itself
        """See `Watch.arm`. Starts the thread at the first call, and in a child of a fork."""
        thread = self._thread
        if thread is None or thread.epoch != _fork.epoch:
            thread = WatchThread(self._word, self._hint)
            thread.start()
            self._thread = thread
        if thread.failure is not None:
            self._thread = None  # it has ended; the next park tries again
            raise thread.failure
        thread.arm()
        if self._closed:  # by another thread, meanwhile
            self.close()

    def close(self) -> None:
        """See `Watch.close`."""
        self._closed = True
        thread = self._mine()
        if thread is None:
            return
        if thread.thread is threading.current_thread():
            thread.stop_later()  # called by a finalizer, say, or by what a hint woke
        else:
            # At exit no thread ends any more, it is just stopped.
            while not thread.stop() and not sys.is_finalizing():
                thread.thread.join(PATIENCE)
        if self._thread is thread:
            self._thread = None  # last: a close that is interrupted may be called again

    def __del__(self) -> None:
        thread = self._mine()
        if thread is not None:
            thread.stop_later()

    def _mine(self) -> WatchThread | None:
        thread = self._thread
        return None if thread is None or thread.epoch != _fork.epoch else thread


def _stop(thread: WatchThread) -> None:
    while not thread.stop():
        time.sleep(PATIENCE)


@_fork.in_child
def _after_fork_in_child() -> None:
    global _stack  # noqa: PLW0603  # a thread of the parent may have held it
    _stack = threading.RLock()
    running.clear()
