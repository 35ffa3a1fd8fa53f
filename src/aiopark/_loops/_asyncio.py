"""asyncio (stock loops, uvloop, and whatever else runs asyncio's Tasks): how a task sleeps and is woken.

The awaitable that a task yields is not an `asyncio.Future`. It follows the protocol that Tasks expect of one
(`asyncio.isfuture`, Lib/asyncio/tasks.py and Modules/_asynciomodule.c), keeps the one callback that the Task
registers, and the mailbox steps the task by calling it. `Future.set_result` would schedule that call for the next
pass of the loop: a second pass through the selector, 0.15 to 0.2 of a round trip (`benchmarks/round_trip.py`).

Who writes what: a waiter's fields belong to the loop's thread, `posted` apart, which any waker writes.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import threading
import types
import weakref
from asyncio import _get_running_loop
from typing import TYPE_CHECKING, Any, Final

from aiopark._loops._doorbell import Doorbell
from aiopark._loops._mailbox import Mailbox, mailboxes

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


class AsyncioWaiter:
    """One sleep of one task: to the Task it looks like a Future."""

    __slots__ = (
        "_asyncio_future_blocking",
        "_bridge",
        "_callback",
        "_cancel_message",
        "_cancelled",
        "_context",
        "_gone",
        "_posted",
    )

    def __init__(self, bridge: AsyncioBridge) -> None:
        self._asyncio_future_blocking = False
        self._bridge: Final = bridge
        self._callback: Callable[[Any], object] | None = None
        self._cancelled = False
        self._gone = False
        self._posted = False

    # --- what the Parker calls ---

    @types.coroutine
    def sleep(self, deadline: float) -> Generator[AsyncioWaiter, None, None]:
        """See `Waiter.sleep`. On the loop's thread, in the task."""
        bridge = self._bridge
        timer = None if deadline == math.inf else bridge.loop.call_at(deadline, self.resume)
        self._asyncio_future_blocking = True  # "yielded by an await, not by a stray yield"
        bridge.parked += 1
        try:
            yield self
        except GeneratorExit:
            raise  # in any thread: abandon() sees to the count
        except BaseException:
            bridge.parked -= 1
            raise
        else:
            bridge.parked -= 1
        finally:
            if timer is not None:
                timer.cancel()

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
        self._bridge.post(self)

    def gone(self) -> bool:
        """See `Waiter.gone`."""
        return self._gone or self._bridge.loop.is_closed() or self._bridge.is_ghost()

    # --- what the loop calls, on its own thread ---

    def resume(self) -> None:
        """Step the task. Called by the mailbox, and by the timer at the deadline."""
        callback = self._callback
        if self._gone:
            self._callback = None
            self._bridge.parked -= callback is not None
        elif callback is not None:
            self._callback = None
            try:
                self._context.run(callback, self)
            except (KeyboardInterrupt, SystemExit):
                raise  # as asyncio's own Handle lets them out of the loop
            except BaseException as error:
                self._bridge.loop.call_exception_handler(
                    {"message": f"stepping a parked task failed: {callback!r}", "exception": error}
                )

    # --- what the Task calls: the future protocol ---

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._bridge.loop

    def add_done_callback(
        self, callback: Callable[[Any], object], *, context: contextvars.Context | None = None
    ) -> None:
        self._callback = callback
        self._context = contextvars.copy_context() if context is None else context

    def cancel(self, msg: Any | None = None) -> bool:
        callback = self._callback
        if callback is None:
            return False  # awake already: the Task keeps the cancellation for its next await
        self._callback = None
        self._cancelled = True
        self._cancel_message = msg  # anyio tells its own cancellations by the message
        self._bridge.loop.call_soon(callback, self, context=self._context)
        return True

    def result(self) -> None:
        if self._cancelled:
            message = self._cancel_message
            raise asyncio.CancelledError() if message is None else asyncio.CancelledError(message)

    def done(self) -> bool:
        return self._callback is None

    def cancelled(self) -> bool:
        return self._cancelled

    def __repr__(self) -> str:
        return "<aiopark parked>" if self._callback is not None else "<aiopark unparked>"


class AsyncioBridge(Mailbox):
    """The mailbox of one asyncio loop. The loop keeps it alive through the reader that it registers there."""

    __slots__ = ("_context", "_doorbell", "loop", "time")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.loop: Final = loop
        self.time: Final = loop.time
        self._context = contextvars.Context()
        doorbell = Doorbell()
        self._doorbell: Doorbell | None = doorbell if doorbell.attach(loop, self._answer) else None

    def waiter(self) -> AsyncioWaiter:
        return AsyncioWaiter(self)

    @types.coroutine
    def checkpoint(self) -> Generator[None, None, None]:
        yield

    def _answer(self) -> None:
        doorbell = self._doorbell
        assert doorbell is not None
        doorbell.silence()
        self.drain()

    def _ring(self) -> None:
        loop = self.loop
        # Inside a task's step the loop will look at its ready queue before it selects again: no doorbell needed.
        # Being on the loop's thread is not enough: a signal handler may have interrupted the select itself.
        if _get_running_loop() is loop and asyncio.current_task(loop) is not None:
            loop.call_soon(self.drain, context=self._context)
        elif self._doorbell is not None:
            self._doorbell.ring()
        else:
            try:
                loop.call_soon_threadsafe(self.drain, context=self._context)
            except RuntimeError:
                if not loop.is_closed():  # asking before the call would be a race
                    raise


class _ThisThread(threading.local):
    """The bridge of the loop that last ran here: a weak reference, for a doorbell closes with its loop."""

    bridge: Callable[[], AsyncioBridge | None] = staticmethod(lambda: None)


_this_thread: Final = _ThisThread()


def running_bridge() -> AsyncioBridge | None:
    """Give the bridge of the loop that runs on this thread, or None if none runs."""
    loop = _get_running_loop()
    if loop is None:
        return None
    bridge = _this_thread.bridge()
    if bridge is None or bridge.loop is not loop or bridge.is_ghost():
        bridge = _find(loop) or AsyncioBridge(loop)
        # Without a doorbell the loop keeps nothing of ours, so the thread does.
        _this_thread.bridge = (lambda kept=bridge: kept) if bridge._doorbell is None else weakref.ref(bridge)
    return bridge


def _find(loop: asyncio.AbstractEventLoop) -> AsyncioBridge | None:
    """Find the bridge of a loop that ran on another thread before."""
    for reference in mailboxes.copy():
        bridge = reference()
        if isinstance(bridge, AsyncioBridge) and bridge.loop is loop and not bridge.is_ghost():
            return bridge
    return None
