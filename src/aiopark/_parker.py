"""Parker: parks the calling task. The permit cell, the lease of a word, the loop and the watch meet here.

Who writes what: the permit cell, see `_permit`; the word, see `_cell`; its lease, see `_cell/_lease`.

A Parker on a word has its lease from the start. The lease ends when the Parker is closed and nobody is parked,
whichever comes last: `close` sets CLOSED, then looks for OWNER; a park takes itself out of OWNER, then looks for
CLOSED. They are keys of one dict, so one of the two comes second and sees the other. A collected Parker has no park.
"""

from __future__ import annotations

import math
import weakref
from functools import partial
from typing import TYPE_CHECKING, Final

from aiopark._base_parker import BaseParker
from aiopark._cell import PERMIT as WORD_PERMIT
from aiopark._cell import Cell, Lease
from aiopark._deadline import Seconds, after, seconds
from aiopark._loops import running_loop
from aiopark._permit import CLOSED, OWNER, PERMIT, PermitCell
from aiopark._watch import watch
from aiopark._word import Word, cell_of

if TYPE_CHECKING:
    from aiopark._loops import Loop
    from aiopark._watch import Watch


class Parker(BaseParker):
    """Parks the calling task until it is unparked, on asyncio, uvloop and trio (and so on anyio).

    At most one permit is stored. `unpark` deposits it, a park that returns takes it: an unpark that comes first
    is never lost. One task parks at a time; anyone unparks, from any thread. A Parker belongs to no loop: it is
    made anywhere, and each park may run on another loop. Also a context manager, which closes it.

    | methods | may be called from | block |
    | --- | --- | --- |
    | `park`, `park_until`, `park_timeout` | a task | never; the task sleeps, and other tasks run |
    | `prepare_park` | the same | never |
    | `unpark`, `unpark_lock`, `timed_out` | any thread, any loop, a signal handler, a finalizer | never |
    | `close` | any thread, any loop | on a word that a thread watches, until that thread has noticed |

    A park that is awaited is a checkpoint: other tasks get to run, and a cancellation is delivered, which leaves the
    permit in store. (A loop that never gets to its park, as its queue is never empty, has none.) `unpark` does not
    touch the word, whose own `unpark` does. If the loop of a parked task dies, the permit stays for the next park.

    Args:
        word: a word that native code or another process unparks: its permit counts as well as `unpark()`. The Parker
            is the word's owner until it is closed or collected; nobody else in this process parks on it. The kernel
            watches the word from the first park that sleeps on, by an io_uring of the loop, or by a thread that
            lives as long as the Parker. Close the Parker before the word: that frees it for another owner once the
            pending park has ended, and leaves the word's permit in it.
        name: shown by `repr` and in messages.

    Attributes:
        word: the word, or None.

    Raises:
        TypeError: word is no Word, or name no string.
        RuntimeError: somebody else in this process parks on the word. (parks) Another task is parked here, or no
            event loop runs here.
        ClosedError: the word was closed. (parks) The Parker was closed, and holds no permit.
        ValueError: AIOPARK_WATCHER names no watcher.
        UnsupportedError: AIOPARK_WATCHER forces a watcher that does not work here. (parks) Or this loop can have none.
        OSError: (parks on a word) the kernel refused to watch the word.

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
        ...     with aiopark.Word() as word, aiopark.Parker(word) as parker:
        ...         threading.Timer(0.01, word.unpark).start()
        ...         await parker.park()
        >>> asyncio.run(main())

    Source: the verbs are parking_lot_core's ThreadParker, the permit is crossbeam's `Parker`.
    """

    __slots__ = ("_tenancy",)
    _kind = "Parker"

    def __init__(self, word: Word | None = None, *, name: str | None = None) -> None:
        super().__init__(word, name)
        self._tenancy: Tenancy | None = None
        if word is not None:
            self._tenancy = Tenancy(cell_of(word), self._cell)
            self._tenancy.end_with(self)

    async def park(self) -> None:
        """Sleep until there is a permit, and take it.

        Example:
            >>> import asyncio, aiopark
            >>> parker = aiopark.Parker()
            >>> parker.unpark()
            >>> asyncio.run(parker.park())
        """
        await self._park(running_loop(), math.inf)

    async def park_until(self, deadline: Seconds) -> bool:
        """Sleep until there is a permit, or until the loop's clock reaches the deadline.

        Never early. When permit and deadline come together, the permit wins.

        Args:
            deadline: seconds on the clock of the running loop: `loop.time()`, `trio.current_time()`,
                `anyio.current_time()`. One in the past takes a stored permit or gives up without sleeping;
                math.inf waits forever.

        Returns:
            True: unparked, the permit is taken. False: the deadline passed.

        Raises:
            TypeError: deadline is no number.
            ValueError: deadline is NaN.

        Example:
            >>> import asyncio, aiopark
            >>> async def main():
            ...     return await aiopark.Parker().park_until(asyncio.get_running_loop().time() + 0.01)
            >>> asyncio.run(main())
            False
        """
        return await self._park(running_loop(), seconds(deadline, "deadline"))

    async def park_timeout(self, timeout: Seconds) -> bool:  # noqa: ASYNC109  # the verb is ThreadParker's
        """Sleep until there is a permit, or for this long. Otherwise as `park_until`.

        Args:
            timeout: seconds from now on the loop's clock; negative ones count as none, math.inf waits forever.

        Returns:
            True: unparked, the permit is taken. False: the time passed.

        Raises:
            TypeError: timeout is no number.
            ValueError: timeout is NaN.

        Example:
            >>> import asyncio, aiopark
            >>> asyncio.run(aiopark.Parker().park_timeout(0.01))
            False
        """
        loop = running_loop()
        return await self._park(loop, after(loop.time(), seconds(timeout, "timeout")))

    def _end(self) -> None:
        if self._tenancy is not None:
            self._tenancy.close()

    async def _park(self, loop: Loop, deadline: float) -> bool:  # noqa: C901, PLR0912  # one frame: `_permit`
        cell, tenancy = self._cell, self._tenancy
        timed = deadline != math.inf  # the others need no clock
        taken = thrown_away = False
        waiter = loop.waiter()
        try:
            if cell.setdefault(OWNER, waiter) is not waiter:
                cell.claim(waiter)
            if CLOSED in cell:
                tenancy = None  # the word may be another's by now
            while True:
                # Pairs with: unpark and close, which write their key before they look for the owner.
                ready = PERMIT in cell or CLOSED in cell or (timed and loop.time() >= deadline)
                if ready or (tenancy is not None and not tenancy.watched(loop)):
                    await loop.checkpoint()
                else:
                    if timed:
                        waiter.wake_at(deadline)
                    if tenancy is None:
                        await waiter
                    else:
                        loop.kept.add(waiter)
                        try:
                            await waiter
                        finally:
                            loop.kept.discard(waiter)
                # Both permits at once: at most one is ever in store.
                taken = tenancy is not None and tenancy.word.take()
                if PERMIT in cell:  # not left to the except: a KeyError costs 0.4 µs, and a word's wake has no PERMIT
                    try:
                        del cell[PERMIT]
                        taken = True
                    except KeyError:
                        pass  # a prepare_park in another thread dropped it
                if taken:
                    return True
                if CLOSED in cell:
                    raise cell.closed_error()
                if timed and loop.time() >= deadline:
                    return False
                # A spurious wake. The next sleep has a waiter of its own, put into the slot without a gap.
                waiter = cell[OWNER] = loop.waiter()
        except GeneratorExit:
            thrown_away = True  # maybe by the collector, on some other thread: the next park takes the slot over
            waiter.coroutine_closed()
            raise
        finally:
            try:
                # Another's: a child of a fork goes on with the parent's loop, and this task was taken for one that
                # never wakes.
                if not thrown_away and cell[OWNER] is waiter:
                    del cell[OWNER]
            except KeyError:
                pass
            # Not after a permit was taken, which a signal handler that raises in here would lose: then the next one who
            # takes the lease ends this one, or the collector does.
            if tenancy is not None and not taken and CLOSED in cell:
                tenancy.end_if_unused()


