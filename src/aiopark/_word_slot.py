"""The owner slot of a word (see `_owner`), which all words at the same address share, and who may stand in it."""

from __future__ import annotations

import threading
import weakref
from typing import Any, Final

from aiopark import _fork


class WordOwner:
    """Whoever parks on a word, or will.

    Args:
        word: the Word that it parks through.
    """

    __slots__ = ("_epoch", "_word")

    def __init__(self, word: object) -> None:
        self._epoch: Final = _fork.epoch
        self._word: Final = id(word)  # no reference, which would make a cycle; an owner that is not gone holds the word

    def through(self, word: object) -> bool:
        """Tell whether it parks through this very Word, and not through another one at the same address."""
        return self._word == id(word)

    def ends_soon(self) -> bool:
        """Tell whether it will be gone in a moment, without anybody's doing."""
        return False


class ParkedThread(WordOwner):
    """A thread, during a park."""

    __slots__ = ()

    def gone(self) -> bool:
        """See `Owner.gone`."""
        return self._epoch != _fork.epoch  # it is a thread of the parent


class Closer(ParkedThread):
    """A thread, for the moment in which it closes the word."""

    __slots__ = ("_thread",)

    def __init__(self, word: object) -> None:
        super().__init__(word)
        self._thread: Final = threading.get_ident()

    def is_this_thread(self) -> bool:
        """Tell whether the thread that asks is the one that closes."""
        return self._thread == threading.get_ident()

    def ends_soon(self) -> bool:
        """See `WordOwner.ends_soon`."""
        return True


class _Slot(dict[str, Any]):
    __slots__ = ("__weakref__",)


_slots: Final[weakref.WeakValueDictionary[int, _Slot]] = weakref.WeakValueDictionary()
_attaching = threading.RLock()  # over _slots, whose setdefault is not atomic; nothing else is called under it


def slot_at(address: int) -> dict[str, Any]:
    """Give the slot of the word at an address."""
    with _attaching:
        return _slots.setdefault(address, _Slot())


@_fork.in_child
def _after_fork_in_child() -> None:
    global _attaching  # noqa: PLW0603  # a thread of the parent may have held it
    _attaching = threading.RLock()
