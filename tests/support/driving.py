"""A LoopRing driven by hand, without a loop."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from aiopark._watch._kernel_wait import OVER
from aiopark._word import cell_of
from support.waiting import block_until

if TYPE_CHECKING:
    import aiopark
    from aiopark._watch._kernel_wait import KernelWait
    from aiopark._watch._loop_ring import LoopRing


class Hints:
    """Counts those that came."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self) -> None:
        self.number += 1

    def taken(self) -> int:
        number, self.number = self.number, 0
        return number


def arm(
    ring: LoopRing, word: aiopark.Word, hints: Any, wait: KernelWait | None = None, seen: int | None = None
) -> KernelWait:
    """Have a task go to sleep, which saw what the word holds, or something else."""
    return ring.arm(wait, cell_of(word), word.load() if seen is None else seen, hints)


def hinted(ring: LoopRing, word: aiopark.Word, hints: Hints) -> KernelWait:
    """Return a wait that was hinted before the kernel was asked, and whose owner has taken the permit since."""
    wait = arm(ring, word, hints, seen=1)
    word.unpark()
    assert ring._ring is not None
    block_until(ring._ring.has_more)
    ring.before_drain()
    assert wait.state.value == "hinted"
    hints.taken()
    word.store(1)
    return wait


def one_pass(ring: LoopRing) -> None:
    """Do what the loop does when the eventfd was written to."""
    ring.before_drain()
    ring.after_drain()


def over(ring: LoopRing, wait: KernelWait) -> bool:
    one_pass(ring)
    return wait.state is OVER


def wakes(ring: LoopRing, word: aiopark.Word, wait: KernelWait, hints: Hints) -> bool:
    """Tell whether the wait is in the kernel: a wake completes it, and it hints."""
    hints.taken()
    cell_of(word).wake_all()
    block_until(lambda: over(ring, wait))
    return hints.taken() > 0


def rung(eventfd: int) -> bool:
    try:
        return os.eventfd_read(eventfd) > 0
    except BlockingIOError:
        return False
