"""The end of the interpreter: when may the threads of Workers that nobody closed end?

They are no daemons, so that no function is cut off, and the interpreter waits for them. They sleep until somebody
tells them to end: the main thread, at its end. `threading` calls functions then, before it waits for other threads;
that is how `concurrent.futures` has it, and there is no public way. Where a future Python has none, a thread waits for
the end of the main thread. (On 3.11 and 3.12 that would not do: whoever joins the main thread there at its end may hold
the lock that it asserts to be free.)

Other threads of the program may go on then, and call functions in a Worker. So its thread ends only when nobody is left
who could: no thread but daemons, and Workers with nothing to do.
"""

from __future__ import annotations

import threading
import weakref
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from aiopark import _fork

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOOK_AGAIN: Final = 0.02  # seconds, while other threads go on after the main one's end

ending = False  # the main thread has ended


class HasThreads(Protocol):
    """What has threads that are to end."""

    def hint_all(self) -> None: ...

    def forget_after_fork(self) -> None: ...


_crews: Final[dict[int, weakref.ref[HasThreads]]] = {}
_is_watched = False


def register(crew: HasThreads) -> None:
    """Have the threads of the crew look at `is_over` when the main thread has ended."""
    global _is_watched  # noqa: PLW0603  # a second registration would do no harm
    _crews[id(crew)] = weakref.ref(crew, partial(_forget, id(crew)))
    if not _is_watched:
        _call_at_the_end_of_the_main_thread(_end)
        _is_watched = True


def _forget(key: int, reference: weakref.ref[HasThreads]) -> None:
    if _crews.get(key) is reference:
        _crews.pop(key, None)


def is_over() -> bool:
    """Return whether nobody is left who could call a function in a Worker."""
    return ending and all(
        thread.daemon or thread is threading.main_thread() or getattr(thread, "has_nothing_to_do", _no)()
        for thread in threading.enumerate()
    )


def _no() -> bool:
    return False


def _end() -> None:
    global ending  # noqa: PLW0603  # what this module is for
    ending = True
    for crew in _alive():
        crew.hint_all()


def _call_at_the_end_of_the_main_thread(function: Callable[[], None]) -> None:
    try:
        threading._register_atexit(function)  # type: ignore[attr-defined]  # noqa: SLF001  # see above
    except AttributeError:

        def wait() -> None:
            threading.main_thread().join()
            function()

        threading.Thread(target=wait, name="aiopark exit", daemon=False).start()
    except RuntimeError:  # the main thread has ended already
        function()


def _alive() -> Iterator[HasThreads]:
    return (crew for reference in _crews.copy().values() if (crew := reference()) is not None)


@_fork.in_child
def _forget_threads_of_parent() -> None:
    for crew in _alive():
        crew.forget_after_fork()
