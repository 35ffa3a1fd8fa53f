"""Mailbox: how any thread tells a loop which of its sleepers to wake, with one ring for many posts.

Who writes what, and which race is closed:

  _box      a deque; `append` by any thread, `popleft` by the loop's thread. Each is one atomic C call (documented),
            so no lock is held that a signal handler or finalizer could run into, and nothing blocks.
  _drains   the number of drains begun. Written by the loop's thread only.
  _rung     the number of drains begun when the doorbell was last rung. Written by any poster, after its ring.

A post appends, then rings unless `_rung == _drains`, that is, unless somebody rang since the last drain began.
A drain counts itself, then appends a mark to the box and takes everything out up to that mark.

  A post that does not ring is not lost: it appended before it looked. Either its append comes before the mark of
  the current drain, which then takes it out; or after, and then it sees the new `_drains`, which a skipped ring
  must equal: somebody rang after that drain began, so another drain will come. (Append and mark are operations of
  one deque and therefore ordered; that order carries `_drains` across.)
  Ring first, note second: a poster that is interrupted in between (by a signal handler that raises, say) leaves
  a ring too many, never one too few. The same holds for two posters that note in the wrong order.
  Only what was in the box when the drain began is drained: a producer that never stops cannot starve the loop.
"""

from __future__ import annotations

import weakref
from collections import deque
from typing import Final, Protocol

from aiopark import _fork


class Sleeper(Protocol):
    """What lies in the box."""

    def resume(self) -> None:
        """Go on, on the loop's thread. Lets KeyboardInterrupt and SystemExit out, nothing else."""
        ...


class _Mark:
    """Where a drain ends. A drain inside a drain (a nested loop) passes the outer one's mark for it."""

    __slots__ = ("passed",)

    def __init__(self) -> None:
        self.passed = False

    def resume(self) -> None:
        self.passed = True


class Mailbox:
    """The posts for one loop.

    Attributes:
        parked: how many tasks sleep on this loop. Written by the loop's thread only.
    """

    __slots__ = ("__weakref__", "_box", "_drains", "_epoch", "_rung", "parked")

    def __init__(self) -> None:
        self._box: deque[Sleeper] = deque()
        self._drains = 0
        self._rung = -1
        self._epoch: Final = _fork.epoch
        self.parked = 0
        mailboxes.add(weakref.ref(self, mailboxes.discard))

    def _ring(self) -> None:
        """Make the loop call `drain` soon. From any thread; at a dead loop, do nothing."""
        raise NotImplementedError

    def is_ghost(self) -> bool:
        """Tell whether the loop is one of the parent's, seen from the child of a fork."""
        return self._epoch != _fork.epoch

    def post(self, sleeper: Sleeper) -> None:
        """Have the sleeper resumed on the loop's thread. Any thread, signal handlers, finalizers; no block."""
        self._box.append(sleeper)
        drains = self._drains
        if self._rung != drains and not self.is_ghost():
            self._ring()
            self._rung = drains

    def drain(self) -> None:
        """Resume everyone who was posted before now. On the loop's thread."""
        self._drains += 1
        mark = _Mark()
        self._box.append(mark)
        take = self._box.popleft
        try:
            while not mark.passed:
                take().resume()
        finally:
            if not mark.passed:  # a task let KeyboardInterrupt or SystemExit out: the others are not lost
                self._ring()


# Every mailbox that is alive. `add`, `discard` and `copy` of a set of weak references are atomic.
mailboxes: Final[set[weakref.ref[Mailbox]]] = set()


def parked_tasks() -> int:
    """Count the tasks that sleep, over all loops of this process."""
    alive = (reference() for reference in mailboxes.copy())
    return sum(mailbox.parked for mailbox in alive if mailbox is not None and not mailbox.is_ghost())
