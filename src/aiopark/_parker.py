"""Parker: parks the calling task.

Locking. None: the permit and the parked waiter are two keys of one dict, `_cell`. Each operation on it is one C
call on str keys, which CPython documents as atomic (per-object lock in free-threaded builds; "Thread Safety
Guarantees" in the library reference). So a signal handler or finalizer that unparks may interrupt any line here,
this module's own included, and two finalizers on two threads cannot deadlock on two parkers, as they could with a
lock in each.

Who writes what:
  PERMIT   set by `unpark`, from anywhere; removed by a park that returns, and by `prepare_park`, both the owner's.
  OWNER    set and removed by the task that parks, see `_owner`.
  CLOSED   set by `close`, never removed.
  UNWATCHED  set by `close` once nothing watches the word any more: from then on it may be another owner's.

A wake is a hint, as a kernel's is: it grants nothing, the task that it resumes takes the permit from the cell
itself. So there is nothing to put back: a park that is cancelled, times out, dies with its loop or is thrown away
leaves the permit where it is. The price would be a woken task that finds no permit, which sleeps on.

Which race each re-check closes:
  no lost wake-up   a park writes OWNER, then looks for PERMIT; an unpark writes PERMIT, then looks for OWNER. The
                    two writes are operations of one dict, so one comes second, and its look sees the other.
  ties              a park whose deadline has passed looks for the permit before it looks at the clock.
  timers            may fire a tick early: the clock decides, and the task sleeps again.
"""

from __future__ import annotations

import math
import time
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self

from aiopark._deadline import Seconds, after, seconds
from aiopark._errors import ClosedError
from aiopark._loops import running_loop
from aiopark._owner import OWNER, claim
from aiopark._unpark_handle import UnparkHandle
from aiopark._watch import is_waited_for, watch
from aiopark._word import PERMIT as WORD_PERMIT
from aiopark._word import Word
from aiopark._word_slot import WordOwner

if TYPE_CHECKING:
    from types import TracebackType

    from aiopark._loops import Loop
    from aiopark._watch import Watch

PERMIT: Final = "permit"
CLOSED: Final = "closed"
UNWATCHED: Final = "unwatched"


