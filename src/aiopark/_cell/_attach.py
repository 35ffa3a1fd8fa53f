"""Cells in memory that is somebody else's: checked, so that bad input gets an error and not a crash."""

from __future__ import annotations

import ctypes
import operator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # collections.abc.Buffer came with Python 3.12.
    Buffer = Any

SIZE = ctypes.sizeof(ctypes.c_uint32)


def memory_of(buffer: Buffer, offset: int) -> tuple[ctypes.c_uint32, int]:
    """Return the cell at `offset` of a buffer, and its address. The cell holds the buffer.

    Raises:
        TypeError: no buffer, a read-only one, or an offset that is no integer.
        ValueError: the cell does not fit in there, or is misaligned.
    """
    offset = operator.index(offset)
    try:
        view = memoryview(buffer)
    except TypeError:
        raise TypeError(f"a word needs a buffer of writable memory, not {type(buffer).__name__}") from None
    if view.readonly:
        raise TypeError(f"a word needs writable memory, and this {type(buffer).__name__} is read-only")
    if not view.c_contiguous:
        raise ValueError("a word needs contiguous memory, and this buffer has gaps (strides)")
    if offset < 0 or offset + SIZE > view.nbytes:
        raise ValueError(f"a word needs {SIZE} bytes, and a buffer of {view.nbytes} has not as many at offset {offset}")
    # ctypes' cell holds an export of the buffer, so the buffer can be neither resized nor closed under it.
    cell = ctypes.c_uint32.from_buffer(view.cast("B") if view.ndim else view, offset)
    address = ctypes.addressof(cell)
    if address % SIZE:
        raise ValueError(
            f"a word needs an address that is a multiple of {SIZE}, and offset {offset} is at {address:#x}: "
            f"use offset {offset + -address % SIZE}"
        )
    return cell, address


def memory_at(address: int, owner: object) -> ctypes.c_uint32:
    """Return the cell at an address; it holds the owner of the memory.

    Raises:
        TypeError: address is no integer.
        ValueError: address is 0, misaligned, or more than a pointer holds.
    """
    address = operator.index(address)
    if address >= 1 << 8 * ctypes.sizeof(ctypes.c_void_p):
        raise ValueError(
            f"a word needs the address of 4 bytes that exist, and {address:#x} is more than a pointer holds"
        )
    if address <= 0:
        raise ValueError(f"a word needs the address of 4 bytes that exist, not {address}")
    if address % SIZE:
        raise ValueError(f"a word needs an address that is a multiple of {SIZE}, and {address:#x} is none")
    cell = ctypes.c_uint32.from_address(address)
    cell.owner = owner  # type: ignore[attr-defined]  # ctypes objects take attributes
    return cell
