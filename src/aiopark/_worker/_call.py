"""Call: one function on its way through a Worker, from the caller to the worker's thread and back.

The caller makes it, puts it into the queue (`_crew`) and parks. The thread takes it out, runs the function, stores what
came of it, and unparks the caller. A caller that is cancelled takes it out of the queue again; or, where the thread was
first, gives it up: calls `interrupt`, and parks on until the function has ended.

Who writes what:
  result, error  the thread, before END; after that whoever takes them.
  BEGUN          a key of a dict, by the thread, before it looks for END.
  END            a key of a dict, set once with setdefault: of thread and caller one comes first. The thread sets it to
                 ENDED, after the function. The caller sets it to a lock of its own that it holds, and it releases the
                 lock after `interrupt` has returned.

Which race that closes:
  no interrupt for another's function   `interrupt` is called only by a caller that came first, and the thread, which
                                        finds the lock, does not go on to another call before it is released. And only
                                        if the caller then finds BEGUN, a key of the same dict: else the function never
                                        runs, for a thread that begins later finds END, or the call is being dropped.
  no result is lost                     the one who comes second disposes of what nobody takes: the thread if the
                                        caller gave up first, the caller if the function had ended.
"""

from __future__ import annotations

from _thread import allocate_lock
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

from aiopark._errors import DroppedError
from aiopark._worker._disposal import Disposal, dispose, tell

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from aiopark._worker._function import Function

BEGUN: Final = "begun"
END: Final = "end"
ENDED: Final = "ended"


class Item(Protocol):
    """What the thread of a Worker takes out of the queue.

    Attributes:
        worker: whose it is.
        was_queued: whether it has been in the queue. Written there, by the caller.
    """

    was_queued: bool

    @property
    def worker(self) -> object: ...

    def run(self) -> None:
        """Do it. On the worker's thread; lets no exception out."""
        ...

    def drop(self) -> None:
        """Tell whoever waits for it that it never runs."""
        ...


class Unparks(Protocol):
    """How the caller is woken: a Parker or ThreadParker."""

    def unpark(self) -> None: ...


class Call:
    """A function that a task, or a thread, waits for.

    Attributes:
        worker, was_queued: see `Item`.
        is_abandoned: nobody waits for the end any more. Written by the caller.
        is_taken: whether the caller has the result or the error. Written by the caller.
        interrupt_error: what `interrupt` raised, for the caller.
    """

    __slots__ = ("__weakref__", "_cell", "_error", "_function", "_interrupt", "_on_dropped", "_parker", "_result",
                 "interrupt_error", "is_abandoned", "is_taken", "was_queued", "worker")  # fmt: skip

    def __init__(
        self,
        worker: object,
        parker: Unparks,
        function: Function,
        interrupt: Callable[[], object] | None,
        on_dropped: Callable[[Any], object] | None,
    ) -> None:
        self.worker: Final = worker
        self._parker: Final = parker
        self._function: Function | None = function
        self._interrupt: Final = interrupt
        self._on_dropped: Final = on_dropped
        self._cell: Final[dict[str, Any]] = {}
        self.was_queued = self.is_abandoned = self.is_taken = False
        self._result: Any = None
        self._error: BaseException | None = None
        self.interrupt_error: BaseException | None = None

    # --- the worker's thread ---

    def run(self) -> None:
        """See `Item.run`."""
        function, self._function = self._function, None
        self._cell[BEGUN] = True
        runs = END not in self._cell  # Pairs with: give_up. Else it was given up just now
        if runs:
            assert function is not None
            self._result, self._error = function()
        del function  # its arguments
        given_up = self._cell.setdefault(END, ENDED)
        if given_up is not ENDED:
            given_up.acquire()  # interrupt() is not to hit the next function
            if runs:
                self._dispose()
        self._parker.unpark()

    def drop(self) -> None:
        """See `Item.drop`."""
        self._error = DroppedError(f"{self.worker!r} was closed before the function began: it never runs")
        self._cell.setdefault(END, ENDED)
        self._parker.unpark()

    def _dispose(self) -> None:
        if self._error is None:
            if self._on_dropped is not None:
                dispose(self._on_dropped, self._result)
        elif self.is_abandoned and self._interrupt is None:
            tell(self._error)  # nobody else will hear of it; of what an interrupt led to, nobody needs to

    # --- the caller ---

    def outcome(self) -> Any:
        """Return the result, or raise what the function raised. Once, after the end."""
        # Statements, which no signal handler interrupts.
        self.is_taken = True
        error = self._error
        self._error = None
        if error is None:
            return self._result
        try:
            raise error
        finally:
            del error

    def take_error(self) -> BaseException | None:
        """Return what the function raised, once: its traceback will know frames that know the call."""
        error, self._error = self._error, None
        self.is_taken = error is not None
        return error

    def give_up(self, *, interrupt: bool = True) -> bool:
        """Want the result no more, and interrupt the function. Once, when it is not in the queue any more.

        Args:
            interrupt: whether to call `interrupt`.

        Returns:
            True: the function has not ended, and the thread will dispose of what comes. False: it had ended before, and
            nothing was interrupted.
        """
        lock = allocate_lock()
        lock.acquire()
        try:
            first = self._cell.setdefault(END, lock) is lock
            if first and interrupt and self._interrupt is not None and BEGUN in self._cell:  # Pairs with: run
                self._interrupt()
        except BaseException as error:
            self.interrupt_error = error
        finally:
            lock.release()
        # Once more, if a signal handler raised before the first.
        return self._cell.setdefault(END, lock) is lock

    def disposal(self) -> Disposal | None:
        """Return what is to be done on the worker's thread with a result that the caller, who raises, has not taken.

        None: nothing. The function has not ended, raised, or was given up before its end: then the thread disposes.
        """
        untaken = self._cell.get(END) is ENDED and not self.is_taken and self._error is None
        if not untaken or self._on_dropped is None:
            return None
        return Disposal(self.worker, self._on_dropped, self._result)


class SubmittedCall:
    """A function whose result goes into a Future.

    The Future knows the call, to take it out of the queue. What is over knows the Future and the Worker no more.
    """

    __slots__ = ("__weakref__", "_function", "_future", "was_queued", "worker")

    def __init__(self, worker: object, future: Future[Any], function: Function) -> None:
        self.worker: object = worker
        self.was_queued = False
        self._future: Future[Any] | None = future
        self._function: Function | None = function

    def _take(self) -> tuple[Future[Any], Function]:
        future, function = self._future, self._function
        assert future is not None
        assert function is not None
        self.worker = self._future = self._function = None
        return future, function

    def run(self) -> None:
        """See `Item.run`."""
        future, function = self._take()
        if not future.set_running_or_notify_cancel():
            return
        result, error = function()
        del function  # its arguments
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def drop(self) -> None:
        """See `Item.drop`. Also if the Future was cancelled."""
        future = self._future
        if future is not None:
            future.cancel()
            try:
                future.set_running_or_notify_cancel()
            except RuntimeError:
                pass  # interrupted, and done again: it was notified already
            self.worker = self._future = self._function = None


def raise_last(*errors: BaseException | None) -> NoReturn:
    """Raise the last of them, each one as the `__context__` of the next."""
    *earlier, last = (error for error in errors if error is not None)
    try:
        try:
            if earlier:
                raise_last(*earlier)
        except BaseException:
            raise last  # noqa: B904  # this is what makes the context
        raise last
    finally:
        del errors, earlier, last
