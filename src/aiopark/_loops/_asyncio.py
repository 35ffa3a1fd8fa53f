"""asyncio (stock loops, uvloop, and whatever else runs asyncio's Tasks): how a task sleeps and is woken.

The awaitable that a task yields is not an `asyncio.Future`. It follows the protocol that Tasks expect of one
(`asyncio.isfuture`, Lib/asyncio/tasks.py and Modules/_asynciomodule.c), keeps the one callback that the Task
registers, and the mailbox steps the task by calling it. `Future.set_result` would schedule that call for the next
pass of the loop: a second pass through the selector. Only a wake from inside a step of the same loop does as
`set_result` does: the loop looks at its ready callbacks anyway before it selects again.

Who writes what: a waiter's fields belong to the loop's thread; but any waker writes `_posted`, and whoever throws the
coroutine away (the collector, on any thread) writes `_closed`, True only.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import sys
import types
import weakref
from asyncio import _get_running_loop, current_task
from contextlib import nullcontext
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from aiopark._loops._doorbell import Doorbell, EventfdDoorbell, hang
from aiopark._loops._mailbox import Mailbox

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator


class AsyncioWaiter:
    """One sleep of one task: to the Task it looks like a Future.

    It sleeps while `_callback` holds the one callback of the Task. What ends the sleep (timer, wake, cancellation)
    takes it out on the loop's thread, by statements, and calls it next: a signal handler, which may raise or cancel
    the task (as `asyncio.run` has it on Ctrl-C), runs before both or after both.
    """

    # Of the class, so that a new waiter need not set them: 0.3 µs.
    _asyncio_future_blocking = False
    _callback: Callable[[Any], object] | None = None
    _cancelled: tuple[Any, ...] | None = None  # the arguments of the CancelledError
    _closed = _posted = _scheduled = False
    _timer: asyncio.TimerHandle | None = None
    since = math.inf

    def __init__(self, bridge: AsyncioBridge) -> None:
        self._bridge = bridge

    # --- what whoever parks calls ---

    def wake_at(self, deadline: float) -> None:
        """See `TaskWaiter.wake_at`. On the loop's thread, in the task."""
        self._timer = self._bridge.loop.call_at(deadline, self.resume)

    def __await__(self) -> Generator[AsyncioWaiter, None, None]:
        self.since = monotonic()
        self._asyncio_future_blocking = True  # "yielded by an await, not by a stray yield"
        # Yields itself to the Task, then ends. A generator would do the same in twice the time (0.4 µs more).
        return iter((self,))  # type: ignore[return-value]

    def wake(self) -> None:
        """See `TaskWaiter.wake`."""
        # Post first, note second: interrupted in between, the next waker posts once more, which is harmless.
        # A waker that finds the note leaves the wake to the post that is under way.
        if self._posted:
            return
        bridge = self._bridge
        if (
            self._callback is not None
            and not self._scheduled
            and _get_running_loop() is bridge.loop
            and current_task(bridge.loop) is not None
        ):
            # Inside a task's step. Being on the loop's thread is not enough: a signal handler may have
            # interrupted the select itself. One such call is enough, and is not counted on: the loop forgets a callback
            # at whose first line a signal handler raised, where a mailbox rings on; so the next wake goes there.
            bridge.loop.call_soon(self._step, context=self._context)
            self._scheduled = True
            return
        bridge.post(self)
        self._posted = True

    def coroutine_closed(self) -> None:
        """See `TaskWaiter.coroutine_closed`."""
        self._closed = True
        self._bridge.post(self)  # the loop's thread counts it out

    def never_wakes(self) -> bool:
        """See `TaskWaiter.never_wakes`."""
        return self._closed or self._bridge.never_runs()

    def who(self) -> str:
        """See `TaskWaiter.who`."""
        task = getattr(self._callback, "__self__", None)
        return f"task {task.get_name()!r}" if isinstance(task, asyncio.Task) else "a task"

    # --- what the loop calls, on its own thread ---

    def resume(self) -> None:
        """Step the task. Called by the mailbox, and by the timer at the deadline."""
        if self._callback is not None:
            try:
                self._context.run(self._take(), self)
            except (KeyboardInterrupt, SystemExit):
                raise  # as asyncio's own Handle lets them out of the loop
            except BaseException as error:
                self._bridge.loop.call_exception_handler(
                    {"message": "stepping a parked task failed", "exception": error}
                )

    def _step(self) -> None:
        """Step the task, in its context. Called by a Handle, which does the rest of `resume`."""
        if self._callback is not None:
            self._take()(self)

    def _take(self) -> Callable[[Any], object]:
        """Take the callback, to be called next. Nobody gives it a name: a traceback would keep it, and the task."""
        if self._timer is not None:
            self._timer.cancel()
        callback = self._callback
        self._callback = None
        self._bridge.parked -= 1
        return _nothing if self._closed or callback is None else callback

    # --- what the Task calls: the future protocol ---

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._bridge.loop

    def add_done_callback(
        self, callback: Callable[[Any], object], *, context: contextvars.Context | None = None
    ) -> None:
        self._context = contextvars.copy_context() if context is None else context
        self._bridge.parked += 1
        self._callback = callback

    def cancel(self, msg: Any | None = None) -> bool:
        if self.done():
            return False  # awake already: the Task keeps the cancellation for its next await
        self._bridge.loop.call_soon(self._step, context=self._context)
        self._cancelled = () if msg is None else (msg,)  # anyio tells its own cancellations by the message
        return True

    def result(self) -> None:
        if self._cancelled is not None:
            raise asyncio.CancelledError(*self._cancelled)

    def done(self) -> bool:
        return self._callback is None or self._cancelled is not None

    def cancelled(self) -> bool:
        return self._cancelled is not None

    def __repr__(self) -> str:
        return "<aiopark unparked>" if self.done() else "<aiopark parked>"


