"""The seam: what aiopark needs from an operating system, and how a failed call is told."""

import ctypes
import os
from collections.abc import Callable
from functools import partial
from operator import call
from typing import Any, ClassVar, Protocol, Self

# Cap of one wait, in seconds. Windows' DWORD of milliseconds ends at 49.7 days, macOS' microseconds at 71.6
# minutes, and a 32-bit time_t sooner than users think: whoever waits goes round again, so capping costs nothing.
LONGEST_WAIT = 86_400.0


class Backend(Protocol):
    """Wait and wake on the address of an aligned 32-bit cell.

    Attributes:
        name: "futex", "waitaddress", "ulock" or "portable".
        supports_shared: whether `shared=True` reaches other processes.
        supports_native_wake: whether code that does not go through aiopark can wake a waiter.
    """

    name: ClassVar[str]
    supports_shared: ClassVar[bool]
    supports_native_wake: ClassVar[bool]

    def wait(self, address: int, expected: int, deadline: float | None = None, *, shared: bool = False) -> None:
        """Sleep while the cell holds `expected`, until woken. Releases the GIL.

        Every return means "look again": the cell did not hold `expected`, somebody woke, the deadline passed,
        a signal arrived, the wait was capped, or nothing happened at all (a spurious wake-up).

        Args:
            address: of the cell, a multiple of 4.
            expected: the value to sleep on, 0 to 2**32 - 1.
            deadline: seconds on `time.monotonic()`, or None to wait forever.
            shared: whether the wake may come from another process. Whoever waits and whoever wakes say the same.

        Raises:
            OSError: the call failed in a way that no rule allows for; the message names the call.
        """
        ...

    def wake_one(self, address: int, *, shared: bool = False) -> None:
        """Wake one waiter, if there is one. Does not block, and is safe in a signal handler.

        Whoever has stored to the cell may wake, though the owner may since have seen that and have given the memory
        back: an address where nothing is mapped is no error.

        Raises:
            OSError: as for `wait`.
        """
        ...

    def wake_all(self, address: int, *, shared: bool = False) -> None:
        """Wake every waiter. Otherwise as `wake_one`."""
        ...


class Probed:
    """The two questions to a kind of backend, answered by one look at this machine."""

    @classmethod
    def create(cls) -> Self | None:
        """Return the backend for this machine, or None where `refusal()` has a reason. Does not block."""
        found = cls._probe()
        return None if isinstance(found, str) else found

    @classmethod
    def refusal(cls) -> str | None:
        """Return why `create()` returns None here, or None if it works. Does not block."""
        found = cls._probe()
        return found if isinstance(found, str) else None

    @classmethod
    def _probe(cls) -> Self | str:
        """Return a backend, or why there can be none."""
        raise NotImplementedError


def load_keeping_gil(library: str | None, **keywords: Any) -> ctypes.CDLL:
    """Load a library for calls that never wait, so that they need not give the GIL up. PyPy's ctypes always does."""
    return getattr(ctypes, "PyDLL", ctypes.CDLL)(library, **keywords)


def call_and_errno(
    function: Callable[..., int], *arguments: Any, errno: Callable[[], int] = ctypes.get_errno
) -> tuple[int, int]:
    """Call a foreign function, and return its result and the errno that it left behind.

    Python runs signal handlers between two instructions, so right after a call that a signal interrupted: what
    a handler leaves in ctypes' errno must not be taken for the call's. Here one instruction does both, in C.
    """
    calls: tuple[Callable[[], int], ...] = (partial(function, *arguments), errno)
    result, error = map(call, calls)
    return result, error


def call_failed(call: str, error: int, address: int) -> OSError:
    """Build the OSError for an errno that `call` should not give."""
    return OSError(error, f"{call} on the word at {address:#x}: {os.strerror(error)}")
