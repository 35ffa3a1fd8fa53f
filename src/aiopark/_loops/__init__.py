"""Event loops: how a task sleeps and is woken, one module a library, loaded when it is first met."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from aiopark._loops._mailbox import parked_tasks

if TYPE_CHECKING:
    from aiopark._loops._protocol import Loop, Waiter

__all__ = ["Loop", "Waiter", "parked_tasks", "running_loop"]


def running_loop() -> Loop:
    """Give the event loop that runs the calling task.

    Raises:
        RuntimeError: there is none.
    """
    # trio first: in its guest mode an asyncio loop runs on the same thread. Whoever runs under trio has imported
    # it; a module that another thread is still importing has no `lowlevel` yet.
    lowlevel = getattr(sys.modules.get("trio"), "lowlevel", None)
    if lowlevel is not None and lowlevel.in_trio_task():
        from aiopark._loops import _trio

        return _trio.running_bridge()
    if "asyncio" in sys.modules:
        from aiopark._loops import _asyncio

        bridge = _asyncio.running_bridge()
        if bridge is not None:
            return bridge
    raise RuntimeError(
        "no event loop runs here: a Parker is awaited in a coroutine that asyncio or trio runs; "
        "a plain thread parks with aiopark.ThreadParker"
    )
