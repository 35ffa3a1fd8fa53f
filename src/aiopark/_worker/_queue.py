"""CallQueue: the calls that nobody has begun.

Who writes what:
  _calls  a dict, whose keys are the calls. A key is set by the caller, and removed by whoever decides about the call: a
          thread that will run it, a caller that withdraws it, or `drop`. Only one finds the key. CLOSED is a key, too,
          set by `shut` and never removed.
  _dropped  a dict, whose keys are the calls that `drop` has taken out, until their callers are told.
  _line   a deque: the same calls in their order, after the Disposals. One that has no key any more is passed over.

Each operation on them is one step in C, as in `_permit`.

Which race each re-check closes:
  none is left  a caller sets its key, appends, then looks for CLOSED. If it finds that, it withdraws; if a thread was
                faster, the call came in. If it does not find it, its key came before CLOSED: so `drop`, which sets
                CLOSED and then looks for keys, finds the call. And without `drop` a thread ends only when it has seen
                CLOSED and then found `_line` empty: an append that comes after that sees CLOSED.
"""

from __future__ import annotations

import queue
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from aiopark._worker._disposal import Disposal

if TYPE_CHECKING:
    from aiopark._worker._call import Item

CLOSED: Final = "closed"


class CallQueue:
    """See the module.

    Attributes:
        limit: how many calls may wait until it refuses; None: any number.
    """

    __slots__ = ("_calls", "_dropped", "_line", "limit")

    def __init__(self, limit: int | None) -> None:
        self.limit: Final = limit
        self._calls: Final[dict[Any, bool]] = {}
        self._dropped: Final[dict[Item, bool]] = {}
        self._line: Final[deque[Item]] = deque()

    def __len__(self) -> int:
        """How many calls nobody has begun."""
        return len(self._calls) - (CLOSED in self._calls)

    def put(self, call: Item, *, refuses: bool = False) -> bool:
        """Put the call in. Whoever calls it withdraws it if this raises.

        Args:
            call: which one.
            refuses: whether it may not wait beyond the limit.

        Returns:
            Whether it came in. If not, the queue was closed, and it never runs.

        Raises:
            queue.Full: it may not wait, and would be beyond the limit.
        """
        call.was_queued = True  # nothing comes in between this and the next statement, as in `_permit`
        self._calls[call] = True
        if refuses and self.limit is not None and len(self) > self.limit:
            raise queue.Full(f"{self.limit} calls wait in the queue already: await run(), which waits for its turn")
        self._line.append(call)
        return CLOSED not in self._calls or not self.withdraw(call)

    def put_first(self, disposal: Disposal) -> None:
        """Put it in front of the calls. A queue that is closed takes it, too."""
        self._calls[disposal] = True
        self._line.appendleft(disposal)

    def withdraw(self, call: Item) -> bool:
        """Take the call out. Returns whether nobody had: then it never runs."""
        if self._calls.pop(call, None) is None:
            return not call.was_queued  # its caller was interrupted before
        try:
            self._line.remove(call)
        except ValueError:
            pass  # it was not appended yet; or a thread has it in hand, and finds that it is no call any more
        return True

    def may_have_more(self) -> bool:
        """Return whether `take` seems to be worth a try. Right about what this thread has put in or seen."""
        return bool(self._line)

    def take(self) -> Item | None:
        """Take the first one out, None if there is none. Whoever takes it runs it."""
        while True:
            try:
                item = self._line.popleft()
            except IndexError:
                return None
            if self._calls.pop(item, None) is not None:
                return item

    def take_disposals(self) -> list[Item]:
        """Take out what must not get lost."""
        return [item for item in list(self._calls) if isinstance(item, Disposal) and self.withdraw(item)]

    def is_closed(self) -> bool:
        """Return whether no call comes in any more."""
        return CLOSED in self._calls

    def shut(self) -> None:
        """Let no call in any more."""
        self._calls[CLOSED] = True

    def drop(self) -> None:
        """Tell the callers of all calls that these never run. One that was interrupted is done again, and goes on."""
        for call in list(self._calls):
            if call is not CLOSED and not isinstance(call, Disposal):
                # Statements: no signal handler that raises comes between them, as in `_permit`.
                try:
                    del self._calls[call]
                except KeyError:
                    continue  # a thread or its caller was faster
                self._dropped[call] = True
        for call in list(self._dropped):
            call.drop()
            self._dropped.pop(call, None)
        for item in list(self._line):  # the disposals are left
            if item not in self._calls:
                try:
                    self._line.remove(item)
                except ValueError:
                    pass  # a thread has passed over it

    def forget_after_fork(self) -> None:
        """In the child of a fork: the calls are the parent's."""
        closed = CLOSED in self._calls
        self._line.clear()
        self._calls.clear()
        self._dropped.clear()
        if closed:
            self.shut()