class AsyncioBridge(Mailbox):
    """The mailbox of one asyncio loop, which keeps it alive: through the doorbell, or a timer that never comes."""

    __slots__ = ("_has_doorbell", "_source", "doorbell", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.loop: Final = loop
        self._source: Callable[[], Any] = _nothing
        hung = hang(loop, self._answer)
        if hung is None:
            loop.call_later(_NEVER, self.drain, context=contextvars.Context())
        self._has_doorbell: Final = hung is not None
        self.doorbell: Final[Callable[[], Doorbell | None]] = hung or _nothing  # None: none, or the loop is closed
        self.publish(id(loop))

    def time(self) -> float:
        return self.loop.time()

    def waiter(self) -> AsyncioWaiter:
        if not self._has_doorbell:
            self._rung = -1  # a drain at whose first line a signal handler raises is forgotten: let others ring again
        return AsyncioWaiter(self)

    @types.coroutine
    def checkpoint(self) -> Generator[None, None, None]:
        yield

    async def checkpoint_if_cancelled(self) -> None:
        """See `Loop.checkpoint_if_cancelled`. A Task does not tell: the cancellation comes with its next sleep."""

    async def to_the_end(self, wait: Callable[[], Awaitable[None]]) -> asyncio.CancelledError | None:
        """See `Loop.to_the_end`. `Task.cancelling` counts all of them: who cancelled takes that back, not we."""
        # A cancelled scope of anyio cancels its tasks in each pass of the loop, as long as no shield is between.
        scope = getattr(sys.modules.get("anyio"), "CancelScope", None)
        cancelled: asyncio.CancelledError | None = None
        with nullcontext() if scope is None else scope(shield=True):
            while True:
                try:
                    await wait()
                except asyncio.CancelledError as error:
                    cancelled = error
                else:
                    return cancelled

    def never_runs(self) -> bool:
        return self.of_parent or self.loop.is_closed()

    def source(self, make: Callable[[int], Any]) -> Any:
        """See `Loop.source`. The kernel rings the loop's doorbell, which owns the source."""
        source = self._source()
        if source is None:
            doorbell = self.doorbell()
            if isinstance(doorbell, EventfdDoorbell):
                source = make(doorbell.fileno())
                doorbell.owned = source
                self._source = weakref.ref(source)
        return source

    def _answer(self) -> None:
        """Drain, since the doorbell rang."""
        # nest_asyncio lets a task's step run the loop. A Handle enters one context, and not a second time, so the
        # doorbell's own could not be answered in there, were it still in the middle of the step. trio-asyncio calls
        # readers in a task of trio, and tells sniffio of asyncio in its callbacks only, which `running_loop` asks.
        if getattr(self.loop, "_nest_patched", False) or "trio_asyncio" in sys.modules:
            self._rung = -1  # the loop may forget the call, if a signal handler raises at its first line
            self.loop.call_soon(self._drain_all, True, context=contextvars.Context())
        else:
            self._drain_all()

    def _drain_all(self, nested: bool = False) -> None:
        source = self._source()
        if source is None:
            self.drain()
        else:
            self.drain_around(source, nested=nested)

    def _ring(self) -> None:
        if self._has_doorbell:
            doorbell = self.doorbell()
            if doorbell is not None:
                doorbell.ring()
        else:
            try:
                self.loop.call_soon_threadsafe(self.drain, context=contextvars.Context())
            except RuntimeError:
                if not self.loop.is_closed():  # asking before the call would be a race
                    raise


# Seconds. asyncio's own loops sleep a day at most at a time, and uvloop takes a century.
_NEVER: Final = 3.0e9


def _nothing(*_: object) -> None:
    return None
