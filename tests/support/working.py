"""Functions that a Worker runs, which say when they run, and go on when they are told."""

from __future__ import annotations

import threading
from typing import Any

import anyio

from support.waiting import PATIENCE, until


class Held:
    """A function that runs until it is released.

    Attributes:
        threads: on which it was run.
        interrupts: on which it was interrupted: a call of `interrupt` releases it.
        dropped: (thread, result) of each call of `on_dropped`.
        ended: how often it has ended.
    """

    def __init__(self, outcome: Any = "result") -> None:
        self.outcome = outcome
        self.threads: list[threading.Thread] = []
        self.interrupts: list[threading.Thread] = []
        self.dropped: list[tuple[threading.Thread, Any]] = []
        self.ended = 0
        self._go = threading.Event()

    def __call__(self) -> Any:
        self.threads.append(threading.current_thread())
        assert self._go.wait(PATIENCE), "nobody released it"
        self.ended += 1
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome

    def release(self) -> None:
        self._go.set()

    def interrupt(self) -> None:
        self.interrupts.append(threading.current_thread())
        self.release()

    def on_dropped(self, result: Any) -> None:
        self.dropped.append((threading.current_thread(), result))

    def runs(self) -> bool:
        return bool(self.threads)


class Caller:
    """A task that runs a function in a Worker, and what it heard: `outcome`, or `error`, once it is `over`."""

    def __init__(self, worker: Any, function: Any, **options: Any) -> None:
        self._worker, self._function, self._options = worker, function, options
        self.scope = anyio.CancelScope()
        self.outcome: Any = None
        self.error: BaseException | None = None
        self.over = False

    async def __call__(self) -> None:
        with self.scope:
            try:
                self.outcome = await self._worker.run(self._function, **self._options)
            except BaseException as error:
                self.error = error
                if not isinstance(error, Exception):
                    raise
            finally:
                self.over = True

    @property
    def is_cancelled(self) -> bool:
        """Whether it heard a cancellation, and its scope caught it."""
        return self.over and self.scope.cancelled_caught


async def queued(worker: Any, number: int = 1) -> None:
    """Let other tasks run until so many functions wait in the queue."""
    await until(lambda: (now := worker.statistics()).queued + now.waiting == number)
