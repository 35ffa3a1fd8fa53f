"""Cell: an aligned 32-bit cell, 1 = parked (no permit), 0 = unparked (permit), and who waits on it.

Memory ordering. This module is the only place that loads or stores the cell (the portable backend's comparison
aside). A ctypes access is one plain aligned move: load-acquire and store-release on x86, relaxed elsewhere.

Who writes the cell, under what:
  anyone    stores 0 (`store`, `unpark`): a release, so what was written before is seen by whoever takes it;
  the owner stores 1 (`take`, `prepare`): no lock, the lease sees to it that there is one owner (`_lease`).

Which race each fence closes:
  unparker  "data = x; word = 0". The data must be visible with the 0: a fence before the store where a plain store is
            no release.
  owner     "word = 1; look at data". Without a full fence the store of 1 may still sit in the store buffer while the
            data is read (x86 too). An unpark in between would then be overwritten unseen: lost. With it, either the
            owner's reads see the data, or the unparker's 0 comes later and stays.
The kernel compares and sleeps atomically. That a store followed by its wake is not missed by a wait which compares at
the same time is each kernel's own promise (on Linux by full barriers in kernel/futex/futex.h).

An unpark wakes everybody who waits at the address. That is one owner, and at times a wait that is not wanted any more
or somebody in `wait_while`; were only one of them woken, it could be the wrong one.

Who writes the rest:
  memory    None by `close`, never anything else.
  sleepers  a key each by the threads that wait here; each takes its own out.
  groups    by `wait_while`, each loop's thread its own.
  in_kernel True by the thread of a loop whose ring is about to wait here, never anything else.
Threads that wait and `close`: a thread puts its key into `sleepers`, then looks at `memory`; `close` writes `memory`,
then looks at `sleepers`, and wakes until all have left. A wake that comes between a thread's look and its sleep does
nothing, since the cell does not change: that is why it has to be repeated.
"""

from __future__ import annotations

import _thread
import sys
import time
from functools import partial
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, Final

from aiopark import _fork
from aiopark._cell._fence import PLAIN_IS_ORDERED, full_fence
from aiopark._cell._lease import LEASE, Place
from aiopark._errors import ClosedError, UnsupportedError
from aiopark._os import default_backend
from aiopark._unpark_handle import UnparkHandle

if TYPE_CHECKING:
    import ctypes
    from collections.abc import Callable

    from aiopark._cell._lease import Lease

PARKED: Final = 1
PERMIT: Final = 0
AT_ONCE: Final = 20  # looks
PATIENCE: Final = 0.0005  # seconds until a thread that should look again is woken once more


def closed() -> ClosedError:
    """Build the error of whoever uses a closed word."""
    return ClosedError("the word was closed: make a new one")