class Parker:
    """Parks the calling task until it is unparked, on asyncio, uvloop and trio (and so on anyio).

    At most one permit is stored. `unpark` deposits it, a park that returns takes it: an unpark that comes first
    is never lost. One task parks at a time; anyone unparks, from any thread. A Parker belongs to no loop: it is
    made anywhere, and each park may run on another loop. Every park is a checkpoint: other tasks get to run.

    Also a context manager, which closes it.

    Args:
        word: a word that native code or another process unparks: its permit counts as well as `unpark()`. The Parker
            is the word's owner until it is closed or collected; nobody else in this process parks on it. The kernel
            watches the word from the first park that sleeps on, by an io_uring of the loop, or by a thread that
            lives as long as the Parker. Close the Parker before the word.

    Attributes:
        word: the word, or None.

    Raises:
        TypeError: word is no Word.
        RuntimeError: somebody else in this process parks on the word.
        ClosedError: the word was closed.
        ValueError: AIOPARK_WATCHER names no watcher.
        UnsupportedError: AIOPARK_WATCHER forces a watcher that does not work here.

    Example:
        >>> import asyncio, threading, aiopark
        >>> async def main():
        ...     parker = aiopark.Parker()
        ...     threading.Timer(0.01, parker.unpark).start()
        ...     await parker.park()
        ...     return await parker.park_timeout(0.01)
        >>> asyncio.run(main())
        False

        On a word, whose address native code may have:

        >>> async def main():
        ...     word = aiopark.Word()
        ...     with aiopark.Parker(word) as parker:
        ...         threading.Timer(0.01, word.unpark).start()
        ...         await parker.park()
        ...     word.close()
        >>> asyncio.run(main())

    Source: the verbs are parking_lot_core's ThreadParker, the permit is crossbeam's `Parker`.
    """

    __slots__ = ("__weakref__", "_cell", "_watch", "word")

    def __init__(self, word: Word | None = None) -> None:
        self.word: Final = word
        self._watch: Watch | None = None
        if word is None:
            self._cell: dict[str, Any] = {}
            return
        if not isinstance(word, Word):
            raise TypeError(f"a Parker parks on a Word, or on none, not on {type(word).__name__}")
        word.load()  # is it open?
        self._cell = cell = _Cell()
        reference = weakref.ref(cell)
        self._watch = watch(word, partial(_hint, reference))
        tenant = _Tenant(word, reference, weakref.ref(self._watch))
        while (other := word._slot.get(OWNER)) is not None and other.ends_soon():
            time.sleep(0)
        claim(word._slot, tenant, "Word")

    def __repr__(self) -> str:
        cell = self._cell.copy()
        parked = OWNER in cell and not cell[OWNER].gone()
        state = "permit stored" if PERMIT in cell else "parked" if parked else "idle"
        return f"<aiopark.Parker {'closed' if CLOSED in cell else state}>"

    def prepare_park(self) -> None:
        """Drop a stale permit, the word's too: what was unparked before no longer counts.

        For the task that will park, before it does. Does not block.

        Example:
            >>> import asyncio, aiopark
            >>> parker = aiopark.Parker()
            >>> parker.unpark()
            >>> parker.prepare_park()
            >>> asyncio.run(parker.park_timeout(0))
            False
        """
        self._cell.pop(PERMIT, None)
        if self.word is not None and CLOSED not in self._cell:
            self.word._prepare()

    async def park(self) -> None:
        """Sleep until there is a permit, and take it.

        Await it in a task: it blocks no thread, and without a word uses none. Cancelling it leaves the permit in store.

        Raises:
            RuntimeError: another task is parked on this Parker, or no event loop runs here.
            ClosedError: the Parker was closed, and no permit is left in it.
            UnsupportedError: AIOPARK_WATCHER forces rings to watch words, and this loop can have none.
            OSError: the kernel refused to watch the word.

        Example:
            >>> import asyncio, aiopark
            >>> parker = aiopark.Parker()
            >>> parker.unpark()
            >>> asyncio.run(parker.park())
        """
        await self._park(running_loop(), math.inf)

    async def park_until(self, deadline: Seconds) -> bool:
        """Sleep until there is a permit, or until the loop's clock reaches the deadline.

        Never early. When permit and deadline come together, the permit wins. Blocks no thread. Otherwise as `park`.

        Args:
            deadline: seconds on the clock of the running loop: `loop.time()`, `trio.current_time()`,
                `anyio.current_time()`. One in the past takes a stored permit or gives up without sleeping;
                math.inf waits forever.

        Returns:
            True: unparked, the permit is taken. False: the deadline passed.

        Raises:
            TypeError: deadline is no number.
            ValueError: deadline is NaN.
            RuntimeError: another task is parked on this Parker, or no event loop runs here.
            ClosedError: the Parker was closed, and no permit is left in it.
            UnsupportedError: AIOPARK_WATCHER forces rings to watch words, and this loop can have none.
            OSError: the kernel refused to watch the word.

        Example:
            >>> import asyncio, aiopark
            >>> async def main():
            ...     return await aiopark.Parker().park_until(asyncio.get_running_loop().time() + 0.01)
            >>> asyncio.run(main())
            False
        """
        return await self._park(running_loop(), seconds(deadline, "deadline"))

    async def park_timeout(self, timeout: Seconds) -> bool:  # noqa: ASYNC109  # the verb is ThreadParker's
        """Sleep until there is a permit, or for this long.

        Blocks no thread. Otherwise as `park_until`.

        Args:
            timeout: seconds from now on the loop's clock; negative ones count as none, math.inf waits forever.

        Returns:
            True: unparked, the permit is taken. False: the time passed.

        Raises:
            TypeError: timeout is no number.
            ValueError: timeout is NaN.
            RuntimeError: another task is parked on this Parker, or no event loop runs here.
            ClosedError: the Parker was closed, and no permit is left in it.
            UnsupportedError: AIOPARK_WATCHER forces rings to watch words, and this loop can have none.
            OSError: the kernel refused to watch the word.

        Example:
            >>> import asyncio, aiopark
            >>> asyncio.run(aiopark.Parker().park_timeout(0.01))
            False
        """
        loop = running_loop()
        return await self._park(loop, after(loop.time(), seconds(timeout, "timeout")))

    def timed_out(self) -> bool:
        """After `park_until` gave False: is there still no permit?

        Ask it under your lock, the one under which others call `unpark_lock()`. The permit of the word counts too.

        May be called from any thread. Does not block.

        Returns:
            True: no permit came. False: one came after the deadline and is stored.

        Example:
            >>> import aiopark
            >>> parker = aiopark.Parker()
            >>> parker.timed_out()
            True
            >>> parker.unpark()
            >>> parker.timed_out()
            False
        """
        if PERMIT in self._cell:
            return False
        return self.word is None or CLOSED in self._cell or self.word.load() != WORD_PERMIT

    def unpark_lock(self) -> UnparkHandle:
        """Deposit the permit now, wake later: for a caller that holds a lock.

        May be called from any thread, any loop, a signal handler or a finalizer. Does not block.

        Returns:
            The handle whose `unpark()` wakes.

        Example:
            >>> import asyncio, aiopark
            >>> parker = aiopark.Parker()
            >>> handle = parker.unpark_lock()  # under your lock
            >>> handle.unpark()                # after it
            >>> asyncio.run(parker.park())
        """
        self._cell[PERMIT] = True
        return UnparkHandle(self._wake)

    def unpark(self) -> None:
        """Deposit the permit and wake the parked task.

        May be called from any thread, any loop, a signal handler or a finalizer. Never blocks. If the loop of the
        parked task is closed, the permit stays for the next park. Does not touch the word: its own `unpark` does.

        Example:
            >>> import asyncio, aiopark
            >>> parker = aiopark.Parker()
            >>> parker.unpark()
            >>> asyncio.run(parker.park())
        """
        self._set_and_wake(PERMIT)

    def close(self) -> None:
        """End the pending park, and every later one, with ClosedError. Idempotent.

        A permit in store is still handed out first. The word, if there is one, is watched no longer, and free for
        another owner once the pending park has ended; its permit stays in it. May be called from any thread. Does not
        block; but where a thread watches the word, it waits the moment in which that thread ends, so do not call it
        from a finalizer or signal handler.

        Example:
            >>> import aiopark
            >>> with aiopark.Parker() as parker:
            ...     pass
            >>> parker
            <aiopark.Parker closed>
        """
        self._set_and_wake(CLOSED)
        if self._watch is not None:
            self._watch.close()
            self._cell[UNWATCHED] = True
            assert self.word is not None
            tenant = self.word._slot.get(OWNER)
            if tenant is not None:
                tenant.gone()  # from now on, if nobody parks: one who parks later finds the Parker closed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _set_and_wake(self, key: str) -> None:
        cell = self._cell
        try:
            cell[key] = True
            waiter = cell.get(OWNER)
            if waiter is not None:
                waiter.wake()
        except BaseException:
            # A signal handler that raises (Ctrl-C) came in between: do it again, all of it may be done twice.
            cell[key] = True
            self._wake()
            raise

    def _wake(self) -> None:
        waiter = self._cell.get(OWNER)
        if waiter is not None:
            waiter.wake()

    async def _park(self, loop: Loop, deadline: float) -> bool:  # noqa: C901, PLR0912  # one frame: see below
        cell, word = self._cell, self.word
        timed = deadline != math.inf  # the others need no clock
        thrown_away = False
        waiter = loop.waiter()
        # Statements, not calls, take the permit and leave the slot: CPython runs signal handlers after calls, and one
        # that raises (Ctrl-C) must not come between taking the permit and returning.
        claim(cell, waiter, "Parker")
        try:
            if CLOSED in cell:
                word = None  # which may be another's by now
            while True:
                # Pairs with: unpark and close, which write their key before they look for the owner.
                ready = PERMIT in cell or CLOSED in cell or (timed and loop.time() >= deadline)
                if ready or (word is not None and not self._watched(word, loop)):
                    await loop.checkpoint()
                else:
                    await waiter.sleep(deadline)
                # Both permits at once: at most one is ever in store.
                taken = word is not None and word._take_now()
                if PERMIT in cell:  # not left to the except: a KeyError costs 0.4 µs, and a word's wake has no PERMIT
                    try:
                        del cell[PERMIT]
                        taken = True
                    except KeyError:
                        pass  # a prepare_park in another thread dropped it
                if taken:
                    return True
                if CLOSED in cell:
                    raise ClosedError("the Parker was closed: make a new one to park again")
                if timed and loop.time() >= deadline:
                    return False
                # A spurious wake. The next sleep has a waiter of its own, put into the slot without a gap.
                waiter = cell[OWNER] = loop.waiter()
        except GeneratorExit:
            thrown_away = True  # maybe by the collector, on some other thread: the next park takes the slot over
            waiter.abandon()
            raise
        finally:
            try:
                # Another's: a child of a fork goes on with the parent's loop, and this task was taken for gone.
                if not thrown_away and cell[OWNER] is waiter:
                    del cell[OWNER]
            except KeyError:
                pass

    def _watched(self, word: Word, loop: Loop) -> bool:
        """Tell whether the task may sleep: the word holds no permit, and the watch will tell when it does."""
        seen = word.load()
        if seen == WORD_PERMIT:
            return False
        assert self._watch is not None
        self._watch.arm(seen, loop.source)
        return True


