"""The io_uring of one loop, which waits for all words that its tasks park on.

Who writes what: all here is the loop's thread's, which alone may submit and reap. Only `Arm.take_off` and
`LoopRing.close` may come from another: they wake the word, which takes every pending wait off it at once.

An arm is a wait in the kernel. Until it is `done`, either the kernel waits, or a completion is on its way, which will
be reaped on this loop's thread, and hint whoever stands there then:

  A park that finds its arm not done may sleep. A completion that an earlier permit caused is one hint too many.
  Stale waits are harmless for the same reason: one that swallows a wake passes it on as a hint.

Asking the kernel which waits are completed costs 3 to 5 µs before a task can run. Where a few words are watched, it is
cheaper to look at them: `collect` hints those whose words hold a permit, the tasks run, and then `settle` asks.
Measured: a native thread's unpark reaches its task in LATENCY_BEFORE µs without, LATENCY_AFTER µs with it.
"""

from __future__ import annotations

import errno
import itertools
import os
import weakref
from typing import TYPE_CHECKING, Final

from aiopark import _fork
from aiopark._fence import full_fence
from aiopark._os._io_uring import ForeignThreadError, Ring, settle_private_futexes
from aiopark._word import holds_permit

if TYPE_CHECKING:
    import ctypes

    from aiopark._watch._protocol import Hint
    from aiopark._word import Word

# 0: woken. EAGAIN: the word held something else. ECANCELED: the ring's thread has ended. EINTR: look again.
_EXPECTED: Final = frozenset({0, -errno.EAGAIN, -errno.ECANCELED, -errno.EINTR})
# Up to so many words are looked at, 0.2 µs each, before the kernel is asked.
FEW: Final = 16

# Every ring of a loop. `add`, `discard` and `copy` of a set of weak references are atomic.
rings: Final[set[weakref.ref[LoopRing]]] = set()


class Arm:
    """A wait in the kernel. The owner of the word waits through it again, if it sleeps again before it is done."""

    __slots__ = ("again", "done", "early", "failure", "hint", "memory", "ring", "word")

    def __init__(self, ring: LoopRing, word: Word, hint: Hint) -> None:
        self.ring: Final = ring
        self.word: Final = word
        self.hint: Final = hint
        self.memory: ctypes.c_uint32 | None = (
            word._cell
        )  # the kernel reads it when a wait is submitted; None: taken off
        self.failure: OSError | None = None
        self.done = False
        self.early = False  # hinted, and not reaped yet
        self.again: int | None = None  # what the word held when the owner went to sleep after an early hint

    def complete(self, result: int) -> None:
        """Take note that the kernel waits no more."""
        if result not in _EXPECTED:
            text = f"io_uring's FUTEX_WAIT on the word at {self.word.address:#x}: {os.strerror(-result)}"
            self.failure = OSError(-result, text)
        self.done = True
        self.memory = None
        self.hint()

    def take_off(self) -> None:
        """Have the kernel wait no longer, if it does. From any thread."""
        memory, self.memory = self.memory, None
        if memory is not None:  # else the word may be closed by now
            self.word._wake_all()


class LoopRing:
    """The ring of one loop, a `Source` of it. For the loop's thread, but `close`.

    Args:
        eventfd: what the kernel writes to when it has completions.

    Raises:
        OSError: no ring is to be had.
    """

    __slots__ = ("__weakref__", "_arms", "_early", "_epoch", "_eventfd", "_numbers", "_ring")

    def __init__(self, eventfd: int) -> None:
        self._ring: Ring | None = None
        self._arms: dict[int, Arm] = {}  # by the number of each wait
        self._early: list[Arm] = []
        self._epoch: Final = _fork.epoch
        self._eventfd: Final = eventfd
        self._numbers: Final = itertools.count()
        settle_private_futexes()
        self._ring = Ring(eventfd, full_fence)
        rings.add(weakref.ref(self, rings.discard))

    def __len__(self) -> int:
        return len(self._arms) if self._epoch == _fork.epoch else 0

    def arm(self, word: Word, seen: int, hint: Hint) -> Arm:
        """Wait in the kernel until the word does not hold `seen`.

        Raises:
            OSError: the kernel refused.
        """
        arm = Arm(self, word, hint)
        ring = self._ring
        if ring is None:
            ring = self._ring = Ring(self._eventfd, full_fence)
        mark = ring.mark()
        number = None
        try:
            number = self._prepare(ring, arm, seen)
            self._submit(ring)
        except ForeignThreadError:
            self._retire()  # this arm too is done then, and its task tries again
        except BaseException:
            ring.take_back(mark)
            if number is not None:
                del self._arms[number]
            raise
        return arm

    def _prepare(self, ring: Ring, arm: Arm, seen: int) -> int:
        # A number of its own for each wait, and noted first: no completion is ever one that nobody knows.
        number = next(self._numbers)
        self._arms[number] = arm
        while not ring.prepare(arm.word.address, seen, number, shared=arm.word.shared):
            self._submit(ring)
        return number

    def _submit(self, ring: Ring) -> None:
        try:
            ring.submit()
        except BlockingIOError:
            self._reap(ring)
            ring.submit()

    def collect(self) -> None:
        """See `Source.collect`."""
        ring = self._ring
        if ring is None or self._epoch != _fork.epoch:
            return
        if len(self._arms) > FEW:
            self._reap(ring)
        elif ring.has_more():
            for arm in list(self._arms.values()):
                memory = arm.memory
                if memory is not None and holds_permit(memory):
                    self._early.append(arm)
                    arm.early = True
                    arm.hint()

    def settle(self) -> None:
        """See `Source.settle`."""
        ring = self._ring
        if ring is None or self._epoch != _fork.epoch:
            return
        self._reap(ring)
        while self._early:  # those that are not done, the kernel still waits for
            arm = self._early[-1]
            arm.early, arm.again = False, None
            self._early.pop()

    def _reap(self, ring: Ring) -> None:
        """Take what is completed, and wait on for those who sleep again already."""
        again = []
        try:
            for number, result in ring.completions():
                arm = self._arms.get(number)
                if arm is None:
                    continue  # interrupted before it counted as taken, so it comes twice
                if arm.again is not None and arm.memory is not None and result in _EXPECTED:
                    seen, arm.again = arm.again, None
                    self._prepare(ring, arm, seen)
                    again.append(arm)
                else:
                    arm.complete(result)
                del self._arms[number]
            if again:
                self._submit(ring)
                for arm in again:
                    if arm.memory is None:  # taken off before it was submitted
                        arm.word._wake_all()
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
