"""What the tests of io_uring's Ring share: words to wait on, and what a ring says about them."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from aiopark._os._io_uring_probe import refusal
from support.waiting import block_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiopark._os._io_uring import Ring

needs_ring = pytest.mark.skipif(refusal() is not None, reason=str(refusal()))


def cells(number: int, value: int = 1) -> tuple[Any, list[int]]:
    """Return the memory and the addresses of that many words."""
    memory = (ctypes.c_uint32 * number)(*[value] * number)
    start = ctypes.addressof(memory)
    return memory, [start + 4 * i for i in range(number)]


def wait_on(ring: Ring, addresses: list[int], expected: int = 1) -> None:
    for user_data, address in enumerate(addresses):
        while not ring.prepare(address, expected, user_data):
            ring.submit()
    ring.submit()


def completed(ring: Ring, number: int) -> dict[int, int]:
    """Take completions until there are that many."""
    taken: dict[int, int] = {}

    def take() -> bool:
        for user_data, result in ring.completions():
            assert user_data not in taken
            taken[user_data] = result
        return len(taken) >= number

    block_until(take)
    return taken


def rings(eventfd: int) -> int:
    """Take what the kernel wrote to the eventfd."""
    try:
        return os.eventfd_read(eventfd)
    except BlockingIOError:
        return 0


def held() -> tuple[int, int]:
    """Count what rings hold of this process: descriptors, and mappings."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    return len(os.listdir("/proc/self/fd")), sum("io_uring" in line for line in maps)  # noqa: PTH208


def failing(error: int) -> Callable[..., int]:
    """Return a system call that fails."""

    def raw(*_: object) -> int:
        ctypes.set_errno(error)
        return -1

    return raw
