"""Event loops: how a task sleeps and is woken, one module a library. This imports no trio; whoever uses it has."""

from __future__ import annotations

import sys
from asyncio import _get_running_loop
from typing import TYPE_CHECKING

from aiopark._loops._asyncio import bridge_of
from aiopark._loops._mailbox import parked_tasks
from aiopark._loops._protocol import Loop, TaskWaiter
from aiopark._loops._trio import in_trio_task, running_bridge

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

__all__ = ["Loop", "TaskWaiter", "parked_tasks", "running_loop"]


def running_loop() -> Loop:
    """Return the event loop that runs the calling task.

    Raises:
        RuntimeError: there is none.
    """
    loop: AbstractEventLoop | None = _get_running_loop()
    if "trio" in sys.modules and in_trio_task(loop):  # whoever runs under trio has imported it
        return running_bridge()
    if loop is None:
        raise RuntimeError(
            "no event loop runs here: a Parker is awaited in a coroutine that asyncio, or trio 0.29 or later, runs; "
            "a plain thread parks with aiopark.ThreadParker"
        )
    return bridge_of(loop)
