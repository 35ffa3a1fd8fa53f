"""What a task that parks needs from its event loop."""

from collections.abc import Awaitable, Callable, Generator
from typing import Any, Protocol


class TaskWaiter(Protocol):
    """One sleep of one task. Also stands in the cell of a Parker, see `_permit.Waiter`.

    Attributes:
        since: when it was made, on `time.monotonic()`.
    """

    since: float

    def wake_at(self, deadline: float) -> None:
        """Have the sleep, which is about to begin, end at a finite deadline on the loop's clock."""
        ...

    def __await__(self) -> Generator[Any, Any, Any]:
        """Put the running task to sleep until a wake, the deadline or a cancellation.

        May return for no reason at all: the caller looks again.
        """
        ...

    def wake(self) -> None:
        """End the sleep soon. From any thread, a signal handler or a finalizer; never blocks or raises."""
        ...

    def coroutine_closed(self) -> None:
        """Note that the sleeping coroutine was thrown away (GeneratorExit), from whatever thread does so."""
        ...

    def never_wakes(self) -> bool:
        """Return whether the task can never run again. Once True, always True."""
        ...

    def who(self) -> str:
        """Return the name of the task."""
        ...


class Source(Protocol):
    """Something that the kernel tells a loop of, by writing to an eventfd."""

    def before_drain(self) -> None:
        """Post what happened (`TaskWaiter.wake`). On the loop's thread, soon after each write to the eventfd."""
        ...

    def after_drain(self) -> None:
        """Do what may wait until those who were posted to have run."""
        ...

    def close(self) -> None:
        """Stop. On any thread; called by the loop if it can, else by the collector."""
        ...


class Loop(Protocol):
    """The running event loop, as one task sees it.

    Attributes:
        kept: waiters that the loop keeps alive, as it keeps the Future of a reader: what may wake them holds no
            reference. Changed on the loop's thread, but for what the collector throws away.
    """

    kept: set[Any]

    def time(self) -> float:
        """Return the time on the loop's clock, in seconds."""
        ...

    def checkpoint(self) -> Awaitable[None]:
        """Let other tasks run once; a cancellation is delivered here."""
        ...

    def checkpoint_if_cancelled(self) -> Awaitable[None]:
        """Deliver a cancellation that came before, where the library can tell; lets no other task run."""
        ...

    async def to_the_end(self, wait: Callable[[], Awaitable[None]]) -> BaseException | None:
        """Await what `wait` makes until it ends, whatever cancellations come; those are not lost.

        Args:
            wait: called anew after each cancellation.

        Returns:
            The last cancellation that came meanwhile, to be raised by the caller; None where the library will
            deliver it again.
        """
        ...

    def waiter(self) -> TaskWaiter:
        """Make the waiter for one sleep of the running task."""
        ...

    def source(self, make: Callable[[int], Any]) -> Any:
        """Return the loop's one `Source`, made at the first call. On the loop's thread.

        The loop owns it, as it owns its doorbell: it ends with the loop, whoever is parked there.

        Args:
            make: makes the source; gets the descriptor of the eventfd. Always the same function.

        Returns:
            What `make` returned, or None: this loop cannot watch an eventfd.
        """
        ...
