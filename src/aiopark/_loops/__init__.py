"""Event loops: how a task sleeps and is woken, one module a library. This imports no trio; whoever uses it has."""

from __future__ import annotations

import asyncio
from asyncio import _get_running_loop, current_task
from sys import _getframe, modules
from typing import TYPE_CHECKING, Any

from aiopark._loops._asyncio import AsyncioBridge
from aiopark._loops._mailbox import mailboxes, parked_tasks
from aiopark._loops._protocol import Loop, TaskWaiter
from aiopark._loops._trio import running_bridge, trio_coroutine

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["AsyncioBridge", "Loop", "TaskWaiter", "loop_runs_here", "parked_tasks", "running_loop"]


def running_loop() -> Loop:
    """Return the event loop that runs the calling task.

    Raises:
        RuntimeError: there is none.
    """
    # Of a trio.run inside of an asyncio task, and of an asyncio task inside of trio (trio-asyncio), sniffio knows which
    # is the inner one: trio tells it, which needs it. Asked first: another thread may still be importing it.
    sniffio = modules.get("sniffio")
    loop = _get_running_loop()
    if (
        sniffio is not None
        and getattr(getattr(sniffio, "thread_local", None), "name", None) == "trio"
        and not (loop is not None and _is_inner(current_task(loop)))
    ):
        return running_bridge()
    reference = mailboxes.get(id(loop))
    if reference is not None:
        bridge = reference()
        if bridge is not None and not bridge.of_parent:
            return bridge  # type: ignore[return-value]  # by that id it is an AsyncioBridge
    if loop is None:  # trio-asyncio, if it was imported after this, has put its own function there
        loop = asyncio._get_running_loop()  # noqa: SLF001  # for those who deal with loops, as asyncio's docs say
    if loop is None:
        raise RuntimeError(
            "no event loop runs here: a Parker is awaited in a coroutine that asyncio, or trio 0.29 or later, runs; "
            "a plain thread parks with aiopark.ThreadParker"
        )
    return AsyncioBridge(loop)


def loop_runs_here() -> bool:
    """Return whether an event loop runs on this thread, which a call that blocks would hold up."""
    sniffio = modules.get("sniffio")
    return (
        asyncio._get_running_loop() is not None  # noqa: SLF001  # as above
        or getattr(getattr(sniffio, "thread_local", None), "name", None) == "trio"
    )


def _is_inner(task: asyncio.Task[Any] | None) -> bool:
    """Return whether a step of the asyncio task runs inside of a step of trio, as in `asyncio.run` in a trio task.

    sniffio says trio there. The one whose coroutine comes first on the stack is the inner one.
    """
    if task is None:
        return False
    ours, theirs = (getattr(coroutine, "cr_frame", None) for coroutine in (task.get_coro(), trio_coroutine()))
    frame: FrameType | None = _getframe(1)
    while frame is not None and frame is not theirs and frame is not ours:
        frame = frame.f_back
    return frame is not None and frame is ours
