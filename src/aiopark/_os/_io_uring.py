"""Linux 6.7 and later: one io_uring that waits on any number of futexes, with no thread.

The ring is made with SINGLE_ISSUER and DEFER_TASKRUN: one thread submits and reaps, and what happened is put into the
completion queue when that thread asks for it. So neither a signal interrupts the thread, nor do its reads and writes
of the queues need fences: the kernel touches them inside of this thread's own system calls. (After that thread has
ended the kernel adds its last completions from elsewhere, and says so through the eventfd.)

Sources: man 2 io_uring_setup, io_uring_enter, io_uring_register; include/uapi/linux/io_uring.h; io_uring/futex.c.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import TYPE_CHECKING, Final

from aiopark import _fork
from aiopark._os._backend import call_and_errno
from aiopark._os._io_uring_calls import (
    ENTER,
    REGISTER,
    SETUP,
    failed,
    map_ring,
    raw,
    system_call,
    unmap_ring,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CQSIZE: Final = 1 << 3
_CLAMP: Final = 1 << 4  # fewer entries rather than EINVAL
_TASKRUN_FLAG: Final = 1 << 9  # Linux 5.19: show in SQ flags that there is something to ask for
_SINGLE_ISSUER: Final = 1 << 12  # Linux 6.0
_DEFER_TASKRUN: Final = 1 << 13  # Linux 6.1
_NO_SQARRAY: Final = 1 << 16  # Linux 6.6
_FLAGS: Final = _CQSIZE | _CLAMP | _TASKRUN_FLAG | _SINGLE_ISSUER | _DEFER_TASKRUN | _NO_SQARRAY
_SUBMISSIONS: Final = 64
_COMPLETIONS: Final = 1024  # what comes beyond that the kernel keeps (FEAT_NODROP) until the queue is emptied
_SINGLE_MMAP, _NODROP = 1 << 0, 1 << 1  # features
_OFF_SQES: Final = 0x10000000
_GETEVENTS: Final = 1
_REGISTER_EVENTFD: Final = 4
_CQ_OVERFLOW, _TASKRUN = 1 << 1, 1 << 2  # SQ flags
_EVENTFD_DISABLED: Final = 1  # CQ flag

_FUTEX_WAIT: Final = 51  # IORING_OP_FUTEX_WAIT, Linux 6.7
_FUTEX2_SIZE_U32: Final = 2

# struct io_uring_sqe as FUTEX_WAIT uses it: opcode, flags, ioprio, fd (futex flags), off (expected value), addr,
# len, futex_flags, user_data, buf_index, personality, file_index, addr3 (mask), pad.
_SQE: Final = struct.Struct("=BBHiQQIIQHHiQQ")
_CQE: Final = struct.Struct("=QiI")  # user_data, res, flags
_U32: Final = 0xFFFFFFFF


# No ring is to be had now, as no descriptor or memory is left.
NONE_LEFT: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class ForeignThreadError(OSError):
    """The ring belongs to another thread (EEXIST), which may have ended."""


class _Parameters(ctypes.Structure):
    """struct io_uring_params, each offset block of which is ten 32-bit numbers."""

    _fields_ = (
        ("sq_entries", ctypes.c_uint32),
        ("cq_entries", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("sq_thread_cpu", ctypes.c_uint32),
        ("sq_thread_idle", ctypes.c_uint32),
        ("features", ctypes.c_uint32),
        ("wq_fd", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32 * 3),
        ("sq_off", ctypes.c_uint32 * 10),  # head, tail, mask, entries, flags, dropped, array
        ("cq_off", ctypes.c_uint32 * 10),  # head, tail, mask, entries, overflow, cqes, flags
    )


class Ring:
    """One ring, for the thread that makes it.

    Args:
        eventfd: written to by the kernel when there are completions to ask for.
        fence: a full memory fence.

    Raises:
        OSError: a call failed; the message names it.
    """

    __slots__ = (
        "__weakref__", "_ask", "_base", "_count", "_cq_flags", "_cq_head", "_cq_mask", "_cq_tail", "_cqes", "_epoch",
        "_fence", "_fileno", "_size", "_sq_flags", "_sq_head", "_sq_mask", "_sq_tail", "_sqes", "_sqes_base",
        "_sqes_size", "_submit",
    )  # fmt: skip

    def __init__(self, eventfd: int, fence: Callable[[], object]) -> None:
        self._fence: Final = fence
        self._fileno = -1
        self._base = self._sqes_base = self._size = self._sqes_size = 0
        self._epoch: Final = _fork.epoch
        parameters = _Parameters(flags=_FLAGS, cq_entries=_COMPLETIONS)
        self._fileno = system_call("io_uring_setup", SETUP, _SUBMISSIONS, ctypes.addressof(parameters))
        if parameters.features & (_SINGLE_MMAP | _NODROP) != _SINGLE_MMAP | _NODROP:
            raise OSError(errno.ENOSYS, "io_uring_setup: this kernel lacks IORING_FEAT_NODROP")
        sq, cq = parameters.sq_off, parameters.cq_off
        self._size = cq[5] + _CQE.size * parameters.cq_entries
        self._base = map_ring(self._size, self._fileno, 0)
        self._sqes_size = _SQE.size * parameters.sq_entries
        self._sqes_base = map_ring(self._sqes_size, self._fileno, _OFF_SQES)
        self._sqes: Final = (ctypes.c_char * self._sqes_size).from_address(self._sqes_base)
        self._cqes: Final = (ctypes.c_char * (self._size - cq[5])).from_address(self._base + cq[5])
        self._sq_head, self._sq_tail, sq_mask, _, self._sq_flags, *_ = (self._number(offset) for offset in sq)
        self._cq_head, self._cq_tail, cq_mask, _, _, _, self._cq_flags, *_ = (self._number(offset) for offset in cq)
        self._sq_mask: Final = sq_mask.value
        self._cq_mask: Final = cq_mask.value
        # Converted once, as in Futex.
        fileno, zero, self._count = ctypes.c_long(self._fileno), ctypes.c_long(0), ctypes.c_long(0)
        self._submit: Final = (ctypes.c_long(ENTER), fileno, self._count, zero, zero, zero, zero)
        self._ask: Final = (ctypes.c_long(ENTER), fileno, zero, zero, ctypes.c_long(_GETEVENTS), zero, zero)
        number = ctypes.c_int(eventfd)
        call = "io_uring_register(IORING_REGISTER_EVENTFD)"
        system_call(call, REGISTER, self._fileno, _REGISTER_EVENTFD, ctypes.addressof(number), 1)

    def _number(self, offset: int) -> ctypes.c_uint32:
        return ctypes.c_uint32.from_address(self._base + offset)

    def __del__(self) -> None:
        self.close()

    def fileno(self) -> int:
        """Give the ring's descriptor, -1 once it is closed."""
        return self._fileno

    def close(self) -> None:
        """Let go of the ring. Idempotent; from any thread.

        The kernel takes pending waits out of their queues a little later, and until then they may swallow wakes:
        wake them all first.
        """
        fileno, self._fileno = self._fileno, -1
        if fileno >= 0:
            os.close(fileno)
            if self._epoch == _fork.epoch:  # a child of a fork does not have the memory (MADV_DONTFORK)
                for base, size in ((self._base, self._size), (self._sqes_base, self._sqes_size)):
                    if base:
                        unmap_ring(base, size)

    def prepare(self, address: int, expected: int, user_data: int, *, shared: bool) -> bool:
        """Queue one wait: it completes at once if the word does not hold `expected`, and else when it is woken.

        Returns:
            Whether there was room; `submit` makes some.
        """
        tail = self._sq_tail.value
        if (tail - self._sq_head.value) & _U32 > self._sq_mask:
            return False
        futex_flags = _FUTEX2_SIZE_U32  # not private, see _linux.py
        _SQE.pack_into(
            self._sqes, _SQE.size * (tail & self._sq_mask),
            _FUTEX_WAIT, 0, 0, futex_flags, expected, address, 0, 0, user_data, 0, 0, 0, _U32, 0,  # mask: any wake
        )  # fmt: skip
        self._sq_tail.value = (tail + 1) & _U32
        return True

    def submit(self) -> None:
        """Hand over what is queued.

        Raises:
            ForeignThreadError: this is not the ring's thread.
            BlockingIOError: the kernel wants completions to be taken first.
            OSError: the call failed otherwise. In none of these cases is anything submitted.
        """
        while count := (self._sq_tail.value - self._sq_head.value) & _U32:
            self._count.value = count
            self._enter(self._submit)

    def mark(self) -> int:
        """Give the end of the queue, for `take_back`."""
        return self._sq_tail.value

    def take_back(self, mark: int) -> bool:
        """Forget what was queued after the mark. False: the kernel has some of it already; nothing is forgotten."""
        head, tail = self._sq_head.value, self._sq_tail.value
        if (tail - mark) & _U32 > (tail - head) & _U32:
            return False
        self._sq_tail.value = mark
        return True

    def has_more(self) -> bool:
        """Tell whether the kernel has something to ask for. From any thread."""
        return bool(self._sq_flags.value & (_TASKRUN | _CQ_OVERFLOW))

    def completions(self) -> Iterator[tuple[int, int]]:
        """Ask for what happened, and give the user_data and result of each, until there is no more.

        One that was given counts as taken when the next one is asked for: whoever is interrupted gets it once more.

        Raises:
            ForeignThreadError: this is not the ring's thread, and there is something that only that can ask for.
            OSError: the call failed otherwise.
        """
        while True:
            while (head := self._cq_head.value) != self._cq_tail.value:
                user_data, result, _ = _CQE.unpack_from(self._cqes, _CQE.size * (head & self._cq_mask))
                yield user_data, result
                self._cq_head.value = (head + 1) & _U32
            if not self.has_more():
                return
            # What we ask for ourselves need not ring: that would cost the loop a pass.
            self._cq_flags.value = _EVENTFD_DISABLED
            try:
                self._enter(self._ask)  # gives some 20 at a time
            finally:
                self._cq_flags.value = 0
                self._fence()  # what did not ring meanwhile shows in the next look; the kernel marks, then looks here

    def _enter(self, arguments: tuple[ctypes.c_long, ...]) -> None:
        if raw(*arguments) != -1:
            return
        result, error = call_and_errno(raw, *arguments)  # see Futex.wait; and nothing was done yet
        if result != -1:
            return
        if error == errno.EEXIST:
            raise ForeignThreadError(error, "io_uring_enter: the ring is another thread's")
        if error == errno.EBUSY:
            raise BlockingIOError(error, "io_uring_enter: there are completions to be taken first")
        raise failed("io_uring_enter", error)
