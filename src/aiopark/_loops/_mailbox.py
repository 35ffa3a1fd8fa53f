"""Mailbox: how any thread tells a loop which of its sleepers to wake, with one ring for many posts.

Who writes what, and which race is closed:

  _box      a deque; `append` by any thread, `popleft` by the loop's thread. Each is one atomic C call (documented),
            so no lock is held that a signal handler or finalizer could run into, and nothing blocks.
  _drains   the number of drains begun. Written by the loop's thread only.
  _rung     the number of drains begun when the doorbell was last rung. Written by any poster, after its ring.
            By the loop's thread -1, so that the next post rings, where a drain may have been forgotten.

A post appends, then rings unless `_rung == _drains`, that is, unless somebody rang since the last drain began, with a
ring that cannot get lost.
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
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from aiopark import _fork

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiopark._loops._protocol import Source


class Sleeper(Protocol):
    """What lies in the box."""

    def resume(self) -> None:
        """Go on, on the loop's thread. Lets KeyboardInterrupt and SystemExit out, nothing else."""
        ...


class _Mark:
    """Where a drain ends. A drain inside a drain passes the outer one's mark for it; a stale one is passed over."""

    passed = False

    def resume(self) -> None:
        self.passed = True


class Mailbox:
    """The posts for one loop.

    Attributes:
        of_parent: whether the loop is the parent's, seen from the child of a fork.
        parked: how many tasks sleep on this loop. Written by the loop's thread only.
        kept: see `Loop.kept`.
    """

    __slots__ = ("__weakref__", "_box", "_drains", "_rung", "kept", "of_parent", "parked")

    def __init__(self) -> None:
        self._box: deque[Sleeper] = deque()
        self._drains = 0
        self._rung = -1
        self.of_parent = False
        self.parked = 0
        self.kept: set[Any] = set()

    def publish(self, key: int) -> None:
        """Let others find the mailbox. The last act of a subclass' constructor."""
        mailboxes[key] = weakref.ref(self, partial(_forget, key))

    def _ring(self) -> None:
        """Make the loop call `drain` soon. From any thread; at a dead loop, do nothing."""
        raise NotImplementedError

    def never_runs(self) -> bool:
        """Return whether the loop can never run again. Once True, always True."""
        return self.of_parent

    def forget_after_fork(self) -> None:
        """In the child of a fork: this loop is the parent's. Its doorbell counts as rung for good."""
        self.of_parent = True
        self._rung = self._drains

    def post(self, sleeper: Sleeper) -> None:
        """Have the sleeper resumed on the loop's thread. Any thread, signal handlers, finalizers; no block."""
        self._box.append(sleeper)
        drains = self._drains
        if self._rung != drains:
            self._ring()
            self._rung = drains

    def drain(self) -> None:
        """Resume everyone who was posted before now. On the loop's thread."""
        try:
            self._drains += 1
            mark = _Mark()
            self._box.append(mark)
            box = self._box
            while not mark.passed:
                # Resumed first, taken out after: interrupted in between, it is resumed once more, which is harmless.
                sleeper = box[0]
                sleeper.resume()
                if box and box[0] is sleeper:  # else a drain inside this one (a nested loop) took it
                    box.popleft()
        except BaseException:
            self._ring()  # a task let KeyboardInterrupt or SystemExit out: the others are not lost
            raise

    def drain_around(self, source: Source, *, nested: bool = False) -> None:
        """Let the source post, and drain: its posts need no ring. On the loop's thread, called by the loop.

        Args:
            source: the loop's.
            nested: whether those who are resumed may run the loop, which then waits for a ring: so nothing may wait
                until they have run.
        """
        try:
            self._rung = self._drains  # a ring is under way: the drain below
            if nested:
                source.after_drain()
            else:
                source.before_drain()
            self.drain()
            source.after_drain()
        except BaseException:
            self._ring()  # the drain may not have begun
            raise


# Every mailbox that is alive, by the id of its loop or trio token, which it keeps alive. Each operation is atomic.
mailboxes: Final[dict[int, weakref.ref[Mailbox]]] = {}


def _forget(key: int, reference: weakref.ref[Mailbox]) -> None:
    # Were another one published in between, the next park would make one more, and both would work.
    if mailboxes.get(key) is reference:
        mailboxes.pop(key, None)


def _alive() -> Iterator[Mailbox]:
    return (mailbox for reference in mailboxes.copy().values() if (mailbox := reference()) is not None)


def parked_tasks() -> int:
    """Return how many tasks sleep, over all loops of this process."""
    return sum(mailbox.parked for mailbox in _alive() if not mailbox.never_runs())


@_fork.in_child
def _forget_loops_of_parent() -> None:
    for mailbox in _alive():
        mailbox.forget_after_fork()
