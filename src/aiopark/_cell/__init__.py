"""Cells of 32 bits in memory of anybody's: their atomics and fences, who waits there, and the lease of an address."""

from aiopark._cell._attach import SIZE, memory_at, memory_of
from aiopark._cell._cell import PARKED, PERMIT, Cell
from aiopark._cell._fence import NAME as FENCE
from aiopark._cell._fence import fence, full_fence
from aiopark._cell._lease import LEASE, Lease, place_at

__all__ = [
    "FENCE",
    "LEASE",
    "PARKED",
    "PERMIT",
    "SIZE",
    "Cell",
    "Lease",
    "fence",
    "full_fence",
    "memory_at",
    "memory_of",
    "place_at",
]
