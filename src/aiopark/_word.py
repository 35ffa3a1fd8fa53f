"""Word: the face of a cell, for everybody who parks on it, unparks it, or waits for it to change."""

from __future__ import annotations

import ctypes
import math
import operator
import sys
from typing import TYPE_CHECKING, Self

from aiopark._cell import PARKED, PERMIT, Cell, memory_at, memory_of, place_at
from aiopark._deadline import Seconds, seconds
from aiopark._not_copied import NotCopied
from aiopark._waiting import wait_while

if TYPE_CHECKING:
    from types import TracebackType

    from aiopark._cell._attach import Buffer
    from aiopark._unpark_handle import UnparkHandle


class Word(NotCopied):
    """One aligned 32-bit cell that a thread or a task parks on and anyone unparks: 1 = parked, 0 = unparked.

    `Word()` lives in memory of its own, private to this process, and starts parked. `from_buffer` and `from_address`
    attach to memory that other processes or native code see too. `ThreadParker(word)` and `Parker(word)` park on it.
    `wait_while` waits for any value to change, for protocols of one's own. Also a context manager, which closes it.

    | methods | may be called from | block |
    | --- | --- | --- |
    | `load`, `store`, `unpark`, `unpark_lock`, `wake` | any thread, a signal handler, a finalizer | never |
    | `wait_while` | a task of asyncio or trio, in any number | never; the task sleeps |
    | `blocking_wait_while` | threads, in any number | until the value changes, with the GIL released; Ctrl-C ends it |
    | `close` | any thread | until the threads in `blocking_wait_while` have noticed |

    Attributes:
        address: where the cell is; a multiple of 4. What native code is given.
        shared: whether other processes may wait and wake on it. False for private memory.

    Raises:
        ClosedError: (all methods but `close`) the word was closed.
        OSError: (what waits or wakes) the system call failed in a way that no rule allows for.
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

    __slots__ = ("__weakref__", "_cell", "_owns_memory", "address", "shared")
    _instead = "send its `address` to native code, or the name of shared memory to another process, and attach there"
    _is_finalizing = staticmethod(sys.is_finalizing)

    def __init__(self) -> None:
        memory = ctypes.c_uint32(PARKED)
        self._attach(memory, ctypes.addressof(memory), shared=False)
        self._owns_memory = True

    def _attach(self, memory: ctypes.c_uint32, address: int, *, shared: bool, keeps_memory: bool = True) -> None:
        if not isinstance(shared, bool):
            raise TypeError(f"shared must be True or False, not {shared!r}")
        self._cell = Cell(memory, place_at(address, memory, shared=shared), keeps_memory=keeps_memory)
        self.address = address
        self.shared = shared
        self._owns_memory = False  # it ends with this word

    @classmethod
    def from_buffer(cls, buffer: Buffer, offset: int = 0, *, shared: bool = True) -> Word:
        """Attach to 4 bytes of somebody's memory, without changing them.

        Zero-filled memory reads "permit": an owner that wants a fresh start calls `prepare_park()`. The memory is
        held until `close()`.

        Args:
            buffer: writable memory: SharedMemory.buf, an mmap, ctypes, numpy or array objects, a bytearray.
            offset: bytes from its start to the word; the word's address must be a multiple of 4.
            shared: whether other processes map the same memory and unpark, or park, there. All words at one address
                say the same.

        Returns:
            The word.

        Raises:
            TypeError: buffer gives no memory, or it is read-only; offset is no integer; shared is no bool.
            ValueError: the word does not fit in at offset, or is misaligned there; or another word there says otherwise
                about shared.
            UnsupportedError: shared, and the backend reaches no other process.

        Example:
            >>> import mmap, aiopark
            >>> memory = mmap.mmap(-1, 4096)
            >>> with aiopark.Word.from_buffer(memory, 64, shared=False) as word:
            ...     aiopark.ThreadParker(word).park_timeout(0)  # zero-filled: a permit
            True
            >>> memory.close()
        """
        word = cls.__new__(cls)
        word._attach(*memory_of(buffer, offset), shared=shared)  # noqa: SLF001  # a constructor
        return word

    @classmethod
    def from_address(cls, address: int, *, shared: bool = False, owner: object = None) -> Word:
        """Attach to 4 bytes that native code owns, without changing them.

        The caller promises that the memory outlives the word.

        Args:
            address: a multiple of 4, not 0.
            shared: whether other processes map the same memory and unpark, or park, there. All words at one address
                say the same.
            owner: whatever keeps the memory alive; held until `close()`.

        Returns:
            The word.

        Raises:
            TypeError: address is no integer; shared is no bool.
            ValueError: address is 0, misaligned, or more than a pointer holds; or another word there says otherwise
                about shared.
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
            owner = (owner, owner._cell.memory)  # noqa: SLF001  # its memory, which it lets go of when it is closed
        memory = memory_at(address, owner)
        word._attach(memory, operator.index(address), shared=shared, keeps_memory=owner is not None)  # noqa: SLF001
        return word

    @staticmethod
    def _checked(value: int) -> int:
        if not isinstance(value, int):
            raise TypeError(f"a word holds an integer (1 = parked, 0 = unparked), not {type(value).__name__}")
        if not 0 <= value < 2**32:
            raise ValueError(f"a word holds 32 bits (1 = parked, 0 = unparked): {value} does not fit")
        return value

    def __repr__(self) -> str:
        memory = self._cell.memory
        state = "closed" if memory is None else {PARKED: "parked", PERMIT: "unparked"}.get(memory.value, memory.value)
        return f"<aiopark.Word {state} at {self.address:#x}>"

    def load(self) -> int:
        """Return the value, read with acquire ordering: 1 for parked, 0 for a permit; whatever else somebody stored.

        Example:
            >>> import aiopark
            >>> aiopark.Word().load()
            1
        """
        return self._cell.load()

    def store(self, value: int) -> None:
        """Write the value, with release ordering, and wake nobody: `unpark` or `wake` does.

        Args:
            value: 1 for parked, 0 for a permit; any 32 bits in a protocol of your own.

        Raises:
            ValueError: value does not fit into 32 bits.
            TypeError: value is no integer.

        Example:
            >>> import aiopark
            >>> word = aiopark.Word()
            >>> word.store(0)
            >>> word.load()
            0
        """
        self._cell.store(self._checked(value))

    def unpark_lock(self) -> UnparkHandle:
        """Deposit the permit now (store 0, with release ordering), wake later: for a caller that holds a lock.

        Returns:
            The handle whose `unpark()` wakes.

        Example:
            >>> import aiopark
            >>> word = aiopark.Word()
            >>> handle = word.unpark_lock()
            >>> word.load()
            0
            >>> handle.unpark()
        """
        return self._cell.unpark_lock()

    def unpark(self) -> None:
        """Deposit the permit and wake whoever is parked on the word: a thread or a task; if shared, of any process.

        Example:
            >>> import threading, aiopark
            >>> word = aiopark.Word()
            >>> threading.Timer(0.01, word.unpark).start()
            >>> aiopark.ThreadParker(word).park()
        """
        self._cell.unpark()

    async def wait_while(self, value: int, *, deadline: Seconds = math.inf) -> bool:
        """Sleep while the word holds a value.

        Any number of tasks and threads may wait; nothing is taken and nothing written. Whoever changes the value calls
        `wake()` after that. Returning does not promise that the value is still another one.

        Args:
            value: 32 bits.
            deadline: seconds on the clock of the running loop; math.inf waits forever.

        Returns:
            True: the word held something else. False: the deadline passed.

        Raises:
            TypeError: value is no integer, or deadline no number.
            ValueError: value does not fit into 32 bits, or deadline is NaN.
            RuntimeError: no event loop runs here.
            ClosedError: the word was closed, before or meanwhile.

        Example:
            >>> import asyncio, threading, aiopark
            >>> async def main():
            ...     with aiopark.Word() as word:
            ...         def count():
            ...             word.store(2)
            ...             word.wake()
            ...         threading.Timer(0.01, count).start()
            ...         await word.wait_while(1)
            ...         return word.load()
            >>> asyncio.run(main())
            2

        Source: futex(2), FUTEX_WAIT.
        """
        return await wait_while(self._cell, self._checked(value), seconds(deadline, "deadline"))

    def blocking_wait_while(self, value: int, *, deadline: Seconds = math.inf) -> bool:
        """Block the thread while the word holds a value. Otherwise as `wait_while`.

        Args:
            value: 32 bits.
            deadline: seconds on `time.monotonic()`; math.inf waits forever.

        Returns:
            True: the word held something else. False: the deadline passed.

        Raises:
            TypeError: value is no integer, or deadline no number.
            ValueError: value does not fit into 32 bits, or deadline is NaN.
            ClosedError: the word was closed, before or meanwhile.

        Example:
            >>> import time, aiopark
            >>> aiopark.Word().blocking_wait_while(1, deadline=time.monotonic() + 0.01)
            False
        """
        number, at = self._checked(value), seconds(deadline, "deadline")
        until = None if at == math.inf else at
        return self._cell.sleep_until(lambda seen: seen != number, _never, object(), until)

    def wake(self, n: int | None = None) -> None:
        """Have those who wait in `wait_while` look again, here and in other processes if shared. Writes nothing.

        The tasks of one loop that wait for one value count as one. A thread or task that is parked on the word counts
        too, so where both are in use, wake all.

        Args:
            n: how many; None for all. More may wake: every wake is a hint.

        Raises:
            TypeError: n is no integer.
            ValueError: n is negative.

        Example:
            >>> import aiopark
            >>> aiopark.Word().wake()
        """
        self._cell.load()  # is it open?
        if n is None:
            self._cell.wake_all()
        elif not isinstance(n, int):
            raise TypeError(f"how many to wake is an integer, or None for all, not {type(n).__name__}")
        elif n < 0:
            raise ValueError(f"as many as {n} cannot be woken; None wakes all")
        else:
            self._cell.wake(n)

    def close(self) -> None:
        """Let go of the memory, and end what waits in `wait_while` with ClosedError. Idempotent.

        Raises:
            RuntimeError: a thread is parked on the word, or a Parker has it: close that first.

        Example:
            >>> import aiopark
            >>> word = aiopark.Word()
            >>> word.close()
            >>> word.load()
            Traceback (most recent call last):
                ...
            aiopark.ClosedError: the word was closed: make a new one
        """
        if self._is_finalizing():  # see `BaseParker.close`
            return
        lease = self._cell.current_lease()
        if lease is not None and (lease.cell is self._cell or self._owns_memory):
            raise RuntimeError(f"{lease.holder()} still parks on this word: close that, before the word")
        self._cell.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def cell_of(word: Word) -> Cell:
    """Return the cell, for those who park on the word."""
    return word._cell  # noqa: SLF001  # the one door


def _never() -> bool:
    return False
