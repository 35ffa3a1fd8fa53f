"""What a Parker needs from whoever waits in the kernel for it.

A watch looks at the word and tells the Parker to look too; it never writes to the word. The permit stays there until
the park that returns takes it, so there is nothing that a cancellation, a fork or the end of a loop could lose on its
way from the word to the task.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol, TypeVar

S = TypeVar("S")

Hint = Callable[[], None]
"""Tells the Parker, if it is still alive, to look at its word. From any thread; does not block."""

SourceOf = Callable[[Callable[[int], Any]], Any]
"""The running loop's `source`, see `aiopark._loops`."""


class Watch(Protocol):
    """The watch of one Parker on one word. It ends when it is closed or collected.

    Attributes:
        name: of the watcher: "uring" or "threads".
    """

    name: ClassVar[str]

    def arm(self, seen: int, source_of: SourceOf) -> None:
        """See to it that a hint comes once the word no longer holds `seen`. In the task that is about to sleep.

        One hint; more may come. Armed already, it does nothing. The caller is what a hint reaches already, and looked
        at the word after that.

        Raises:
            OSError: the kernel refused to wait, now or since the last call.
        """
        ...

    def close(self) -> None:
        """Stop, and let go of the word's memory. From any thread; waits for a watch thread to end."""
        ...
