"""One io_uring a loop waits for all words that its tasks park on, with no thread (Linux 6.7 and later).

Who writes what: all of a `LoopRing`, and `Arm.done`, are the loop's thread's, which alone may submit and reap. Any
thread may close a watch; so it tells the kernel by waking the word, which takes every pending wait off it at once.

An arm is one wait in the kernel. Until it is `done`, either the kernel waits, or a completion is on its way, which
will be reaped on this loop's thread, and hint whoever stands there then:

  A park that finds its arm not done may sleep. A completion that an earlier permit caused is one hint too many.
  Stale arms are harmless for the same reason: one that swallows a wake passes it on as a hint. But only where its
  loop still runs; so a park on another loop takes the arm on the first one off, before it makes its own.
"""

from __future__ import annotations

import errno
import itertools
import os
import weakref
from typing import TYPE_CHECKING, ClassVar, Final

from aiopark import _fork
from aiopark._errors import UnsupportedError
from aiopark._os._io_uring import ForeignThreadError, Ring, settle_private_futexes
from aiopark._watch._threads import ThreadWatch

if TYPE_CHECKING:
    import ctypes

    from aiopark._watch._protocol import Hint, SourceOf
    from aiopark._word import Word

# 0: woken. EAGAIN: the word held something else. ECANCELED: the ring's thread has ended. EINTR: look again.
_EXPECTED: Final = frozenset({0, -errno.EAGAIN, -errno.ECANCELED, -errno.EINTR})
# No ring is to be had, as no descriptor or memory is left: a thread must do.
_NONE_LEFT: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})

# Every ring of a loop. `add`, `discard` and `copy` of a set of weak references are atomic.
rings: Final[set[weakref.ref[LoopRing]]] = set()


class Arm:
    """One wait in the kernel."""

    __slots__ = ("done", "failure", "hint", "memory", "ring", "word")

    def __init__(self, ring: LoopRing, word: Word, hint: Hint) -> None:
        self.ring: Final = ring
        self.word: Final = word
        self.hint: Final = hint
        self.memory: ctypes.c_uint32 | None = word._cell  # the kernel reads it when the wait is submitted
        self.failure: OSError | None = None
        self.done = False

    def complete(self, result: int) -> None:
        if result not in _EXPECTED:
            text = f"io_uring's FUTEX_WAIT on the word at {self.word.address:#x}: {os.strerror(-result)}"
            self.failure = OSError(-result, text)
        self.done = True
        self.memory = None
        self.hint()

    def take_off(self) -> None:
        """Have the kernel wait no longer. From any thread."""
        self.word._wake_all()
        self.memory = None


class LoopRing:
    """The ring of one loop, a `Source` of it. For the loop's thread, but `close`.

    Args:
        eventfd: what the kernel writes to when it has completions.

    Raises:
        OSError: no ring is to be had.
    """

    __slots__ = ("__weakref__", "_arms", "_epoch", "_eventfd", "_numbers", "_ring")

    def __init__(self, eventfd: int) -> None:
        self._ring: Ring | None = None
        self._arms: dict[int, Arm] = {}
        self._epoch: Final = _fork.epoch
        self._eventfd: Final = eventfd
        self._numbers: Final = itertools.count()
        settle_private_futexes()
        self._ring = Ring(eventfd)
        rings.add(weakref.ref(self, rings.discard))

    def __len__(self) -> int:
        return len(self._arms) if self._epoch == _fork.epoch else 0

    def arm(self, word: Word, seen: int, hint: Hint) -> Arm:
        """Wait in the kernel until the word does not hold `seen`.

        Raises:
            OSError: the kernel refused.
        """
        arm = Arm(self, word, hint)
        number = next(self._numbers)
        self._arms[number] = arm
        try:
            try:
                self._submit(word, seen, number)
            except BlockingIOError:
                self.collect()
                self._submit(word, seen, number)
        except ForeignThreadError:
            self._retire()  # this arm too is done then, and its task tries again
        except OSError:
            del self._arms[number]
            raise
        return arm

    def _submit(self, word: Word, seen: int, number: int) -> None:
        if self._ring is None:
            self._ring = Ring(self._eventfd)
        self._ring.wait(word.address, seen, number, shared=word.shared)

    def collect(self) -> None:
        """See `Source.collect`."""
        if self._ring is None or self._epoch != _fork.epoch:
            return
        try:
            for number, result in self._ring.completions():
                # Taken out last: interrupted in between, it is completed once more, which is harmless.
                if number in self._arms:
                    self._arms[number].complete(result)
                    del self._arms[number]
        except ForeignThreadError:
            self._retire()

    def _retire(self) -> None:
        """Give the ring up: the loop ran on another thread before, whose it is. All are hinted, and arm again."""
        ring, self._ring = self._ring, None
        arms, self._arms = self._arms, {}
        for arm in arms.values():
            arm.take_off()
            arm.complete(0)
        if ring is not None:
            ring.close()

    def close(self) -> None:
        """See `Source.close`. The kernel waits no longer when it returns. Idempotent."""
        ring, self._ring = self._ring, None
        if self._epoch == _fork.epoch:
            for arm in list(self._arms.values()):
                arm.take_off()
                arm.done = True
        self._arms.clear()
        if ring is not None:
            ring.close()

    def __del__(self) -> None:
        self.close()


class RingWatch:
    """See `Watch`.

    Args:
        word: the word.
        hint: see `Hint`.
        alone: whether nothing but a ring will do; else a thread waits where a loop can have no ring.
    """

    name: ClassVar[str] = "uring"

    __slots__ = ("__weakref__", "_alone", "_arm", "_closed", "_hint", "_thread", "_used", "_word")

    def __init__(self, word: Word, hint: Hint, *, alone: bool = False) -> None:
        self._used = False
        self._closed = False
        self._arm: Arm | None = None
        self._thread: ThreadWatch | None = None
        self._word: Final = word
        self._hint: Final = hint
        self._alone: Final = alone

    def arm(self, seen: int, source_of: SourceOf) -> None:
        """See `Watch.arm`."""
        if not self._arm_ring(seen, source_of):
            if self._thread is None:
                self._thread = ThreadWatch(self._word, self._hint)
            self._thread.arm(seen, source_of)
        if self._closed:  # by another thread, meanwhile
            self._take_off()

    def _arm_ring(self, seen: int, source_of: SourceOf) -> bool:
        try:
            ring: LoopRing | None = source_of(LoopRing)
            if ring is None:
                if self._alone:
                    raise UnsupportedError(
                        "this event loop watches no eventfd, which a ring needs; unset AIOPARK_WATCHER, or use threads"
                    )
                return False
            arm = self._arm
            if arm is not None and not arm.done:
                if arm.ring is ring:
                    return True
                arm.take_off()  # on the other loop it would swallow the wake
            if arm is not None and arm.failure is not None:
                self._arm = None
                raise arm.failure
            self._used = True
            self._arm = ring.arm(self._word, seen, self._hint)
        except OSError as error:
            if self._alone or error.errno not in _NONE_LEFT:
                raise
            return False
        return True

    def close(self) -> None:
        """See `Watch.close`."""
        if not self._closed:
            self._closed = True
            self._take_off()
            if self._thread is not None:
                self._thread.close()

    def _take_off(self) -> None:
        if self._used:
            # Also what an interrupted arm left in the kernel: it would swallow a wake of the word's next owner.
            self._word._wake_all()
            if self._arm is not None:
                self._arm.memory = None

    def __del__(self) -> None:
        if not self._closed:
            self._take_off()
