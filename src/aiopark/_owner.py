"""One owner parks: the slot in which the parked thread or task stands.

Locking: a slot is the key OWNER of a dict. Each operation here on that dict is one C call on str keys, which
CPython documents as atomic (per-object lock in free-threaded builds, "Thread Safety Guarantees" in the library
reference). No lock is held while the slot is read, so a signal handler or finalizer may run at any point.

Who writes the key:
  claim       puts the owner into an empty slot (setdefault: of two that try, one wins);
  the owner   takes itself out when its park ends, on the thread that parked, by statements and not by a call, for
              CPython runs signal handlers after calls, and one may raise (Ctrl-C);
  claim       also removes an owner that is gone (its loop is closed, its coroutine was thrown away, it was parked
              before a fork). One that is gone does not take itself out, so only takeovers race each other:
              `_takeover` serializes them, and nothing else takes that lock. (Who forks inside a park and lets
              the child go on in it is taken for gone there; it finds another in the slot, and leaves it.)
"""

import threading
from typing import Any, Protocol

from aiopark import _fork

OWNER = "owner"

_takeover = threading.RLock()


class Owner(Protocol):
    """Something that can stand in the slot."""

    def gone(self) -> bool:
        """Tell whether it can never be woken again. Once True, always True."""
        ...


def claim(slot: dict[str, Any], owner: Owner, kind: str) -> None:
    """Put `owner` into the slot.

    Raises:
        RuntimeError: somebody else is parked.
    """
    try:
        while (other := slot.setdefault(OWNER, owner)) is not owner:
            if not other.gone():
                raise RuntimeError(
                    f"this {kind} is already parked on by another thread or task: one owner parks at a time; "
                    f"give each of them its own {kind}"
                )
            with _takeover:
                try:
                    if slot[OWNER] is other:
                        del slot[OWNER]
                except KeyError:
                    pass
    except BaseException:
        if slot.get(OWNER) is owner:  # a signal handler that raises (Ctrl-C) came after all was done
            del slot[OWNER]
        raise


@_fork.in_child
def _after_fork_in_child() -> None:
    global _takeover  # noqa: PLW0603  # a thread of the parent may have held it
    _takeover = threading.RLock()
