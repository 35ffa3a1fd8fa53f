"""What becomes of results and exceptions that nobody takes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable


class Disposal:
    """A result that nobody took, on its way back to the thread."""

    __slots__ = ("_on_dropped", "_result", "was_queued", "worker")

    def __init__(self, worker: object, on_dropped: Callable[[Any], object], result: Any) -> None:
        self.worker: Final = worker
        self.was_queued = False
        self._on_dropped: Final = on_dropped
        self._result: Final = result

    def run(self) -> None:
        """See `Item.run`."""
        dispose(self._on_dropped, self._result)

    def drop(self) -> None:
        """See `Item.drop`."""
        raise AssertionError("it is never dropped")


def dispose(on_dropped: Callable[[Any], object], result: Any) -> None:
    """Call `on_dropped`. What it raises goes to `threading.excepthook`."""
    try:
        on_dropped(result)
    except BaseException as error:
        tell(error)


def tell(error: BaseException) -> None:
    """Tell the user of an exception that nobody waits for, as of one that ended a thread."""
    try:
        threading.excepthook(_arguments(error))
    except BaseException as raised:
        threading.__excepthook__(_arguments(raised))  # the user's own hook failed


def _arguments(error: BaseException) -> threading.ExceptHookArgs:
    return threading.ExceptHookArgs((type(error), error, error.__traceback__, threading.current_thread()))
