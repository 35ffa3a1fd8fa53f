"""The operating system: wait and wake on the address of a word, one module a kernel."""

import functools
from typing import Final

from aiopark._choice import choose
from aiopark._os._backend import Backend
from aiopark._os._linux import Futex
from aiopark._os._macos import Ulock
from aiopark._os._portable import Portable
from aiopark._os._windows import WaitAddress

__all__ = ["Backend", "Futex", "Portable", "Ulock", "WaitAddress", "default_backend", "refused_backends"]

ENVIRONMENT_VARIABLE: Final = "AIOPARK_BACKEND"

# In the order in which they are tried.
_BACKENDS: Final[dict[str, type[Futex] | type[WaitAddress] | type[Ulock] | type[Portable]]] = {
    backend.name: backend for backend in (Futex, WaitAddress, Ulock, Portable)
}


@functools.cache
def default_backend() -> Backend:
    """Return the backend that this process uses: the first that works, or the one that AIOPARK_BACKEND forces.

    Chosen at the first call and then kept. May be called from any thread; does not block.

    Returns:
        One of `Futex`, `WaitAddress`, `Ulock` and `Portable`.

    Raises:
        ValueError: AIOPARK_BACKEND names no backend.
        UnsupportedError: the backend that AIOPARK_BACKEND names does not work here; the message says why.

    Example:
        >>> from aiopark.lowlevel import default_backend
        >>> default_backend().name in {"futex", "waitaddress", "ulock", "portable"}
        True
    """
    candidates = {name: kind.refusal for name, kind in _BACKENDS.items()}
    backend = _BACKENDS[choose(ENVIRONMENT_VARIABLE, candidates, Portable.name).name].create()
    assert backend is not None  # it gave no reason against it
    return backend


def refused_backends() -> dict[str, str]:
    """Return why each backend that does not work here was refused. Does not block.

    Returns:
        From the backend's name to the reason; those that would work are left out.

    Example:
        >>> from aiopark.lowlevel import default_backend, refused_backends
        >>> default_backend().name in refused_backends()
        False
    """
    return {name: reason for name, kind in _BACKENDS.items() if (reason := kind.refusal()) is not None}
