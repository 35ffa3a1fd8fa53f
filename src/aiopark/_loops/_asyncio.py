"""asyncio (stock loops, uvloop, and whatever else runs asyncio's Tasks): how a task sleeps and is woken.

The awaitable that a task yields is not an `asyncio.Future`. It follows the protocol that Tasks expect of one
(`asyncio.isfuture`, Lib/asyncio/tasks.py and Modules/_asynciomodule.c), keeps the one callback that the Task
registers, and the mailbox steps the task by calling it. `Future.set_result` would schedule that call for the next
pass of the loop: a second pass through the selector.

Who writes what: a waiter's fields belong to the loop's thread; but any waker writes `_posted`, and whoever throws the
coroutine away (the collector, on any thread) writes `_gone`, True only.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import threading
import types
import weakref
from asyncio import _get_running_loop
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from aiopark._loops._doorbell import EventfdDoorbell, hang
from aiopark._loops._mailbox import Mailbox, mailboxes

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


class AsyncioWaiter:
    """One sleep of one task: to the Task it looks like a Future.

    It sleeps while `_callback` holds the one callback of the Task. What ends the sleep takes it out with one call of
    `list.pop`, so that only one of timer, wake and cancellation does, even if a signal handler cancels the task (as
    `asyncio.run` has it on Ctrl-C) while the mailbox resumes it.
    """

    __slots__ = (
        "_asyncio_future_blocking",
        "_bridge",
        "_callback",
        "_cancelled",
        "_context",
        "_gone",
        "_posted",
        "_timer",
    )

    def __init__(self, bridge: AsyncioBridge) -> None:
        self._bridge = bridge
        self._callback: list[Callable[[Any], object]] = []
        self._cancelled: tuple[Any, ...] | None = None  # the arguments of the CancelledError
        self._gone = False
        self._posted = False
        self._timer: asyncio.TimerHandle | None = None

    # --- what the Parker calls ---

    def sleep(self, deadline: float) -> AsyncioWaiter:
        """See `Waiter.sleep`. On the loop's thread, in the task."""
        if deadline != math.inf:
            self._timer = self._bridge.loop.call_at(deadline, self.resume)
        self._asyncio_future_blocking = True  # "yielded by an await, not by a stray yield"
        return self

    def __await__(self) -> Generator[AsyncioWaiter, None, None]:
        # Yields itself to the Task, then ends. A generator would do the same in twice the time (0.4 µs more).
        return iter((self,))  # type: ignore[return-value]

    def wake(self) -> None:
        """See `Waiter.wake`."""
        # Post first, note second: interrupted in between, the next waker posts once more, which is harmless.
        # A waker that finds the note leaves the wake to the post that is under way.
        if not self._posted:
            self._bridge.post(self)
            self._posted = True

    def abandon(self) -> None:
        """See `Waiter.abandon`."""
        self._gone = True
        self._bridge.post(self)  # the loop's thread counts it out

    def gone(self) -> bool:
        """See `Waiter.gone`."""
        return self._gone or self._bridge.gone()

    # --- what the loop calls, on its own thread ---

    def resume(self) -> None:
        """Step the task. Called by the mailbox, and by the timer at the deadline."""
        callback = self._end_sleep()
        if callback is not None and not self._gone:
            try:
                self._context.run(callback, self)
            except (KeyboardInterrupt, SystemExit):
                raise  # as asyncio's own Handle lets them out of the loop
            except BaseException as error:
                self._bridge.loop.call_exception_handler(
                    {"message": f"stepping a parked task failed: {callback!r}", "exception": error}
                )

    def _end_sleep(self) -> Callable[[Any], object] | None:
        """Take the callback, if nobody did before."""
        try:
            callback = self._callback.pop()
        except IndexError:
            return None
        self._bridge.parked -= 1
        if self._timer is not None:
            self._timer.cancel()
        return callback

    # --- what the Task calls: the future protocol ---

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._bridge.loop

    def add_done_callback(
        self, callback: Callable[[Any], object], *, context: contextvars.Context | None = None
    ) -> None:
        self._context = contextvars.copy_context() if context is None else context
        self._bridge.parked += 1
        self._callback.append(callback)

    def cancel(self, msg: Any | None = None) -> bool:
        callback = self._end_sleep()
        if callback is None:
            return False  # awake already: the Task keeps the cancellation for its next await
        self._cancelled = () if msg is None else (msg,)  # anyio tells its own cancellations by the message
        self._bridge.loop.call_soon(callback, self, context=self._context)
        return True

    def result(self) -> None:
        if self._cancelled is not None:
            raise asyncio.CancelledError(*self._cancelled)

    def done(self) -> bool:
        return not self._callback

    def cancelled(self) -> bool:
        return self._cancelled is not None

    def __repr__(self) -> str:
        return "<aiopark parked>" if self._callback else "<aiopark unparked>"


