"""A native thread unparks for each item that it puts into a ring: items a second, with and without coalescing.

    python benchmarks/coalesced.py [--rounds 5] [--items 2000000]

`aiopark_unpark` makes a system call for each item. `aiopark_unpark_coalesced` makes one only if there was no permit, so
if the consumer may sleep. The consumer takes all that the ring holds and parks: once a native thread, once a task. Not
pinned: the two sides run at the same time, on two cores. Linux.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import statistics
import subprocess
import tempfile
import time
from ctypes import c_int, c_uint, c_uint32, c_void_p
from pathlib import Path
from typing import TYPE_CHECKING

import aiopark

if TYPE_CHECKING:
    from collections.abc import Callable

WAYS = ("aiopark_unpark", "aiopark_unpark_coalesced")


def ring() -> ctypes.CDLL:
    """Compile coalesced.c with the system's compiler, and load it."""
    source = Path(__file__).with_suffix(".c")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "ring.so"
        command = ["cc", "-std=gnu11", "-O2", "-shared", "-fPIC", "-pthread", f"-I{aiopark.get_include()}"]
        subprocess.run([*command, str(source), "-o", str(target)], check=True)
        library = ctypes.CDLL(str(target))
    library.start.restype, library.start.argtypes = None, [c_uint, c_void_p, c_int]
    library.take.restype, library.take.argtypes = c_uint, []
    for function in (library.consume, library.finish):
        function.restype, function.argtypes = None, []
    return library


def by_native_thread(library: ctypes.CDLL, items: int, coalesced: bool) -> None:
    word = c_uint32(1)
    library.start(items, ctypes.byref(word), coalesced)
    library.consume()
    library.finish()  # before the word goes: the item is there before the producer unparks for it


def by_task(library: ctypes.CDLL, items: int, coalesced: bool) -> None:
    async def main() -> None:
        word = aiopark.Word()
        with aiopark.Parker(word) as parker:
            library.start(items, word.address, coalesced)
            while library.take() < items:
                await parker.park()
            library.finish()
        word.close()

    asyncio.run(main())


def rate(consume: Callable[[ctypes.CDLL, int, bool], None], library: ctypes.CDLL, items: int, coalesced: bool) -> float:
    """Return the items a second of one run."""
    before = time.perf_counter()
    consume(library, items, coalesced)
    return items / (time.perf_counter() - before)


def main() -> None:
    """Measure both ways in turn, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--items", type=int, default=2_000_000)
    arguments = parser.parse_args()
    library = ring()
    for title, consume in (("a native thread", by_native_thread), ("a task", by_task)):
        runs: list[list[float]] = [[], []]
        for _ in range(arguments.rounds):
            for coalesced, rates in enumerate(runs):
                rates.append(rate(consume, library, arguments.items, bool(coalesced)))
        for way, rates in zip(WAYS, runs, strict=True):
            print(f"{title} consumes, {way}: {statistics.median(rates) / 1e6:.2f} million items a second")


if __name__ == "__main__":
    main()
