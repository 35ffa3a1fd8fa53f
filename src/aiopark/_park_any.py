"""park_any: one task parks on several Parkers at once, with one waiter that stands in all of their slots.

Who writes what: as in `_parker`; this is its park over several cells, with one thing more. Permits are taken one after
the other, and the last one may be followed by an interruption (a signal handler that raises). What was taken by then
is deposited again. So that nothing is taken and forgotten, a permit goes into the list by the call that follows its
removal: CPython runs signal handlers after calls and between the rounds of a loop, not before a call.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from aiopark._deadline import Seconds, after, seconds
from aiopark._errors import ClosedError
from aiopark._loops import running_loop
from aiopark._parker import Parker, Tenancy, parts_of
from aiopark._permit import CLOSED, OWNER, PERMIT, PermitCell

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
    parts = [parts_of(parker) for parker in parkers]
    cells = [cell for cell, _ in parts]
    timed = deadline != math.inf
    taken: list[Parker] = []
    thrown_away = False
    previous = waiter = loop.waiter()
    try:
        try:
            for cell in cells:
                if cell.setdefault(OWNER, waiter) is not waiter:
                    cell.claim(waiter)
            # The word of one that is closed may be another's by now.
            tenancies = [None if tenancy is None or CLOSED in cell else tenancy for cell, tenancy in parts]
            watched = [tenancy for tenancy in tenancies if tenancy is not None]
            while True:
                # Pairs with: unpark and close, which write their key before they look for the owner.
                if (timed and loop.time() >= deadline) or _is_ready(cells) or not _are_watched(watched, loop):
                    await loop.checkpoint()
                else:
                    if timed:
                        waiter.wake_at(deadline)
                    if watched:
                        loop.kept.add(waiter)
                    try:
                        await waiter
                    finally:
                        loop.kept.discard(waiter)
                for parker, cell, tenancy in zip(parkers, cells, tenancies, strict=True):
                    took = tenancy is not None and tenancy.word.take()
                    if PERMIT in cell:
                        try:
                            del cell[PERMIT]
                            took = True
                        except KeyError:
                            pass  # a prepare_park in another thread dropped it
                    if took:
                        taken.append(parker)
                if taken:
                    break
                for cell in cells:
                    if CLOSED in cell:
                        raise ClosedError(f"{cell.describe()} was closed: leave it out, or make a new one")
                if timed and loop.time() >= deadline:
                    break
                # A spurious wake. The next sleep has a waiter of its own, put into the slots without a gap.
                previous, waiter = waiter, loop.waiter()
                for cell in cells:
                    cell[OWNER] = waiter
        except GeneratorExit:
            thrown_away = True  # maybe by the collector, on some other thread: the next park takes the slots over
            waiter.coroutine_closed()
            raise
        finally:
            if not thrown_away:
                for cell, tenancy in parts:
                    try:
                        if cell[OWNER] is waiter or cell[OWNER] is previous:
                            del cell[OWNER]
                    except KeyError:
                        pass  # not claimed, or another's: see `_parker`
                    if tenancy is not None and CLOSED in cell:
                        tenancy.end_if_unused()
    except BaseException:
        for parker in taken:
            parker.unpark()  # not into its word: that may be closed by now
        raise
    return taken


def _is_ready(cells: Sequence[PermitCell]) -> bool:
    for cell in cells:  # not by any(): a generator costs as much as all the rest
        if PERMIT in cell or CLOSED in cell:
            return True
    return False


def _are_watched(tenancies: Sequence[Tenancy], loop: Loop) -> bool:
    return all(tenancy.watched(loop) for tenancy in tenancies)
