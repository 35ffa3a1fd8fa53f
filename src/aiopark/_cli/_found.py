"""What is installed here, and how to run a coroutine on each event loop."""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import sys
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")

# winloop is uvloop for Windows.
LOOPS: Final = ("asyncio", "winloop" if sys.platform == "win32" else "uvloop", "trio")


def version(package: str) -> str | None:
    """Return the version of an installed package, None if there is none. Does not import it."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def loops() -> list[str]:
    """Return the names of the event loops that are installed here; asyncio always is."""
    return [name for name in LOOPS if name == "asyncio" or version(name) is not None]


def run_on(loop: str, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run `main()` to its end on a new event loop of this thread. Blocks.

    Args:
        loop: one of LOOPS.
        main: the coroutine function.

    Raises:
        ImportError: that loop cannot be imported.
    """
    if loop == "trio":
        import trio

        return trio.run(main)
    factory = None if loop == "asyncio" else importlib.import_module(loop).new_event_loop
    # Not in debug mode, which PYTHONDEVMODE turns on: what is measured is the loop as it is in use.
    with asyncio.Runner(debug=False, loop_factory=factory) as runner:
        return runner.run(main())
