"""What Parker and ThreadParker share: everything but the park. Who writes what: see `_permit`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, ClassVar, Final, Self

from aiopark._cell import PERMIT as WORD_PERMIT
from aiopark._not_copied import NotCopied
from aiopark._permit import CLOSED, PERMIT, PermitCell
from aiopark._unpark_handle import UnparkHandle
from aiopark._word import Word, cell_of

if TYPE_CHECKING:
    from types import TracebackType


class BaseParker(NotCopied):
    """What Parker and ThreadParker share."""

    __slots__ = ("__weakref__", "_cell", "_permit_word", "word")

    _instead = (
        "send another process the name of shared memory instead, and attach a Word to it there with Word.from_buffer"
    )
    _kind: ClassVar[str]
    # What finalizers call goes by no name of the module: on free-threaded builds they run after those are gone.
    _is_finalizing = staticmethod(sys.is_finalizing)
    _handle = UnparkHandle
    _permit_word: Word | None  # the word that holds the permit, where the cell does not

    def __init__(self, word: Word | None, name: str | None) -> None:
        if name is not None and not isinstance(name, str):
            raise TypeError(f"the name of a {self._kind} must be a string, not {type(name).__name__}")
        if word is not None and not isinstance(word, Word):
            raise TypeError(f"a {self._kind} parks on a Word, or on none, not on {type(word).__name__}")
        self.word: Final = word
        self._permit_word = None
        self._cell: PermitCell = PermitCell(self._kind, name)

    def __repr__(self) -> str:
        return f"<{self._cell.describe()} {self._cell.state()}{'' if self.word is None else f' on {self.word!r}'}>"

    @property
    def name(self) -> str | None:
        """The name that it was given."""
        return self._cell.name

    def prepare_park(self) -> None:
        """Drop a stale permit, the word's too: what was unparked before no longer counts.

        For the one who will park, before it does.

        Example:
            >>> import aiopark
            >>> parker = aiopark.ThreadParker()
            >>> parker.unpark()
            >>> parker.prepare_park()
            >>> parker.park_timeout(0)
            False
        """
        self._cell.pop(PERMIT, None)
        if self.word is not None and CLOSED not in self._cell:
            cell_of(self.word).prepare()

    def timed_out(self) -> bool:
        """Return whether there is still no permit, after `park_until` returned False.

        Ask it under your lock, the one under which others call `unpark_lock()`.

        Returns:
            True: no permit came. False: one came after the deadline and is stored.

        Example:
            >>> import aiopark
            >>> parker = aiopark.ThreadParker()
            >>> parker.park_timeout(0), parker.timed_out()
            (False, True)
            >>> parker.unpark()
            >>> parker.timed_out()
            False
        """
        if PERMIT in self._cell:
            return False
        if self.word is None or (self._permit_word is None and CLOSED in self._cell):
            return True  # the word of a Parker that was closed may be another's by now
        return self.word.load() != WORD_PERMIT

    def unpark_lock(self) -> UnparkHandle:
        """Deposit the permit now, wake later: for a caller that holds a lock.

        Returns:
            The handle whose `unpark()` wakes.

        Example:
            >>> import aiopark
            >>> parker = aiopark.ThreadParker()
            >>> handle = parker.unpark_lock()  # under your lock
            >>> handle.unpark()                # after it
            >>> parker.park()
        """
        if self._permit_word is not None:
            return self._permit_word.unpark_lock()
        self._cell["permit"] = True
        return self._handle(self._cell.hint)

    def unpark(self) -> None:
        """Deposit the permit and wake the one who is parked.

        Example:
            >>> import aiopark
            >>> parker = aiopark.ThreadParker()
            >>> parker.unpark()
            >>> parker.park()
        """
        if self._permit_word is not None:
            self._permit_word.unpark()
            return
        cell = self._cell
        try:  # set_and_hint, without its two calls: 8 % of a round trip
            cell["permit"] = True
            waiter = cell.get("owner")
            if waiter is not None:
                waiter.wake()
        except BaseException:
            cell.set_and_hint(PERMIT)
            raise

    def close(self) -> None:
        """End the pending park, and every later one, with ClosedError. Idempotent.

        A permit in store is still handed out first. The word, if there is one, stays open.

        Example:
            >>> import aiopark
            >>> with aiopark.ThreadParker(name="printer") as parker:
            ...     pass
            >>> parker
            <aiopark.ThreadParker 'printer' closed>
        """
        if not self._is_finalizing():  # when no park is left to be ended, and the modules' globals may be gone
            self._cell.close()
            self._end()

    def _end(self) -> None:
        """End what else belongs to it."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
