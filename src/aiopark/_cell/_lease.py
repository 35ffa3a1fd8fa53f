"""The lease of an address: who may park there is told, not asked.

An address has one lease. A park of a ThreadParker on a word takes it and ends it. A Parker on a word takes it when it
is made; it ends once the Parker is closed or collected and no park of it is pending, whichever comes last.

Who writes what:
  Place._lease   a dict with the one key LEASE. `take` puts a lease in (setdefault: of two that try, one wins).
                 `end` takes it out.
  Lease._term    a dict with the one key TERM, there as long as the lease runs. `end` takes it out: of two threads
                 that end one lease, one finds the key, and only that one touches the place. So nobody takes out the
                 lease of somebody else, and no lock is needed that a finalizer could run into.

`end` first has the kernel drop whatever still waits at the address on behalf of the lease, then frees the place: the
next one to park there meets nothing old. It is idempotent, and one that was interrupted may be called again.

A lease is also free if it was abandoned: its thread is the parent's (seen from the child of a fork), or its Parker is
closed and the loop of the pending park is dead. `take` asks that only when it finds another lease in the place.
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Final

from aiopark import _fork

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiopark._cell._cell import Cell

LEASE: Final = "lease"
TERM: Final = "term"


class Lease:
    """The right to park on the address of a cell.

    Args:
        cell: through which it is used.
        holder: says who has it, for messages.
        abandoned: whether nobody can use or end it any more. Once True, always True.
    """

    __slots__ = ("_place", "_term", "abandoned", "cell", "holder")

    def __init__(self, cell: Cell, holder: Callable[[], str], abandoned: Callable[[], bool]) -> None:
        self.cell: Final = cell
        self.holder: Final = holder
        self.abandoned: Final = abandoned
        self._place: Final = cell.place
        self._term: Final[dict[str, bool]] = {TERM: True}

    def take(self) -> None:
        """Take the lease of the address.

        Raises:
            RuntimeError: somebody else has it; the message says who, and what to do.
        """
        place = self._place
        try:
            while (other := place.lease.setdefault(LEASE, self)) is not self:
                if not other.abandoned():
                    raise RuntimeError(
                        f"the word at {place.address:#x} is taken by {other.holder()}: one thread or task parks on a "
                        "word at a time; close that one first, or give each its own Word"
                    )
                other.end()
        except BaseException:
            self.end()  # a signal handler that raises came when all was done
            raise

    def end(self) -> None:
        """Free the address, and let nothing wait there in the kernel any more. Idempotent, from any thread."""
        if TERM in self._term:
            if self.cell.in_kernel:
                self.cell.wake_all()
            try:
                # Statements: no signal handler runs between them.
                del self._term[TERM]
                if self._place.lease[LEASE] is self:
                    del self._place.lease[LEASE]
            except KeyError:
                pass  # another thread ended it; or it was never taken


class Place:
    """What all cells at one address have in common.

    It holds as long as one of them is open: the memory that comes to lie there after that is another one.
    """

    __slots__ = ("__weakref__", "address", "lease", "memories", "shared")

    def __init__(self, address: int, *, shared: bool) -> None:
        self.address: Final = address
        self.shared: Final = shared
        self.lease: Final[dict[str, Lease]] = {}
        self.memories: list[weakref.ref[object]] = []  # what the open cells hold, and some that is gone; under the lock


_places: Final[weakref.WeakValueDictionary[int, Place]] = weakref.WeakValueDictionary()
_attaching = threading.RLock()  # over _places; nothing that could wait is called under it


def place_at(address: int, memory: object, *, shared: bool) -> Place:
    """Return the place at an address, the same one for all cells there.

    Args:
        address: of the cell.
        memory: what the cell holds until it is closed.
        shared: what it says of other processes.

    Raises:
        ValueError: an open word at this address says otherwise about `shared`.
    """
    with _attaching:
        place = _places.get(address)
        alive = [] if place is None else [reference for reference in place.memories if reference() is not None]
        if place is None or (place.shared != shared and not alive):
            place = _places[address] = Place(address, shared=shared)
        if place.shared == shared:
            place.memories = [*alive, weakref.ref(memory)]
            return place
    raise ValueError(
        f"there is a word at {address:#x} already, with shared={place.shared}: all words at one address must say "
        "the same, for that is what decides whom a wake reaches"
    )


@_fork.in_child
def _forget_lock_of_parent() -> None:
    global _attaching  # noqa: PLW0603  # a thread of the parent may have held it
    _attaching = threading.RLock()
