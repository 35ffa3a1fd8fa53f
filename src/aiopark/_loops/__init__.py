"""Event loops: how a task sleeps and is woken, one module a library, loaded when it is first met."""

from __future__ import annotations

import sys
from asyncio import _get_running_loop, current_task
from typing import TYPE_CHECKING

from aiopark._loops._asyncio import bridge_of
from aiopark._loops._mailbox import parked_tasks
from aiopark._loops._protocol import Loop, Waiter

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Loop", "Waiter", "parked_tasks", "running_loop"]

_trio_loop: Callable[[], Loop] | None = None


def running_loop() -> Loop:
    """Give the event loop that runs the calling task.

    Raises:
        RuntimeError: there is none.
    """
    loop = _get_running_loop()
    if "trio" in sys.modules:  # whoever runs under trio has imported it
        # None: another thread is still importing it, or trio is older than 0.29.
        in_trio_task = getattr(getattr(sys.modules["trio"], "lowlevel", None), "in_trio_task", None)
        # In trio's guest mode an asyncio loop runs on the same thread, in trio-asyncio even asyncio's tasks do.
        if in_trio_task is not None and in_trio_task() and (loop is None or current_task(loop) is None):
            return (_trio_loop or _load_trio())()
    if loop is None:
        raise RuntimeError(
            "no event loop runs here: a Parker is awaited in a coroutine that asyncio, or trio 0.29 or later, runs; "
            "a plain thread parks with aiopark.ThreadParker"
        )
    return bridge_of(loop)


def _load_trio() -> Callable[[], Loop]:
    """Import the trio side when trio is first met. An import statement in `running_loop` would cost a microsecond."""
    global _trio_loop  # noqa: PLW0603  # whoever comes second stores the same function
    from aiopark._loops._trio import running_bridge

    _trio_loop = running_bridge
    return running_bridge
