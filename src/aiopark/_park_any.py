"""park_any: one task parks on several Parkers at once, with one waiter that stands in all of their slots.

Who writes what: as in `_parker`; this is its park over several cells, with one thing more. Permits are taken one after
the other, and an interruption may follow (a signal handler that raises). What was taken by then is deposited again. So
that nothing is taken and forgotten, a permit is listed before it is taken: to deposit one that is still there changes
nothing.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from aiopark._cell import PERMIT as WORD_PERMIT
from aiopark._deadline import Seconds, after, seconds
from aiopark._errors import ClosedError
from aiopark._loops import running_loop
from aiopark._parker import Parker, Tenancy, parts_of
from aiopark._permit import CLOSED, OWNER, PERMIT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiopark._loops import Loop


async def park_any(*parkers: Parker, deadline: Seconds = math.inf, timeout: Seconds | None = None) -> list[Parker]:  # noqa: ASYNC109  # as park_timeout
    """Sleep until at least one of the Parkers has a permit, and take the permits that are there.

    The task is woken as by a park on each of them: permits that come first are not lost, in a tie of permit and
    deadline the permit wins, a cancellation leaves every permit in store. It never blocks; the task sleeps. Meanwhile
    nobody else parks on any of them. It is for tasks only: a thread has one ThreadParker for all that it waits for.

    Args:
        parkers: what to wait for, with or without words; each one once.
        deadline: seconds on the clock of the running loop. One in the past takes stored permits or gives up without
            sleeping; math.inf waits forever.
        timeout: seconds from now, instead of a deadline.

    Returns:
        Those whose permits were taken, in the order of the arguments. Empty: the deadline passed.

    Raises:
        TypeError: one of them is no Parker, deadline or timeout is no number, or both are given.
        ValueError: there is none, one is given twice, or deadline or timeout is NaN.
        RuntimeError: another task is parked on one of them, or no event loop runs here.
        ClosedError: one of them is closed, or its word; and none has a permit.
        OSError: the kernel refused to watch a word.

    Example:
        >>> import asyncio, threading, aiopark
        >>> async def main():
        ...     data, stop = aiopark.Parker(name="data"), aiopark.Parker(name="stop")
        ...     threading.Timer(0.01, stop.unpark).start()
        ...     return await aiopark.park_any(data, stop) == [stop]
        >>> asyncio.run(main())
        True
    """
    loop = running_loop()
    if not parkers:
        raise ValueError("park_any needs at least one Parker: nobody could wake this task")
    for parker in parkers:
        if not isinstance(parker, Parker):
            raise TypeError(f"park_any parks a task on Parkers, not on {type(parker).__name__}")
    if len(set(map(id, parkers))) != len(parkers):
        raise ValueError("park_any was given a Parker twice: one task parks on it once")
    if timeout is None:
        return await _park(loop, parkers, seconds(deadline, "deadline"))
    if deadline != math.inf:
        raise TypeError("park_any takes a deadline or a timeout, not both")
    return await _park(loop, parkers, after(loop.time(), seconds(timeout, "timeout")))


async def _park(loop: Loop, parkers: Sequence[Parker], deadline: float) -> list[Parker]:
    timed = deadline != math.inf
    taken: list[Parker] = []
    slots = _Slots(parkers, loop)
    try:
        try:
            slots.claim()
            while True:
                if (timed and loop.time() >= deadline) or slots.are_ready():
                    await loop.checkpoint()
                else:
                    if timed:
                        slots.waiter.wake_at(deadline)
                    await slots.sleep()
                slots.take(taken)
                if taken or (timed and loop.time() >= deadline):
                    break
                slots.replace_waiter()  # a spurious wake
        except GeneratorExit:
            slots.coroutine_closed()
            raise
        finally:
            slots.leave()
        return taken  # noqa: TRY300  # in here, so that there is no point at which an interruption loses them
    except BaseException:
        slots.leave()  # if a signal handler raised before it had left all of them
        for parker in taken:
            parker.unpark()  # not into its word: that may be closed by now
        raise


class _Slots:
    """The OWNER keys of several cells, and the one waiter that stands in them."""

    __slots__ = ("_claimed", "_loop", "_parts", "_previous", "_watched", "waiter")

    def __init__(self, parkers: Sequence[Parker], loop: Loop) -> None:
        self._loop = loop
        self._parts = [(parker, *parts_of(parker)) for parker in parkers]
        self._claimed = True
        self._watched: dict[Parker, Tenancy] = {}
        self._previous = self.waiter = loop.waiter()

    def claim(self) -> None:
        """Stand in all of them. Whoever calls it leaves, also if it raises."""
        for parker, cell, tenancy in self._parts:
            if cell.setdefault(OWNER, self.waiter) is not self.waiter:
                cell.claim(self.waiter)
            if tenancy is not None and CLOSED not in cell:  # else the word may be another's by now
                self._watched[parker] = tenancy

    def are_ready(self) -> bool:
        """Return whether the task need not sleep; else it may, since whatever comes will wake it."""
        # Pairs with: unpark and close, which write their key before they look for the owner.
        for _, cell, _ in self._parts:  # any() of a generator would cost as much as all the rest
            if PERMIT in cell or CLOSED in cell:
                return True
        return not all(tenancy.watched(self._loop) for tenancy in self._watched.values())

    async def sleep(self) -> None:
        if self._watched:
            self._loop.kept.add(self.waiter)
        try:
            await self.waiter
        finally:
            self._loop.kept.discard(self.waiter)

    def take(self, taken: list[Parker]) -> None:
        """Append those whose permits it takes.

        Raises:
            ClosedError: there are none, and one is closed.
        """
        closed = None
        for parker, cell, _ in self._parts:
            tenancy = self._watched.get(parker)
            in_word = tenancy is not None and tenancy.word.load() == WORD_PERMIT
            if in_word or PERMIT in cell:
                taken.append(parker)
                took = tenancy is not None and tenancy.word.take()
                try:
                    del cell[PERMIT]
                    took = True
                except KeyError:
                    pass  # it was in the word; or a prepare_park in another thread dropped it
                if not took:
                    taken.remove(parker)
            elif CLOSED in cell:
                closed = cell
        if closed is not None and not taken:
            raise ClosedError(f"{closed.describe()} was closed: leave it out, or make a new one")

    def replace_waiter(self) -> None:
        """Stand in them with a waiter for the next sleep, without a gap."""
        self._previous, self.waiter = self.waiter, self._loop.waiter()
        for _, cell, _ in self._parts:
            cell[OWNER] = self.waiter

    def coroutine_closed(self) -> None:
        """Leave them to the next park: maybe this is the collector, on some other thread."""
        self.waiter.coroutine_closed()
        self._claimed = False

    def leave(self) -> None:
        """Leave those that it stands in. May be done twice."""
        for _, cell, tenancy in self._parts if self._claimed else ():
            owner = cell.get(OWNER)
            if owner is self.waiter or owner is self._previous:
                cell.pop(OWNER, None)
            if tenancy is not None and CLOSED in cell:
                tenancy.end_if_unused()
