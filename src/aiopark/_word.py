"""Word: one aligned 32-bit cell, 1 = parked (no permit), 0 = unparked (permit).

Memory ordering. This module is the only place that loads or stores the cell (the portable backend's comparison
aside). A ctypes access is one plain aligned move: load-acquire and store-release on x86, relaxed elsewhere.

Who writes the cell, under what:
  anyone    stores 0 (`store`, `unpark_lock`): a release, so what was written before is seen by whoever takes it;
  the owner stores 1 (`_take`, `_prepare`): no lock, there is one owner (`_owner`).

Which race each fence closes:
  unparker  "data = x; word = 0". The data must be visible with the 0: a fence before the store where a plain
            store is no release.
  owner     "word = 1; look at data". Without a full fence the store of 1 may still sit in the store buffer while
            the data is read (x86 too). An unpark in between would then be overwritten unseen: lost. With it,
            either the owner's reads see the data, or the unparker's 0 comes later and stays.
The kernel compares and sleeps atomically. That a store followed by its wake is not missed by a wait which compares
at the same time is each kernel's own promise (on Linux by full barriers in kernel/futex/futex.h).
"""

from __future__ import annotations

import ctypes
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from aiopark._attach import cell_at, cell_of
from aiopark._errors import ClosedError, UnsupportedError
from aiopark._fence import PLAIN_IS_ORDERED, full_fence
from aiopark._os import default_backend
from aiopark._owner import OWNER, claim
from aiopark._unpark_handle import UnparkHandle
from aiopark._word_slot import Closer, ParkedThread, slot_at

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiopark._attach import Buffer

PARKED: Final = 1
PERMIT: Final = 0


