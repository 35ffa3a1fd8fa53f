"""trio: how a task sleeps and is woken.

Who writes what: a waiter's fields belong to the thread that trio runs on; but any waker writes `_posted`, and whoever
throws the coroutine of a run that crashed away (the collector, on any thread) writes `_gone` and ends the sleep.
"""

from __future__ import annotations

import math
import os
import sys
import weakref
from typing import TYPE_CHECKING, Any, Final

import trio

from aiopark._loops._mailbox import Mailbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiopark._loops._protocol import Source


class TrioWaiter:
    """One sleep of one task."""

    __slots__ = ("_bridge", "_gone", "_posted", "_task")

    def __init__(self, bridge: TrioBridge) -> None:
        self._bridge: Final = bridge
        self._task: trio.lowlevel.Task | None = None
        self._gone = False
        self._posted = False

    async def sleep(self, deadline: float) -> None:
        """See `Waiter.sleep`."""
        bridge = self._bridge
        self._task = trio.lowlevel.current_task()
        bridge.parked += 1
        try:
            if deadline == math.inf:
                await trio.lowlevel.wait_task_rescheduled(self._abort)
            else:
                with trio.CancelScope(deadline=deadline):
                    try:
                        await trio.lowlevel.wait_task_rescheduled(self._abort)
                    except GeneratorExit:
                        self._gone = True  # here, for outside of trio the scope ends with an exception of its own
                        raise
        finally:
            self._task = None
            bridge.parked -= 1

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED

    def wake(self) -> None:
        """See `Waiter.wake`."""
        if not self._posted:  # see AsyncioWaiter.wake
            self._bridge.post(self)
            self._posted = True

    def abandon(self) -> None:
        """See `Waiter.abandon`."""
        self._gone = True

    def gone(self) -> bool:
        """See `Waiter.gone`."""
        return self._gone or self._bridge.gone()

    def resume(self) -> None:
        """Reschedule the task. Called by the mailbox."""
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task)


class TrioBridge(Mailbox):
    """The mailbox of one `trio.run`, which keeps it alive in a RunVar."""

    __slots__ = ("_listens", "_source", "_token")

    time = staticmethod(trio.current_time)
    checkpoint = staticmethod(trio.lowlevel.checkpoint)

    def __init__(self) -> None:
        super().__init__()
        self._token = trio.lowlevel.current_trio_token()
        self._source: Callable[[], Any] = _nothing
        self._listens: bool | None = None  # None: not yet; False: no more
        self._publish()

    def waiter(self) -> TrioWaiter:
        return TrioWaiter(self)

    def source(self, make: Callable[[int], Any]) -> Any:
        """See `Loop.source`. A system task owns it, and ends with the run; what parks after that has none."""
        source = self._source()
        if self._listens is None and sys.platform == "linux":
            eventfd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            try:
                source = make(eventfd)
                trio.lowlevel.spawn_system_task(self._listen, eventfd, source)
            except BaseException as error:
                os.close(eventfd)
                if isinstance(error, RuntimeError):  # the run is about to end
                    return None
                raise
            self._source = weakref.ref(source)
            self._listens = True
        return source if self._listens else None

    async def _listen(self, eventfd: int, source: Source) -> None:
        try:
            while True:
                await trio.lowlevel.wait_readable(eventfd)
                try:
                    if sys.platform == "linux":
                        os.eventfd_read(eventfd)
                except BlockingIOError:
                    pass  # a child that was forked inside of this run took it
                self.collect(source)
        finally:
            self._listens = False
            try:
                source.close()
            finally:
                os.close(eventfd)

    def _ring(self) -> bool:
        self._run_soon(self.drain)
        return True

    def gone(self) -> bool:
        return self.ghost or not self._run_soon(_nothing)

    def _run_soon(self, call: Callable[[], None]) -> bool:
        try:
            self._token.run_sync_soon(call, idempotent=True)
        except trio.RunFinishedError:
            return False
        return True


def _nothing() -> None:
    pass


_bridge: Final[trio.lowlevel.RunVar[TrioBridge]] = trio.lowlevel.RunVar("aiopark bridge")


def running_bridge() -> TrioBridge:
    """Give the bridge of the trio run that this task is part of.

    Raises:
        RuntimeError: the run is the parent's, seen from the child of a fork.
    """
    try:
        bridge = _bridge.get()
    except LookupError:
        bridge = TrioBridge()
        _bridge.set(bridge)
    if bridge.ghost:
        raise RuntimeError("this trio run is the parent's, seen from a forked child: start a new one on another thread")
    return bridge
