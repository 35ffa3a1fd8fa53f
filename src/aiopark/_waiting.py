"""Tasks that wait while a cell holds a value, any number of them.

Those of one loop that wait for one value form a group, with one watch. So a thousand tasks cost the kernel one wait.

The tasks keep their group, and the cell knows it by a weak reference: else a word would keep the tasks of a loop that
is dead, and they their watch. The last task to leave ends the watch; if it is interrupted there, the collector does.

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
    from aiopark._watch import Watch


class Group:
    """The tasks of one loop that wait for one value of one cell."""

    __slots__ = ("__weakref__", "_cell", "_end", "_key", "loop", "reference", "waiters", "watch")

    def __init__(self, cell: Cell, loop: Loop, key: tuple[int, int]) -> None:
        self.loop: Final = loop
        self.waiters: Final[set[TaskWaiter]] = set()
        self.reference: Final[weakref.ref[Group]] = weakref.ref(self)
        self.watch: Final = watch(cell, partial(_hint, self.reference))
        self._cell: Final = cell
        self._key: Final = key
        self._end: Final = weakref.finalize(self, _end, self.watch, cell)
        self._end.atexit = False

    @classmethod
    def find(cls, cell: Cell, loop: Loop, value: int) -> Group:
        """Return the one to join, made at the first call."""
        key = (id(loop), value)
        reference = cell.groups.get(key)
        group: Group | None = None if reference is None else reference()
        if group is None or group.loop is not loop:
            group = Group(cell, loop, key)
        cell.groups[key] = group.reference
        return group

    def join(self, waiter: TaskWaiter) -> None:
        """Stand where the hint finds it. The loop keeps who sleeps."""
        self.waiters.add(waiter)
        self.loop.kept.add(waiter)

    def leave(self, waiter: TaskWaiter) -> None:
        """Undo `join`."""
        self.waiters.discard(waiter)
        self.loop.kept.discard(waiter)

    def end_if_empty(self) -> None:
        """End the watch after the last one has left."""
        if not self.waiters:
            if self._cell.groups.get(self._key) is self.reference:
                del self._cell.groups[self._key]
            self._end()

    def hint(self) -> None:
        """Have all of them look again. From any thread."""
        for waiter in self.waiters.copy():
            waiter.wake()


def _hint(reference: weakref.ref[Group]) -> None:
    group = reference()
    if group is not None:
        group.hint()


def _end(watch: Watch, cell: Cell) -> None:
    watch.close_later()
    cell.wake_all()  # takes the wait of a ring off, lest it swallow a wake


async def wait_while(cell: Cell, value: int, deadline: float) -> bool:
    """See `Word.wait_while`."""
    loop = running_loop()
    waiter = loop.waiter()
    slept = False
    if not (changed := cell.load_for(waiter) != value) and deadline > loop.time():
        group = Group.find(cell, loop, value)
        try:
            while True:
                group.join(waiter)
                # Pairs with: Cell.close, which marks the cell before it looks for groups.
                changed = cell.load_for(waiter) != value
                if changed or (deadline != math.inf and loop.time() >= deadline):
                    break
                group.watch.arm(value, loop.source)
                if not cell.closed:
                    if deadline != math.inf:
                        waiter.wake_at(deadline)
                    await waiter
                    slept = True
                group.leave(waiter)
                waiter = loop.waiter()
        except GeneratorExit:
            waiter.coroutine_closed()
            raise
        finally:
            group.leave(waiter)
            group.end_if_empty()
    if not slept:
        await loop.checkpoint()
        changed = changed or cell.load_for(waiter) != value
    return changed
