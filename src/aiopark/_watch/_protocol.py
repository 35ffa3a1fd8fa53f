"""What parks on a word needs from whoever waits in the kernel for it.

A watch looks at the cell and tells the sleeper to look too; it never writes to the cell. The permit stays there until
the park that returns takes it, so there is nothing that a cancellation, a fork or the end of a loop could lose on its
way from the cell to the task.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol

Hint = Callable[[], None]
"""Tells the sleeper, if there still is one, to look at the cell. From any thread; does not block."""

SourceOf = Callable[[Callable[[int], Any]], Any]
"""The running loop's `source`, see `aiopark._loops`."""


class Watch(Protocol):
    """The watch of one Parker, or of one group of tasks, on one cell.

    Attributes:
        name: of the watcher: "uring" or "threads".
    """

    name: ClassVar[str]

    def arm(self, seen: int, source_of: SourceOf) -> None:
        """See to it that a hint comes once the cell no longer holds `seen`. In the task that is about to sleep.

        One hint; more may come. Armed already, it does nothing. The caller is what a hint reaches already, and looked
        at the cell after that.

        Raises:
            OSError: the kernel refused to wait, now or since the last call.
            UnsupportedError: a ring is forced, and this loop can have none.
        """
        ...

    def close(self) -> None:
        """Let no thread wait for it any more. From any thread; blocks for the moment in which a watch thread ends.

        What a ring still waits for ends with the lease of the address, or by `Cell.wake_all`.
        """
        ...

    def close_later(self) -> None:
        """Do the same, and do not wait: from a finalizer."""
        ...