class AsyncioBridge(Mailbox):
    """The mailbox of one asyncio loop, which keeps it alive through the doorbell at its door."""

    __slots__ = ("_context", "_doorbell", "_source", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.loop: Final = loop
        self._context = contextvars.Context()
        self._doorbell = hang(loop, self.drain)
        self._source: Callable[[], Any] = _nothing
        self._publish()

    def time(self) -> float:
        return self.loop.time()

    def waiter(self) -> AsyncioWaiter:
        return AsyncioWaiter(self)

    @types.coroutine
    def checkpoint(self) -> Generator[None, None, None]:
        yield

    def gone(self) -> bool:
        return self.ghost or self.loop.is_closed()

    def source(self, make: Callable[[int], Any]) -> Any:
        """See `Loop.source`. The kernel rings the loop's doorbell, which owns the source."""
        source = self._source()
        if source is None and self._doorbell is not None:
            doorbell = self._doorbell()
            if isinstance(doorbell, EventfdDoorbell):
                source = make(doorbell.fileno())
                doorbell.replace(partial(self.collect, source))
                self._source = weakref.ref(source)
        return source

    def _ring(self) -> bool:
        loop = self.loop
        # Inside a task's step the loop will look at its ready queue before it selects again: no doorbell needed.
        # Being on the loop's thread is not enough: a signal handler may have interrupted the select itself.
        if _get_running_loop() is loop and asyncio.current_task(loop) is not None:
            loop.call_soon(self.drain, context=self._context)
            return False  # the loop forgets a callback at whose first line a signal handler raised; a doorbell rings on
        if self._doorbell is not None:
            doorbell = self._doorbell()
            if doorbell is not None:  # else the loop is closed
                doorbell.ring()
        else:
            try:
                loop.call_soon_threadsafe(self.drain, context=self._context)
            except RuntimeError:
                if not loop.is_closed():  # asking before the call would be a race
                    raise
        return True


def _nothing() -> None:
    return None


class _ThisThread(threading.local):
    """The bridge of the loop that last ran here: a weak reference, for a doorbell closes with its loop."""

    bridge: Callable[[], AsyncioBridge | None] = staticmethod(lambda: None)
    kept: AsyncioBridge | None = None


_this_thread: Final = _ThisThread()


def bridge_of(loop: asyncio.AbstractEventLoop) -> AsyncioBridge:
    """Give the bridge of the loop that runs on this thread."""
    bridge = _this_thread.bridge()
    if bridge is None or bridge.loop is not loop or bridge.ghost:
        bridge = _find(loop) or AsyncioBridge(loop)
        # Without a doorbell the loop keeps nothing of ours, so the thread does.
        _this_thread.kept = bridge if bridge._doorbell is None else None
        _this_thread.bridge = weakref.ref(bridge)
    return bridge


def _find(loop: asyncio.AbstractEventLoop) -> AsyncioBridge | None:
    """Find the bridge of a loop that ran on another thread before."""
    for reference in mailboxes.copy():
        bridge = reference()
        if isinstance(bridge, AsyncioBridge) and bridge.loop is loop and not bridge.ghost:
            return bridge
    return None
