"""Event loops: how a task sleeps and is woken, one module a library. This imports no trio; whoever uses it has."""

from __future__ import annotations

from asyncio import _get_running_loop
from sys import modules

from aiopark._loops._asyncio import AsyncioBridge
from aiopark._loops._mailbox import mailboxes, parked_tasks
from aiopark._loops._protocol import Loop, TaskWaiter
from aiopark._loops._trio import running_bridge

__all__ = ["AsyncioBridge", "Loop", "TaskWaiter", "parked_tasks", "running_loop"]


def running_loop() -> Loop:
    """Return the event loop that runs the calling task.

    Raises:
        RuntimeError: there is none.
    """
    # Of a trio.run inside of an asyncio task, and of an asyncio task inside of trio (trio-asyncio), sniffio knows which
    # is the inner one: trio tells it, which needs it. Asked first: another thread may still be importing it.
    sniffio = modules.get("sniffio")
    if sniffio is not None and getattr(getattr(sniffio, "thread_local", None), "name", None) == "trio":
        return running_bridge()
    loop = _get_running_loop()
    reference = mailboxes.get(id(loop))
    if reference is not None:
        bridge = reference()
        if bridge is not None and not bridge.of_parent:
            return bridge  # type: ignore[return-value]  # by that id it is an AsyncioBridge
    if loop is None:
        raise RuntimeError(
            "no event loop runs here: a Parker is awaited in a coroutine that asyncio, or trio 0.29 or later, runs; "
            "a plain thread parks with aiopark.ThreadParker"
        )
    return AsyncioBridge(loop)