class Tenancy:
    """A Parker on a word: the lease and the watch.

    They know the Parker by weak references to its permit cell. A strong one, through the waiter and its task, would
    keep the Parker of a task that sleeps on a dead loop for as long as the word.
    """

    __slots__ = ("_lease", "_watch", "word")

    def __init__(self, word: Cell, cell: PermitCell) -> None:
        word.load()  # is it open?
        reference = weakref.ref(cell)
        who = cell.describe()
        self.word: Final = word
        self._watch: Final = watch(word, partial(_hint, reference))
        self._lease: Final = Lease(word, who.__str__, partial(_unused, reference))
        self._lease.take()

    def end_with(self, parker: Parker) -> None:
        """End all of it when the Parker is collected."""
        # Not __del__, which free-threaded builds run after the modules' globals are gone.
        weakref.finalize(parker, _collected, self._watch, self._lease).atexit = False

    def watched(self, loop: Loop) -> bool:
        """Return whether the task may sleep: the word holds no permit, and the watch will tell when it does."""
        seen = self.word.load()
        if seen == WORD_PERMIT:
            return False
        self._watch.arm(seen, loop.source)
        return True

    def close(self) -> None:
        """End the watch; and the lease, if nobody is parked."""
        self._watch.close()
        self.end_if_unused()

    def end_if_unused(self) -> None:
        """End the lease, if the Parker is closed and nobody is parked."""
        if self._lease.abandoned():
            self._lease.end()


def parts_of(parker: Parker) -> tuple[PermitCell, Tenancy | None]:
    """Return its permit cell and, if it parks on a word, its tenancy: for who parks on several at once."""
    return parker._cell, parker._tenancy  # noqa: SLF001  # made for this


def _hint(reference: weakref.ref[PermitCell]) -> None:
    cell = reference()
    if cell is not None:
        cell.hint()


def _unused(reference: weakref.ref[PermitCell]) -> bool:
    cell = reference()
    return cell is None or (CLOSED in cell and cell.owner() is None)


def _collected(watch: Watch, lease: Lease) -> None:
    watch.close_later()
    lease.end()