class Cell:
    """A cell, through one Word.

    Args:
        memory: the cell; whatever keeps its memory alive hangs on it.
        place: what it shares with other cells at its address.
        keeps_memory: whether `memory` does keep the memory alive; a bare address promises nothing.

    Raises:
        UnsupportedError: shared, and the backend reaches no other process.
    """

    __slots__ = (
        "__weakref__", "_backend", "_order", "_sleep", "_wake_all", "address", "groups", "in_kernel", "keeps_memory",
        "memory", "place", "sleepers",
    )  # fmt: skip

    # What finalizers call goes by no name of the module: on free-threaded builds they run after those are gone.
    _closed = staticmethod(closed)
    _handle = UnparkHandle

    def __init__(self, memory: ctypes.c_uint32, place: Place, *, keeps_memory: bool) -> None:
        backend = default_backend()
        if place.shared and not backend.supports_shared:
            raise UnsupportedError(
                f"{backend.name} waits and wakes within one process; pass shared=False for a word that only this "
                "process uses, and let other processes wake it by a pipe or socket that one of its threads reads"
            )
        self.address: Final = place.address
        self.place = place
        self.keeps_memory: Final = keeps_memory
        self.memory: ctypes.c_uint32 | None = memory
        self.sleepers: Final[dict[object, tuple[int, int]]] = {}  # thread and epoch of each
        self.groups: Final[dict[object, Any]] = {}  # see `_waiting`
        self.in_kernel = False
        self._backend = backend
        keywords: dict[str, Any] = {"shared": True} if place.shared else {}  # none: 0.3 kB a word less
        self._sleep: Callable[[int, float | None], None] = partial(backend.wait, place.address, **keywords)
        self._wake_all: Callable[[], None] = partial(backend.wake_all, place.address, **keywords)
        self._order = None if PLAIN_IS_ORDERED else full_fence

    # --- the value ---

    def load(self) -> int:
        """Load with acquire."""
        memory = self.memory
        if memory is None:
            raise self._closed()
        value = memory.value  # Pairs with: the release in store.
        if self._order is not None:
            self._order()
        return value

    def load_for(self, sleeper: object) -> int:
        """Load, and have `close` wait for that: for a task that sleeps, at a bare address whose memory may go then."""
        if self.keeps_memory:
            return self.load()
        try:
            self.sleepers[sleeper] = (_thread.get_ident(), _fork.epoch)
            return self.load()
        finally:
            try:
                del self.sleepers[sleeper]
            except KeyError:
                pass  # interrupted before it was there

    def store(self, value: int) -> ctypes.c_uint32:
        """Store with release, and return the memory, for those who need it a little longer."""
        memory = self.memory
        if memory is None:
            raise self._closed()
        if self._order is not None:
            self._order()
        memory.value = value  # Pairs with: the load in take, and the kernel's comparison.
        return memory

    def prepare(self) -> None:
        """Drop the permit. Owner only; with the owner's fence, since "prepare, look at the data, park" may follow."""
        self.store(PARKED)
        full_fence()

    def take(self) -> bool:
        """Take the permit if there is one. Owner only, who then returns at once: no call of C may come in between."""
        memory = self.memory
        return memory is not None and memory.value == PERMIT and _take_from(memory)

    # --- wake ---

    def unpark(self) -> None:
        """Deposit the permit and wake everybody."""
        memory = self.store(0)  # noqa: F841  # keeps the memory until the wake is done, whoever closes meanwhile
        try:
            self._wake_all()
        except BaseException:
            self._wake_all()  # a signal handler that raises (Ctrl-C) came in between
            raise

    def unpark_lock(self) -> UnparkHandle:
        """Deposit the permit now, wake later."""
        return self._handle(self._wake_all, self.store(0))

    def wake_all(self) -> None:
        """Have everybody who waits here look again. Closed or not."""
        self._wake_all()

    def wake(self, number: int) -> None:
        """Have as many look again; or all, which is no harm."""
        if number > 64:  # a system call each
            self._wake_all()
            return
        for _ in range(number):
            self._backend.wake_one(self.address, shared=self.place.shared)

    # --- threads that wait ---

    def sleep_until(
        self, ready: Callable[[int], bool], ended: Callable[[], bool], sleeper: object, deadline: float | None
    ) -> bool:
        """Block the thread until `ready(value)`, or until time.monotonic() reaches the deadline.

        Args:
            ready: looks at the value of the cell; in a tie with the deadline it wins.
            ended: whether to end with ClosedError, if not ready.
            sleeper: any key of its own, for `wake_until_gone`.
            deadline: None to wait forever.

        Raises:
            ClosedError: the word was closed, or `ended()`.
        """
        # CPython runs signal handlers after calls and where loops go round, and one may raise (Ctrl-C): no loop here,
        # since CPython 3.12 and 3.13 leave a `while` without the `finally` around it while it jumps back.
        memory = self.memory  # keeps the memory while the kernel looks at it; but no traceback keeps it, see below
        try:
            self.sleepers[sleeper] = (_thread.get_ident(), _fork.epoch)
            return self._sleep_until(ready, ended, deadline)
        finally:
            memory = None  # noqa: F841
            try:
                del self.sleepers[sleeper]
            except KeyError:
                pass  # interrupted before it was there

    def _sleep_until(self, ready: Callable[[int], bool], ended: Callable[[], bool], deadline: float | None) -> bool:
        # The value first, the clock second. What comes between the look and the sleep is seen by the kernel, which
        # compares again.
        while True:
            value = self.load()
            if ready(value):
                return True
            if ended():
                raise ClosedError("the parker was closed: make a new one to park again")
            if deadline is not None and time.monotonic() >= deadline:
                return False
            self._sleep(value, deadline)

    def wake_until_gone(self, sleeper: object) -> None:
        """Wake until a sleeper has left, which was told to. Blocks for that moment, except where it must not.

        It must not where the sleeper is this very thread (which a signal handler or finalizer interrupts): another
        thread does it then, for one wake could come just before the sleep.
        """
        thread, epoch = self.sleepers.get(sleeper, (0, _fork.epoch))
        if epoch == _fork.epoch:  # else it sleeps in the parent
            self.wake_until(lambda: sleeper not in self.sleepers, wait=thread != _thread.get_ident())

    def wake_until(self, gone: Callable[[], bool], *, wait: bool) -> None:
        """Wake until `gone()`.

        Args:
            gone: whether those who were told to leave have left.
            wait: block until then; else another thread goes on, for a finalizer, or for one that interrupts a sleeper.
        """
        self._wake_all()
        if wait:
            self._wake_until(gone)
        elif not gone() and not sys.is_finalizing():
            # Not a threading.Thread, whose lock may be held by what a finalizer interrupts.
            _thread.start_new_thread(self._wake_until, (gone,))

    def _wake_until(self, gone: Callable[[], bool]) -> None:
        # Most leave at once; Windows may sleep 15 ms where half a one is asked for. At exit no thread ends any more.
        for pause in chain(repeat(0.0, AT_ONCE), repeat(PATIENCE)):
            if gone() or sys.is_finalizing():
                return
            self._wake_all()
            time.sleep(pause)

    # --- the end ---

    def current_lease(self) -> Lease | None:
        """Return the lease of the address, if there is one that runs."""
        lease = self.place.lease.get(LEASE)
        return None if lease is None or lease.abandoned() else lease

    @property
    def closed(self) -> bool:
        """Whether the word was closed."""
        return self.memory is None

    def close(self) -> None:
        """Let go of the memory, once nobody here waits on it. Idempotent."""
        memory, self.memory = self.memory, None
        if self.in_kernel:
            self.wake_all()  # a lease that nobody had to end may have left a wait of a ring
        for sleeper in self.sleepers.copy():
            self.wake_until_gone(sleeper)
        for reference in list(self.groups.values()):
            group = reference()
            if group is not None:
                group.hint()
        self.place = Place(self.address, shared=self.place.shared)  # a closed word says nothing about its address
        del memory  # last: a finalizer of what it keeps alive may use words too


def _take_from(memory: ctypes.c_uint32) -> bool:
    memory.value = PARKED
    try:
        full_fence()  # the owner's fence, see above: nothing is read before the 1 is visible
    except BaseException:  # a signal handler that raises: the permit is not taken
        memory.value = PERMIT
        raise
    return True
