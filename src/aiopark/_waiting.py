"""Tasks that wait while a cell holds a value, any number of them.

Those of one loop that wait for one value form a group, with one watch. So a thousand tasks cost the kernel one wait.

The tasks keep their group, and the cell knows it by a weak reference: else a word would keep the tasks of a loop that
is dead, and they their watch.

Who writes what: a group, and its key in `Cell.groups`, belong to the thread of its loop. `Cell.close` reads the keys
from any thread, after it has marked the cell: whoever comes later sees the mark, whoever was there is hinted.
"""

from __future__ import annotations

import math
import weakref
from functools import partial
from typing import TYPE_CHECKING, Final

from aiopark._loops import running_loop
from aiopark._watch import watch

if TYPE_CHECKING:
    from aiopark._cell import Cell
    from aiopark._loops import Loop, TaskWaiter


class Group:
    """The tasks of one loop that wait for one value of one cell."""

    __slots__ = ("__weakref__", "loop", "reference", "waiters", "watch")

    def __init__(self, cell: Cell, loop: Loop) -> None:
        self.loop: Final = loop
        self.waiters: Final[set[TaskWaiter]] = set()
        self.reference: Final[weakref.ref[Group]] = weakref.ref(self)
        self.watch: Final = watch(cell, partial(_hint, self.reference))

    def hint(self) -> None:
        """Have all of them look again. From any thread."""
        for waiter in self.waiters.copy():
            waiter.wake()


def _hint(reference: weakref.ref[Group]) -> None:
    group = reference()
    if group is not None:
        group.hint()


async def wait_while(cell: Cell, value: int, deadline: float) -> bool:
    """See `Word.wait_while`."""
    loop = running_loop()
    waiter = loop.waiter()
    if cell.load_for(waiter) != value or deadline <= loop.time():
        await loop.checkpoint()
        return cell.load_for(waiter) != value
    key = (id(loop), value)
    reference = cell.groups.get(key)
    found: Group | None = None if reference is None else reference()
    group = Group(cell, loop) if found is None or found.loop is not loop else found
    cell.groups[key] = group.reference
    try:
        while True:
            group.waiters.add(waiter)
            loop.kept.add(waiter)
            # Pairs with: Cell.close, which marks the cell before it looks for groups.
            if cell.load_for(waiter) != value:
                return True
            if deadline != math.inf and loop.time() >= deadline:
                return False
            group.watch.arm(value, loop.source)
            if not cell.closed:
                if deadline != math.inf:
                    waiter.wake_at(deadline)
                await waiter
            group.waiters.discard(waiter)
            loop.kept.discard(waiter)
            waiter = loop.waiter()
    except GeneratorExit:
        waiter.coroutine_closed()
        raise
    finally:
        group.waiters.discard(waiter)
        loop.kept.discard(waiter)
        if not group.waiters:
            if cell.groups.get(key) is group.reference:
                del cell.groups[key]
            group.watch.close_later()
            cell.wake_all()  # takes the wait of a ring off, lest it swallow a wake
