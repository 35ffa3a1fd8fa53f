"""PermitCell: the permit of a Parker and of a ThreadParker: one cell, whatever sleeps on it.

Locking. None: the permit and the parked waiter are keys of one dict. Each operation on it is one C call on str keys,
which CPython documents as atomic (per-object lock in free-threaded builds; "Thread Safety Guarantees" in the library
reference). So a signal handler or finalizer that unparks may interrupt any line here, this module's own included, and
two finalizers on two threads cannot deadlock on two parkers, as they could with a lock in each.

Who writes what:
  PERMIT  set by `unpark`, from anywhere; removed by a park that returns, and by `prepare_park`, both the owner's.
  OWNER   the waiter of the thread or task that parks. Put in by `claim` (setdefault: of two that try, one wins), and
          taken out by the same thread or task when its park ends, by statements: CPython runs signal handlers after
          calls, and one that raises (Ctrl-C) must not come between taking the permit and returning. One that never
          wakes any more (its loop is closed, its coroutine was thrown away, it was parked before a fork) does not
          take itself out. `claim` puts the next one in its place.
  TAKING  by those that want to do so: of two, one wins, and the other finds the winner parked.
  CLOSED  set by `close`, never removed.

A wake is a hint, as a kernel's is: it grants nothing, whoever it wakes takes the permit from the cell itself. So
there is nothing to put back: a park that is cancelled, times out, dies with its loop or is thrown away leaves the
permit where it is. The price would be a woken one that finds no permit, which sleeps on.

Which race each re-check closes:
  no lost wake-up   a park writes OWNER, then looks for PERMIT; an unpark writes PERMIT, then looks for OWNER. The two
                    writes are operations of one dict, so one comes second, and its look sees the other. So with CLOSED.
  ties              a park whose deadline has passed looks for the permit before it looks at the clock.
  timers            may fire a tick early: the clock decides, and the waiter sleeps again.
"""

from __future__ import annotations

import time
from typing import Any, Final, Protocol

from aiopark import _fork
from aiopark._errors import ClosedError

PERMIT: Final = "permit"
OWNER: Final = "owner"
CLOSED: Final = "closed"
TAKING: Final = "taking"


class Waiter(Protocol):
    """One sleep of one thread or task.

    Attributes:
        since: when the park began, on `time.monotonic()`.
    """

    @property
    def since(self) -> float: ...

    def wake(self) -> None:
        """End the sleep soon. From any thread, a signal handler or a finalizer; never blocks or raises."""
        ...

    def never_wakes(self) -> bool:
        """Return whether it can never go on again. Once True, always True."""
        ...

    def who(self) -> str:
        """Return the name of the thread or task."""
        ...


class PermitCell(dict[str, Any]):
    """The cell. Others know a Parker by it, which does not keep the Parker alive."""

    __slots__ = ("__weakref__", "kind", "name")

    def __init__(self, kind: str, name: str | None) -> None:
        super().__init__()
        self.kind: Final = kind
        self.name: Final = name

    def claim(self, waiter: Waiter) -> None:
        """Stand where wakes are sent to. Whoever calls it takes the waiter out, also if it raises.

        Raises:
            RuntimeError: somebody else is parked.
        """
        taking = f"{TAKING} {_fork.epoch}"  # what a thread of the parent began is not finished in the child
        while (other := self.setdefault(OWNER, waiter)) is not waiter:
            try:
                if not other.never_wakes() or self.setdefault(taking, waiter) is not waiter:
                    raise RuntimeError(
                        f"{other.who()} is already parked on {self.describe()}: one thread or task parks on it at a "
                        f"time; give each of them its own {self.kind}"
                    )
                if self.get(OWNER) is other:
                    self[OWNER] = waiter
            finally:
                try:
                    if self[taking] is waiter:
                        del self[taking]
                except KeyError:
                    pass  # interrupted before it was there

    def owner(self) -> Waiter | None:
        """Return the one who is parked, if that one can still be woken."""
        waiter: Waiter | None = self.get(OWNER)
        return None if waiter is None or waiter.never_wakes() else waiter

    def hint(self) -> None:
        """Have the parked one, if there is one, look again."""
        waiter = self.get("owner")  # not by its name: see `BaseParker`
        if waiter is not None:
            waiter.wake()

    def set_and_hint(self, key: str) -> None:
        """Set a key, and have the parked one look."""
        try:
            self[key] = True
            self.hint()
        except BaseException:
            # A signal handler that raises (Ctrl-C) came in between: do it again, all of it may be done twice.
            self[key] = True
            self.hint()
            raise

    def close(self) -> None:
        """End the pending park, and every later one."""
        self.set_and_hint(CLOSED)

    def describe(self) -> str:
        """Return how messages call it."""
        return f"aiopark.{self.kind} {hex(id(self)) if self.name is None else repr(self.name)}"

    def state(self) -> str:
        """Return closed, permit stored, idle, or who is parked and for how long."""
        if CLOSED in self:
            return "closed"
        if PERMIT in self:
            return "permit stored"
        waiter = self.owner()
        if waiter is None:
            return "idle"
        return f"parked by {waiter.who()} for {max(time.monotonic() - waiter.since, 0.0):.1f} s"

    def closed_error(self) -> ClosedError:
        """Build the error of a park that finds it closed."""
        return ClosedError(f"the {self.kind} was closed: make a new one to park again")
