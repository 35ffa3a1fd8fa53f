"""trio: how a task sleeps and is woken.

trio is imported when the first task parks under it, from what that task's own import has left in `sys.modules`. This
module is there from the start, since a process that has no descriptor left can import nothing.

Who writes what: a waiter's fields belong to the thread that trio runs on; but any waker writes `_posted`, and whoever
throws the coroutine of a run that crashed away (the collector, on any thread) writes `_closed` and ends the sleep.
"""

from __future__ import annotations

import math
import os
import sys
import time
import weakref
from typing import TYPE_CHECKING, Any, Final

from aiopark._loops._mailbox import Mailbox

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    import trio  # noqa: TC004  # at run time `running_bridge` does that

    from aiopark._loops._protocol import Source


class TrioWaiter:
    """One sleep of one task."""

    __slots__ = ("_bridge", "_closed", "_deadline", "_posted", "_task", "since")

    def __init__(self, bridge: TrioBridge) -> None:
        self._bridge: Final = bridge
        self._task: trio.lowlevel.Task | None = None
        self._closed = False
        self._posted = False
        self._deadline = math.inf
        self.since = time.monotonic()

    def wake_at(self, deadline: float) -> None:
        """See `TaskWaiter.wake_at`."""
        self._deadline = deadline

    def __await__(self) -> Generator[Any, Any, None]:
        return self._sleep().__await__()

    async def _sleep(self) -> None:
        bridge = self._bridge
        self._task = trio.lowlevel.current_task()
        bridge.parked += 1
        try:
            if self._deadline == math.inf:
                await trio.lowlevel.wait_task_rescheduled(self._abort)
            else:
                with trio.CancelScope(deadline=self._deadline):
                    try:
                        await trio.lowlevel.wait_task_rescheduled(self._abort)
                    except GeneratorExit:
                        self._closed = True  # here, for outside of trio the scope ends with an exception of its own
                        raise
        finally:
            self._task = None
            bridge.parked -= 1

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED

    def wake(self) -> None:
        """See `TaskWaiter.wake`."""
        if not self._posted:  # see AsyncioWaiter.wake
            self._bridge.post(self)
            self._posted = True

    def coroutine_closed(self) -> None:
        """See `TaskWaiter.coroutine_closed`."""
        self._closed = True

    def never_wakes(self) -> bool:
        """See `TaskWaiter.never_wakes`."""
        return self._closed or self._bridge.never_runs()

    def who(self) -> str:
        """See `TaskWaiter.who`."""
        task = self._task
        return "a task" if task is None else f"task {task.name!r}"

    def resume(self) -> None:
        """Reschedule the task. Called by the mailbox."""
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task)


class TrioBridge(Mailbox):
    """The mailbox of one `trio.run`, which keeps it alive in a RunVar."""

    __slots__ = ("_listens", "_source", "_token")

    def __init__(self) -> None:
        super().__init__()
        self._token = trio.lowlevel.current_trio_token()
        self._source: Callable[[], Any] = _nothing
        self._listens: bool | None = None  # None: not yet; False: no more
        self.publish(id(self._token))

    def time(self) -> float:
        return trio.current_time()

    def checkpoint(self) -> Awaitable[None]:
        return trio.lowlevel.checkpoint()  # noqa: ASYNC105  # the caller awaits it

    def checkpoint_if_cancelled(self) -> Awaitable[None]:
        return trio.lowlevel.checkpoint_if_cancelled()  # noqa: ASYNC105  # the caller awaits it

    async def to_the_end(self, wait: Callable[[], Awaitable[None]]) -> None:
        """See `Loop.to_the_end`. trio's cancellations last: the next checkpoint outside of the shield raises one."""
        with trio.CancelScope(shield=True):
            await wait()

    def waiter(self) -> TrioWaiter:
        return TrioWaiter(self)

    def source(self, make: Callable[[int], Any]) -> Any:
        """See `Loop.source`. A system task owns it, and ends with the run; what parks after that has none."""
        source = self._source()
        if self._listens is None and sys.platform == "linux" and hasattr(os, "eventfd"):
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
                self.drain_around(source)
        finally:
            self._listens = False
            try:
                source.close()
            finally:
                os.close(eventfd)

    def _ring(self) -> None:
        self._run_soon(self.drain)

    def never_runs(self) -> bool:
        return self.of_parent or not self._run_soon(_nothing)

    def _run_soon(self, call: Callable[[], None]) -> bool:
        try:
            self._token.run_sync_soon(call, idempotent=True)
        except trio.RunFinishedError:
            return False
        return True


def _nothing() -> None:
    pass


_bridge: trio.lowlevel.RunVar[TrioBridge]


def trio_coroutine() -> object:
    """Return the coroutine of the trio task that runs here. Asked only when trio has been imported."""
    return sys.modules["trio"].lowlevel.current_task().coro


def running_bridge() -> TrioBridge:
    """Return the bridge of the trio run that this task is part of.

    Raises:
        RuntimeError: the run is the parent's, seen from the child of a fork.
    """
    global trio, _bridge  # noqa: PLW0603  # whoever comes second stores the same module
    try:
        bridge = _bridge.get()
    except NameError:
        import trio

        _bridge = trio.lowlevel.RunVar("aiopark bridge")
        return running_bridge()
    except LookupError:
        bridge = TrioBridge()
        _bridge.set(bridge)
    if bridge.of_parent:
        raise RuntimeError("this trio run is the parent's, seen from a forked child: start a new one on another thread")
    return bridge
