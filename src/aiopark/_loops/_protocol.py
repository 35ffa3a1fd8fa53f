"""What a Parker needs from an event loop."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol


class Waiter(Protocol):
    """One sleep of one task. Also the owner that stands in the Parker's slot, see `_owner`."""

    def sleep(self, deadline: float) -> Awaitable[None]:
        """Put the running task to sleep until a wake, the deadline (on the loop's clock) or a cancellation.

        May return for no reason at all: the caller looks again.
        """
        ...

    def wake(self) -> None:
        """End the sleep soon. From any thread, a signal handler or a finalizer; never blocks or raises."""
        ...

    def abandon(self) -> None:
        """Say that the sleeping coroutine was thrown away (GeneratorExit), from whatever thread does so."""
        ...

    def gone(self) -> bool:
        """Tell whether the task can never run again. Once True, always True."""
        ...


class Source(Protocol):
    """Something that the kernel tells a loop of, by writing to an eventfd."""

    def collect(self) -> None:
        """Post what happened (`Waiter.wake`). On the loop's thread, soon after each write to the eventfd."""
        ...

    def settle(self) -> None:
        """Do what may wait until those who were posted to have run."""
        ...

    def close(self) -> None:
        """Stop. On any thread; called by the loop if it can, else by the collector."""
        ...


class Loop(Protocol):
    """The running event loop, as one task sees it."""

    def time(self) -> float:
        """Give the time on the loop's clock, in seconds."""
        ...

    def checkpoint(self) -> Awaitable[None]:
        """Let other tasks run once; a cancellation is delivered here."""
        ...

    def waiter(self) -> Waiter:
        """Make the waiter for one sleep of the running task."""
        ...

    def source(self, make: Callable[[int], Any]) -> Any:
        """Give the loop's one `Source`, made at the first call. On the loop's thread.

        The loop owns it, as it owns its doorbell: it ends with the loop, whoever is parked there.

        Args:
            make: gives the source; gets the descriptor of the eventfd. Always the same function.

        Returns:
            What `make` gave, or None: this loop cannot watch an eventfd.
        """
        ...
