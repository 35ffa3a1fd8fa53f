"""KernelWait: one wait of a ring on one cell, and the table of what becomes of it.

| state | what happens | next state | |
| --- | --- | --- | --- |
| WAITING | before a drain, the cell is seen to have changed | HINTED | hint |
| WAITING | the kernel completes it | OVER | hint |
| WAITING | the owner goes to sleep | WAITING | |
| HINTED | the kernel completes it | OVER | the hint was given |
| HINTED | the owner goes to sleep | OVER | a new wait; this one is completed, by a wake of ours if by no other |
| WAITING, HINTED | the ring is retired | OVER | hint |
| OVER | the owner goes to sleep | | a new wait |

All of it happens on the thread of the ring's loop. (A ring whose loop is dead may be retired on any thread.)

No wake is lost: while the owner sleeps, its wait is WAITING, and every way out of that hints. The owner looked at the
cell before it went to sleep; a wait that is new compares the cell again, in the kernel, and one that is not new has
been in the kernel's queue since before that look.
"""

from __future__ import annotations

import enum
import errno
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from aiopark._cell import Cell
    from aiopark._watch._protocol import Hint

# 0: woken. EAGAIN: the cell held something else. ECANCELED: the ring's thread has ended. EINTR: look again.
EXPECTED: Final = frozenset({0, -errno.EAGAIN, -errno.ECANCELED, -errno.EINTR})


class State(enum.Enum):
    """See the table."""

    WAITING = "waiting"
    HINTED = "hinted"
    OVER = "over"


# Looked up as globals: an attribute of an enum class costs 0.1 µs more.
WAITING: Final = State.WAITING
HINTED: Final = State.HINTED
OVER: Final = State.OVER


class KernelWait:
    """One wait.

    Args:
        ring: a mark of the ring that waits; no reference to that, which is the loop's alone.
        cell: where.
        seen: the value that the owner saw; another one is news.
        hint: see `Hint`.

    Attributes:
        failure: why the kernel would not wait; for the owner, who goes to sleep next.
    """

    __slots__ = ("cell", "failure", "hint", "ring", "seen", "state")

    def __init__(self, ring: object, cell: Cell, seen: int, hint: Hint) -> None:
        self.ring: Final = ring
        self.cell: Final = cell
        self.seen = seen
        self.hint: Final = hint
        self.state = WAITING
        self.failure: OSError | None = None

    def look(self) -> None:
        """Hint if the cell has changed, before the kernel is asked."""
        memory = self.cell.memory
        if memory is not None and memory.value != self.seen and self.state is WAITING:
            self.hint()
            self.state = HINTED

    def complete(self, result: int) -> None:
        """Take note that the kernel waits no more."""
        if result not in EXPECTED:
            text = f"io_uring's FUTEX_WAIT on the word at {self.cell.address:#x}: {os.strerror(-result)}"
            self.failure = OSError(-result, text)
        if self.state is WAITING:
            self.hint()
        self.state = OVER  # last: interrupted, it is completed once more