class _Cell(dict[str, Any]):
    """What others know a Parker by: a weak reference to it, which does not keep the Parker even while it is used."""

    __slots__ = ("__weakref__",)


class _Tenant(WordOwner):
    """A Parker, as the owner of its word until nothing watches the word any more and no park looks at it."""

    __slots__ = ("_address", "_cell", "_gone", "_watch")

    def __init__(self, word: Word, cell: weakref.ref[_Cell], watch: weakref.ref[Watch]) -> None:
        super().__init__(word)
        self._gone = False
        self._address: Final = word.address
        self._cell: Final = cell
        self._watch: Final = watch

    def gone(self) -> bool:
        """See `Owner.gone`. A park that finds the Parker closed leaves the word alone, so it does not count."""
        if not self._gone:
            cell = self._cell()
            if self._watch() is None:  # collected, and its finalizer has run; its thread ends soon after
                self._gone = not is_waited_for(self._address)
            elif cell is not None and UNWATCHED in cell:
                waiter = cell.get(OWNER)
                self._gone = waiter is None or waiter.gone()
        return self._gone

    def ends_soon(self) -> bool:
        """See `WordOwner.ends_soon`."""
        return self._watch() is None and not self.gone()


def _hint(reference: weakref.ref[_Cell]) -> None:
    """Have the Parker, if it is still there, look at its word."""
    cell = reference()
    if cell is not None:
        waiter = cell.get(OWNER)
        if waiter is not None:
            waiter.wake()
