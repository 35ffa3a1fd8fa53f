"""Function: what a Worker's thread calls, in the context of whoever asked for it."""

from __future__ import annotations

from contextvars import Context, copy_context
from sys import modules
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


class Function:
    """A function with its arguments, and the context of who called."""

    __slots__ = ("_arguments", "_context", "_function", "_keywords")

    def __init__(self, function: Callable[..., Any], arguments: Sequence[Any], keywords: Mapping[str, Any]) -> None:
        self._function: Final = function
        self._arguments: Final = arguments
        self._keywords: Final = keywords
        self._context: Final[Context] = copy_context()
        # By this variable anyio and others know that an event loop runs; on the worker's thread there is none.
        sniffio = modules.get("sniffio")
        if sniffio is not None:
            library = getattr(sniffio, "current_async_library_cvar", None)  # another thread may still be importing it
            if library is not None and self._context.get(library) is not None:
                self._context.run(library.set, None)

    def __call__(self) -> tuple[Any, BaseException | None]:
        """Return the result, and None; or None, and what the function raised."""
        try:
            return self._context.run(self._function, *self._arguments, **self._keywords), None
        except BaseException as error:  # whoever waits for the function raises it
            return None, error
