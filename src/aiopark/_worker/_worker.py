"""Worker: the face. `_crew` has the queue and the threads, `_call` what happens to one call."""

from __future__ import annotations

import math
import threading
import time
import weakref
from concurrent.futures import Executor, Future
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

from aiopark._deadline import Seconds, after, seconds
from aiopark._errors import ClosedError
from aiopark._loops import loop_runs_here, running_loop
from aiopark._not_copied import NotCopied
from aiopark._parker import Parker
from aiopark._thread_parker import ThreadParker
from aiopark._worker._call import Call, SubmittedCall, raise_last
from aiopark._worker._crew import Crew, WorkerThread
from aiopark._worker._function import Function
from aiopark._worker._statistics import WorkerStatistics

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

_Result = TypeVar("_Result")


class Worker(NotCopied, Executor):
    """Runs functions one after the other on one thread of its own, for tasks and threads.

    It starts its thread with the first function. Tasks of any loops (asyncio, uvloop, trio, and so anyio), several
    at once, and threads share it; first come, first served. It is also a `concurrent.futures.Executor`, for
    `loop.run_in_executor`. Use it as `async with` or `with`, which closes it; one that was collected instead ends its
    thread too, with a ResourceWarning. One that nobody closed does not hold up the end of the program. The child of a
    fork starts with an empty queue and no thread.

    | methods | may be called from | block |
    | --- | --- | --- |
    | `run`, `aclose`, `async with` | a task | never; the task sleeps |
    | `blocking_run`, `close`, `with` | a thread without a running event loop | until the function, or what runs, ends |
    | `shutdown` | the same | the same, if it is to wait |
    | `submit`, `statistics` | any thread, any loop | never |

    A function runs in a copy of its caller's context, so context variables travel. Its caller raises what it raises,
    whatever that is. On its thread `current_worker()` returns the Worker. It may use other Workers, and submit to its
    own, but not wait for its own, which is a RuntimeError.

    What happens to a caller that is cancelled (`run`) or whose timeout has passed (`blocking_run`):

    | its function | what happens |
    | --- | --- |
    | is in the queue | it never runs |
    | runs | `interrupt()` is called, once; the caller waits for the function's end, however often it is cancelled |
    | has ended | as if it had ended after the cancellation |

    The caller then raises the cancellation, or TimeoutError. An exception of the function is its `__context__`. A
    result goes to `on_dropped(result)`, which is called on the thread, soon after the function ended. With
    `abandon_on_cancel=True` the caller does not wait for the end. `interrupt` is called on the caller's thread, never
    while another caller's function has the Worker's. It may come just before the function begins, or after its end.

    Args:
        name: of its thread; shown by `repr`.
        limit: how many functions may wait in the queue; None: any number. Those that somebody waits for (`run`,
            `blocking_run`) wait for their turn beyond that; what nobody waits for (`submit`) is refused then.

    Attributes:
        name: the name that it was given.

    Raises:
        TypeError: name is no string, limit no integer.
        ValueError: limit is below 1.
        ClosedError: (`run`, `blocking_run`, `submit`) the Worker was closed.
        DroppedError: (`run`, `blocking_run`) it was closed before the function began.
        RuntimeError: (`run`, `blocking_run`) called on a thread of this Worker; (what blocks) on the thread of a
            running event loop; (all that run) no thread can be started, or the
            main thread has ended, and this one is a daemon.

    Example:
        >>> import asyncio, sqlite3, aiopark
        >>> async def main():
        ...     async with aiopark.Worker(name="db") as worker:
        ...         connection = await worker.run(sqlite3.connect, ":memory:", on_dropped=sqlite3.Connection.close)
        ...         cursor = await worker.run(connection.execute, "SELECT 6 * 7", interrupt=connection.interrupt)
        ...         print(await worker.run(cursor.fetchone))
        ...         await worker.run(connection.close)
        >>> asyncio.run(main())
        (42,)

    Source: `concurrent.futures.ThreadPoolExecutor`; `abandon_on_cancel` is that of `anyio.to_thread.run_sync`.
    """

    name: str | None

    __slots__ = ("__weakref__", "_crew", "name")
    _instead = "make one of its own in each process"

    def __init__(self, *, name: str | None = None, limit: int | None = None) -> None:
        self._set_up(1, name, limit)

    def _set_up(self, size: object, name: object, limit: object) -> None:
        kind = type(self).__name__
        if name is not None and not isinstance(name, str):
            raise TypeError(f"the name of a {kind} must be a string, not {type(name).__name__}")
        size = _at_least_1(size, f"the number of threads of a {kind}")
        limit = None if limit is None else _at_least_1(limit, f"the limit of a {kind}")
        self.name = name
        self._crew = Crew(f"aiopark.{kind}" if name is None else name, size, limit)
        # Not __del__, which free-threaded builds run after the modules' globals are gone.
        weakref.finalize(self, self._crew.collected, self._describe()).atexit = False

    async def run(
        self,
        function: Callable[..., _Result],
        /,
        *arguments: Any,
        interrupt: Callable[[], object] | None = None,
        on_dropped: Callable[[_Result], object] | None = None,
        abandon_on_cancel: bool = False,
        **keywords: Any,
    ) -> _Result:
        """Run the function on the thread, and sleep until it has ended. The class says what a cancellation does.

        Args:
            function: what to run.
            *arguments: what it is called with.
            **keywords: the same.
            interrupt: makes the running function end soon, called from this thread when the task is cancelled.
            on_dropped: called with a result that the task no longer takes, to close it.
            abandon_on_cancel: whether a cancelled task leaves at once, and the function goes on alone.

        Returns:
            What the function returned.

        Raises:
            BaseException: what the function raised.

        Example:
            >>> import asyncio, aiopark
            >>> async def main():
            ...     async with aiopark.Worker() as worker:
            ...         return await worker.run(pow, 2, 10)
            >>> asyncio.run(main())
            1024
        """
        self._check_thread()
        loop = running_loop()
        await loop.checkpoint_if_cancelled()
        parker = Parker()
        call = Call(self, parker, Function(function, arguments, keywords), interrupt, on_dropped)
        entered = False
        cancelled: BaseException | None = None
        try:
            try:
                entered = self._crew.enter(call)
                if entered:
                    await parker.park()
            except GeneratorExit:
                # Maybe by the collector, on some other thread, where nobody expects interrupt().
                call.is_abandoned = True
                if not self._crew.queue.withdraw(call):
                    call.give_up(interrupt=False)
                raise
            except BaseException as error:
                if self._crew.queue.withdraw(call):
                    raise
                cancelled = error
            # Not in the except block: what is raised in there has the cancellation as its context. It is to be the
            # reverse.
            if cancelled is None:
                if not entered:
                    raise _closed()
                return call.outcome()  # type: ignore[no-any-return]
            call.is_abandoned = abandon_on_cancel
            if call.give_up() and not abandon_on_cancel:
                again = await loop.to_the_end(parker.park)
                cancelled = cancelled if again is None else again
            raise_last(call.interrupt_error, call.take_error(), cancelled)
        except BaseException:
            self._crew.dispose(call.disposal())
            raise
        finally:
            call.is_abandoned = True
            del cancelled

    def blocking_run(
        self,
        function: Callable[..., _Result],
        /,
        *arguments: Any,
        timeout: Seconds | None = None,
        interrupt: Callable[[], object] | None = None,
        on_dropped: Callable[[_Result], object] | None = None,
        abandon_on_cancel: bool = False,
        **keywords: Any,
    ) -> _Result:
        """Run the function on the thread, and block until it has ended: `run` for threads.

        Ctrl-C is to the caller what a cancellation is to a task. A second one leaves the function alone.

        Args:
            function: what to run.
            *arguments: what it is called with.
            **keywords: the same.
            timeout: seconds from now after which the caller gives the function up; None waits forever. If the function
                ends at that moment, its result wins.
            interrupt: makes the running function end soon, called from this thread.
            on_dropped: called with a result that the caller no longer takes, to close it.
            abandon_on_cancel: whether to leave at once then, and the function goes on alone.

        Returns:
            What the function returned.

        Raises:
            BaseException: what the function raised.
            TimeoutError: the function had not ended in time.
            TypeError: timeout is no number.
            ValueError: timeout is NaN.

        Example:
            >>> import aiopark
            >>> with aiopark.Worker() as worker:
            ...     worker.blocking_run(pow, 2, 10)
            1024
        """
        self._check_thread()
        _check_blocking("blocking_run()", "await run()")
        deadline = math.inf if timeout is None else after(time.monotonic(), seconds(timeout, "timeout"))
        parker = ThreadParker()
        call = Call(self, parker, Function(function, arguments, keywords), interrupt, on_dropped)
        entered = False
        cancelled: BaseException | None = None
        try:
            try:
                entered = self._crew.enter(call)
                if entered and not parker.park_until(deadline):
                    cancelled = TimeoutError(f"the function had not ended after {timeout} seconds")
            except BaseException as error:
                cancelled = error
            if cancelled is None:
                if not entered:
                    raise _closed()
                return call.outcome()  # type: ignore[no-any-return]
            if self._crew.queue.withdraw(call):
                raise cancelled
            call.is_abandoned = abandon_on_cancel
            if call.give_up():
                if not abandon_on_cancel:
                    parker.park()
            elif isinstance(cancelled, TimeoutError):
                return call.outcome()  # type: ignore[no-any-return]
            raise_last(call.interrupt_error, call.take_error(), cancelled)
        except BaseException:
            self._crew.dispose(call.disposal())
            raise
        finally:
            call.is_abandoned = True
            del cancelled

    def submit(self, function: Callable[..., _Result], /, *arguments: Any, **keywords: Any) -> Future[_Result]:
        """Put the function into the queue, and return at once.

        Args:
            function: what to run.
            *arguments: what it is called with.
            **keywords: the same.

        Returns:
            The Future of the result. To cancel it while the function is in the queue takes it out of there.

        Raises:
            queue.Full: `limit` functions are in the queue already.

        Example:
            >>> import asyncio, aiopark
            >>> with aiopark.Worker() as worker:
            ...     worker.submit(pow, 2, 10).result()
            1024
        """
        future: Future[_Result] = Future()
        call = SubmittedCall(self, future, Function(function, arguments, keywords))
        try:
            entered = self._crew.enter(call, refuses=True)
        except BaseException:
            self._crew.queue.withdraw(call)
            raise
        if not entered:
            raise _closed()
        future.add_done_callback(partial(_withdraw_cancelled, self._crew, call))
        return future

    def close(self) -> None:
        """Drop what is in the queue, and block until what runs has ended, and the threads. Idempotent.

        Callers whose functions are dropped raise DroppedError; the Futures of `submit` are cancelled. A function of
        this Worker that calls it does not wait for itself.

        Example:
            >>> import aiopark
            >>> worker = aiopark.Worker(name="printer")
            >>> worker.close()
            >>> worker
            <aiopark.Worker 'printer' closed>
        """
        _check_blocking("close()", "await aclose()")
        self._crew.close()
        self._crew.join()

    async def aclose(self) -> None:
        """Do what `close` does, in a task: sleep until what runs has ended, however often the task is cancelled.

        Example:
            >>> import asyncio, aiopark
            >>> asyncio.run(aiopark.Worker().aclose())
        """
        loop = running_loop()
        self._crew.close()
        cancelled: BaseException | None = None
        try:
            if self._crew.has(threading.current_thread()) or not self._crew.threads:
                await loop.checkpoint()
            else:
                cancelled = await loop.to_the_end(self._crew.wait_for_the_end)
                if cancelled is not None:
                    raise cancelled
                await loop.checkpoint_if_cancelled()
        finally:
            del cancelled
            if not self._crew.threads:
                self._crew.join()  # they have left their places, and are about to end

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # as Executor has it
        """Let nobody run functions any more, as every Executor does; those in the queue still run.

        Args:
            wait: whether to block until they have ended, and the threads.
            cancel_futures: whether to drop what is in the queue, as `close` does.

        Example:
            >>> import aiopark
            >>> worker = aiopark.Worker()
            >>> future = worker.submit(pow, 2, 10)
            >>> worker.shutdown()
            >>> future.result()
            1024
        """
        if wait:
            _check_blocking("shutdown()", "await aclose()")
        if cancel_futures:
            self._crew.close()
        else:
            self._crew.shut()
        if wait:
            self._crew.join()

    def statistics(self) -> WorkerStatistics:
        """Take a picture of the Worker.

        Returns:
            The figures; they need not be of one instant.

        Example:
            >>> import aiopark
            >>> aiopark.Worker(limit=10).statistics()
            WorkerStatistics(queued=0, waiting=0, running=0, threads=0, limit=10)
        """
        crew = self._crew
        limit, in_line = crew.queue.limit, len(crew.queue)
        queued = in_line if limit is None else min(in_line, limit)
        return WorkerStatistics(queued, in_line - queued, crew.running(), len(crew.threads), limit)

    def __enter__(self) -> Self:
        _check_blocking("with", "async with")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        running, queued = self._crew.running(), len(self._crew.queue)
        if running or queued:
            state = f"{running} running, {queued} queued{', closed' if self._crew.queue.is_closed() else ''}"
        else:
            state = "closed" if self._crew.queue.is_closed() else "idle"
        return f"<{self._describe()} {state}>"

    def _describe(self) -> str:
        return f"aiopark.{type(self).__name__} {hex(id(self)) if self.name is None else repr(self.name)}"

    def _check_thread(self) -> None:
        thread = threading.current_thread()
        if isinstance(thread, WorkerThread) and self._crew.has(thread):
            raise RuntimeError(
                f"a function that runs in {self!r} waits for another one in there, which may have no thread left: call "
                "that function directly, or submit() it and do not wait"
            )


def current_worker() -> Worker | None:
    """Return the Worker whose function runs on this thread, None if there is none. Does not block.

    Example:
        >>> import aiopark
        >>> with aiopark.Worker() as worker:
        ...     worker.blocking_run(aiopark.current_worker) is worker
        True
        >>> aiopark.current_worker() is None
        True
    """
    thread = threading.current_thread()
    worker = thread.worker if isinstance(thread, WorkerThread) else None
    return worker if isinstance(worker, Worker) else None


def _closed() -> ClosedError:
    return ClosedError("the Worker was closed: make a new one to run functions again")


def _at_least_1(number: object, what: str) -> int:
    if not isinstance(number, int) or isinstance(number, bool):
        raise TypeError(f"{what} must be an integer, not {number!r}")
    if number < 1:
        raise ValueError(f"{what} must be at least 1, not {number}")
    return number


def _check_blocking(what: str, instead: str) -> None:
    if loop_runs_here():
        raise RuntimeError(f"{what} would block the event loop that runs on this thread: use `{instead}` there")


def _withdraw_cancelled(crew: Crew, call: SubmittedCall, future: Future[Any]) -> None:
    if future.cancelled() and crew.queue.withdraw(call):
        call.drop()