class Word:
    """One aligned 32-bit cell that a thread or a task parks on and anyone unparks: 1 = parked, 0 = unparked.

    `Word()` lives in memory of its own, private to this process, and starts parked. `from_buffer` and `from_address`
    attach to memory that other processes or native code see too. `ThreadParker(word)` and `Parker(word)` park on it.

    Attributes:
        address: where the cell is; a multiple of 4. What native code is given.
        shared: whether other processes may wait and wake on it. False for private memory.

    Raises:
        ValueError: AIOPARK_BACKEND names no backend.
        UnsupportedError: AIOPARK_BACKEND forces a backend that does not work here.

    Example:
        >>> import aiopark
        >>> word = aiopark.Word()
        >>> word.load()
        1
        >>> word.unpark()
        >>> word.load()
        0
        >>> aiopark.ThreadParker(word).park_timeout(0)
        True

    Source: the `key` of parking_lot_core's `windows/waitaddress.rs`.
    """

    address: int
    shared: bool

    __slots__ = (
        "__weakref__",
        "_backend",
        "_cell",
        "_keeps_memory",
        "_owns_memory",
        "_sleep",
        "_slot",
        "_wake",
        "address",
        "shared",
    )

    def __init__(self) -> None:
        cell = ctypes.c_uint32(PARKED)
        address = ctypes.addressof(cell)
        self._attach(cell, address, shared=False, slot=slot_at(address))
        self._owns_memory = self._keeps_memory = True

    def _attach(self, cell: ctypes.c_uint32, address: int, *, shared: bool, slot: dict[str, Any]) -> None:
        backend = default_backend()
        if shared and not backend.supports_shared:
            raise UnsupportedError(
                f"{backend.name} waits and wakes within one process; pass shared=False for a word that only this "
                "process uses, and let other processes wake it by a pipe or socket that one of its threads reads"
            )
        self._backend = backend
        self._cell: ctypes.c_uint32 | None = cell
        self.address = address
        self.shared = shared
        # Every return of _sleep means "look again".
        self._sleep = partial(backend.wait, address, PARKED, shared=shared)
        self._wake = partial(backend.wake_one, address, shared=shared)
        self._slot = slot  # the owner that parks, see _owner
        self._owns_memory = False  # it ends with this word
        self._keeps_memory = True  # it lasts as long as the cell does

    @classmethod
    def from_buffer(cls, buffer: Buffer, offset: int = 0, *, shared: bool = True) -> Word:
        """Attach to 4 bytes of somebody's memory, without changing them.

        Zero-filled memory reads "permit": an owner that wants a fresh start calls `prepare_park()`. The memory is
        held until `close()`. Does not block.

        Args:
            buffer: writable memory: SharedMemory.buf, an mmap, ctypes, numpy or array objects, a bytearray.
            offset: bytes from its start to the word; the word's address must be a multiple of 4.
            shared: whether other processes map the same memory and unpark, or park, there.

        Returns:
            The word.

        Raises:
            TypeError: buffer gives no memory, or it is read-only; offset is no integer.
            ValueError: the word does not fit in at offset, or is misaligned there.
            UnsupportedError: shared, and the backend reaches no other process.

        Example:
            >>> import mmap, aiopark
            >>> memory = mmap.mmap(-1, 4096)
            >>> word = aiopark.Word.from_buffer(memory, 64, shared=False)
            >>> aiopark.ThreadParker(word).park_timeout(0)  # zero-filled: a permit
            True
            >>> word.close()
            >>> memory.close()
        """
        word = cls.__new__(cls)
        cell, address = cell_of(buffer, offset)
        word._attach(cell, address, shared=shared, slot=slot_at(address))
        return word

    @classmethod
    def from_address(cls, address: int, *, shared: bool = False, owner: object = None) -> Word:
        """Attach to 4 bytes that native code owns, without changing them.

        The caller promises that the memory outlives the word. Does not block.

        Args:
            address: a multiple of 4, not 0.
            shared: whether other processes map the same memory and unpark, or park, there.
            owner: whatever keeps the memory alive; held until `close()`.

        Returns:
            The word.

        Raises:
            TypeError: address is no integer.
            ValueError: address is 0 or misaligned.
            UnsupportedError: shared, and the backend reaches no other process.

        Example:
            >>> import ctypes, aiopark
            >>> native = ctypes.c_uint32(1)
            >>> word = aiopark.Word.from_address(ctypes.addressof(native), owner=native)
            >>> word.unpark()
            >>> native.value
            0
        """
        word = cls.__new__(cls)
        if isinstance(owner, Word):
            owner = (owner, owner._cell)  # its memory, which it lets go of when it is closed
        word._attach(cell_at(address, owner), address, shared=shared, slot=slot_at(address))
        word._keeps_memory = owner is not None
        return word

    def __repr__(self) -> str:
        cell = self._cell
        state = "closed" if cell is None else {PARKED: "parked", PERMIT: "unparked"}.get(cell.value, cell.value)
        return f"<aiopark.Word {state} at {self.address:#x}>"

    def load(self) -> int:
        """Read the cell, with acquire ordering.

        May be called from any thread, a signal handler or a finalizer. Does not block.

        Returns:
            1 for parked, 0 for a permit; whatever else somebody stored.

        Raises:
            ClosedError: the word was closed.

        Example:
            >>> import aiopark
            >>> aiopark.Word().load()
            1
        """
        cell = self._cell
        if cell is None:
            raise _closed()
        value = cell.value  # Pairs with: the release in store.
        if not PLAIN_IS_ORDERED:
            full_fence()
        return value

    def store(self, value: int) -> None:
        """Write the cell, with release ordering, and wake nobody.

        May be called from any thread, a signal handler or a finalizer. Does not block. Use `unpark` to wake.

        Args:
            value: 1 for parked, 0 for a permit.

        Raises:
            ValueError: value does not fit into 32 bits.
            TypeError: value is no integer.
            ClosedError: the word was closed.

        Example:
            >>> import aiopark
            >>> word = aiopark.Word()
            >>> word.store(0)
            >>> word.load()
            0
        """
        if not isinstance(value, int):
            raise TypeError(f"a word holds an integer (1 = parked, 0 = unparked), not {type(value).__name__}")
        if not 0 <= value < 2**32:
            raise ValueError(f"a word holds 32 bits (1 = parked, 0 = unparked): {value} does not fit")
        self._store(value)

    def unpark_lock(self) -> UnparkHandle:
        """Deposit the permit now (store 0, with release ordering), wake later.

        May be called from any thread, a signal handler or a finalizer, also under a lock of yours. Does not block.

        Returns:
            The handle whose `unpark()` wakes.

        Raises:
            ClosedError: the word was closed.

        Example:
            >>> import aiopark
            >>> word = aiopark.Word()
            >>> handle = word.unpark_lock()
            >>> word.load()
            0
            >>> handle.unpark()
        """
        return UnparkHandle(partial(_wake_and_keep, self._wake, self._store(PERMIT)))

    def unpark(self) -> None:
        """Deposit the permit and wake whoever is parked on the word: a thread or a task; if shared, of any process.

        May be called from any thread, a signal handler or a finalizer. Does not block.

        Raises:
            ClosedError: the word was closed.
            OSError: the system call that wakes failed in a way that no rule allows for.

        Example:
            >>> import threading, aiopark
            >>> word = aiopark.Word()
            >>> threading.Timer(0.01, word.unpark).start()
            >>> aiopark.ThreadParker(word).park()
        """
        cell = self._store(PERMIT)  # noqa: F841  # keeps the memory until the wake is done, whoever closes meanwhile
        try:
            self._wake()
        except BaseException:
            self._wake()  # a signal handler that raises (Ctrl-C) came in between
            raise

    def close(self) -> None:
        """Let go of the memory; the word cannot be used any more. Idempotent.

        May be called from any thread. Does not block; but it waits the moment in which the watch thread of a collected
        Parker ends, or another thread closes a word at this address.

        Raises:
            RuntimeError: a thread is parked on the word (unpark it first), or a Parker has it (close it first).

        Example:
            >>> import aiopark
            >>> word = aiopark.Word()
            >>> word.close()
            >>> word.load()
            Traceback (most recent call last):
                ...
            aiopark.ClosedError: the word was closed: make a new one
        """
        closer: Closer | None = Closer(self)
        while closer is not None:
            try:
                # Holding the slot keeps parks out until the cell is gone; they find it gone after that.
                claim(self._slot, closer, "Word")
                break
            except RuntimeError:
                if self._cell is None:
                    return  # another thread has closed it
                owner = self._slot.get(OWNER)
                if isinstance(owner, Closer) and owner.is_this_thread():
                    closer = None  # this interrupts a close, which holds the slot
                elif owner is None or owner.ends_soon():
                    time.sleep(0)  # another thread is closing a word here, or a watch thread is about to end
                elif self._owns_memory or owner.through(self):
                    raise RuntimeError(
                        "somebody still parks on this word: unpark the thread, or close the Parker, before the word"
                    ) from None
                else:
                    closer = None  # that one parks through another word at this address, which holds the memory
        cell, self._cell = self._cell, None
        if closer is not None:
            del self._slot[OWNER]
        del cell  # last: a finalizer of what it keeps alive may use words too

    def _store(self, value: int) -> ctypes.c_uint32:
        """Store with release ordering, and give the cell, for those who need the memory a little longer."""
        cell = self._cell
        if cell is None:
            raise _closed()
        if not PLAIN_IS_ORDERED:
            full_fence()
        cell.value = value  # Pairs with: the load in _take, and the kernel's comparison.
        return cell

    def _prepare(self) -> None:
        """Drop the permit. Owner only; with the owner's fence, since "prepare, look at the data, park" may follow."""
        self._store(PARKED)
        full_fence()

    def _park(self, deadline: float | None) -> bool:
        """Sleep until there is a permit, and take it, or until time.monotonic() reaches the deadline: ThreadParker."""
        slot, owner = self._slot, ParkedThread(self)
        claim(slot, owner, "ThreadParker")
        # CPython runs signal handlers after calls and where loops go round, and one may raise (Ctrl-C): no loop here,
        # since CPython 3.12 and 3.13 leave a `while` without the `finally` around it while it jumps back; and a
        # statement, not a call, between taking the permit and returning.
        try:
            return self._take(deadline)
        finally:
            try:
                if slot[OWNER] is owner:
                    del slot[OWNER]
            except KeyError:
                pass  # a child that was forked inside of this park goes on in it, and was taken for gone

    def _take_now(self) -> bool:
        """Take the permit if there is one. Owner only: the Parker, which never waits here."""
        cell = self._cell
        return cell is not None and _take_from(cell)

    def _wait(self, seen: int) -> None:
        """Block while the cell holds what was seen there; every return means "look again". For watches."""
        self._backend.wait(self.address, seen, shared=self.shared)

    def _wake_all(self) -> None:
        """Have everybody who waits on the cell look again. For watches."""
        self._backend.wake_all(self.address, shared=self.shared)

    def _take(self, deadline: float | None) -> bool:
        """Do what _park says. Owner only."""
        cell = self._cell  # the local name keeps the memory while the kernel looks at it
        if cell is None:
            raise _closed()
        # The permit first, the clock second: in a tie the unpark wins. What comes between the look and the sleep is
        # seen by the kernel, which compares the cell again.
        while not _take_from(cell):
            if deadline is not None and time.monotonic() >= deadline:
                return False
            self._sleep(deadline)
        return True


def holds_permit(cell: ctypes.c_uint32) -> bool:
    """Look, without the ordering of `load`: for those who only pass on a hint."""
    return cell.value == PERMIT


def _take_from(cell: ctypes.c_uint32) -> bool:
    """Take the permit if there is one. Whoever calls it returns at once if so: no call of C may come in between."""
    if cell.value != PERMIT:  # Pairs with: the release that stored 0.
        return False
    cell.value = PARKED
    try:
        full_fence()  # the owner's fence, see above: nothing is read before the 1 is visible
    except BaseException:  # a signal handler that raises: the permit is not taken
        cell.value = PERMIT
        raise
    return True


def _closed() -> ClosedError:
    return ClosedError("the word was closed: make a new one")


def _wake_and_keep(wake: Callable[[], object], cell: object) -> None:  # noqa: ARG001  # the cell stays alive with it
    wake()
