"""What an io_uring is made of: a descriptor, and two queues in memory that this process shares with the kernel."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import Final

from aiopark import _fork
from aiopark._os._io_uring_calls import REGISTER, SETUP, map_ring, system_call, unmap_ring

SUBMISSIONS: Final = 64
COMPLETIONS: Final = 1024  # what comes beyond that the kernel keeps (FEAT_NODROP) until the queue is emptied

_CQSIZE: Final = 1 << 3
_CLAMP: Final = 1 << 4  # fewer entries rather than EINVAL
_TASKRUN_FLAG: Final = 1 << 9  # Linux 5.19: show in SQ flags that there is something to ask for
_SINGLE_ISSUER: Final = 1 << 12  # Linux 6.0
_DEFER_TASKRUN: Final = 1 << 13  # Linux 6.1
_NO_SQARRAY: Final = 1 << 16  # Linux 6.6
_FLAGS: Final = _CQSIZE | _CLAMP | _TASKRUN_FLAG | _SINGLE_ISSUER | _DEFER_TASKRUN | _NO_SQARRAY
_SINGLE_MMAP, _NODROP = 1 << 0, 1 << 1  # features
_OFF_SQES: Final = 0x10000000
_REGISTER_EVENTFD: Final = 4

# struct io_uring_sqe as FUTEX_WAIT uses it: opcode, flags, ioprio, fd (futex flags), off (expected value), addr,
# len, futex_flags, user_data, buf_index, personality, file_index, addr3 (mask), pad.
SQE: Final = struct.Struct("=BBHiQQIIQHHiQQ")
CQE: Final = struct.Struct("=Qi4x")  # user_data, res, flags


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


class RingMemory:
    """The descriptor and the queues, until it is closed or collected.

    Args:
        eventfd: written to by the kernel when there are completions to ask for.

    Attributes:
        fileno: the descriptor, -1 once it is closed.
        sqes: the entries of the submission queue; `sq_head`, `sq_tail`, `sq_flags` and `sq_mask` belong to it.
        cqes: the entries of the completion queue; `cq_head`, `cq_tail`, `cq_flags` and `cq_mask` belong to it.

    Raises:
        OSError: a call failed; the message names it.
    """

    def __init__(self, eventfd: int) -> None:
        self.fileno = -1
        self.maps: Final[list[tuple[int, int]]] = []  # address and size
        self._epoch: Final = _fork.epoch
        parameters = _Parameters(flags=_FLAGS, cq_entries=COMPLETIONS)
        self.fileno = system_call("io_uring_setup", SETUP, SUBMISSIONS, ctypes.addressof(parameters))
        if parameters.features & (_SINGLE_MMAP | _NODROP) != _SINGLE_MMAP | _NODROP:
            raise OSError(errno.ENOSYS, "io_uring_setup: this kernel lacks IORING_FEAT_NODROP")
        sq, cq = parameters.sq_off, parameters.cq_off
        queues = self._map(cq[5] + CQE.size * parameters.cq_entries, 0)
        sqes = self._map(SQE.size * parameters.sq_entries, _OFF_SQES)
        self.sqes: Final = (ctypes.c_char * (SQE.size * parameters.sq_entries)).from_address(sqes)
        self.cqes: Final = (ctypes.c_char * (CQE.size * parameters.cq_entries)).from_address(queues + cq[5])

        def number(offset: int) -> ctypes.c_uint32:
            return ctypes.c_uint32.from_address(queues + offset)

        self.sq_head, self.sq_tail, sq_mask, _, self.sq_flags, *_ = map(number, sq)
        self.cq_head, self.cq_tail, cq_mask, _, _, _, self.cq_flags, *_ = map(number, cq)
        self.sq_mask: Final = sq_mask.value
        self.cq_mask: Final = cq_mask.value
        call, fileno = "io_uring_register(IORING_REGISTER_EVENTFD)", ctypes.c_int(eventfd)
        system_call(call, REGISTER, self.fileno, _REGISTER_EVENTFD, ctypes.addressof(fileno), 1)

    def _map(self, size: int, offset: int) -> int:
        address = map_ring(size, self.fileno, offset)
        self.maps.append((address, size))
        return address

    def close(self) -> None:
        """See `Ring.close`."""
        fileno, self.fileno = self.fileno, -1
        if fileno >= 0:
            os.close(fileno)
            if self._epoch == _fork.epoch:  # a child of a fork does not have the memory (MADV_DONTFORK)
                for address, size in self.maps:
                    unmap_ring(address, size)

    def __del__(self) -> None:
        self.close()
