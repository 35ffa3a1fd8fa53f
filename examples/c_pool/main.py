"""A pool of C threads computes, and wakes asyncio whenever a job is finished.

    python examples/c_pool/main.py

Needs a C compiler with POSIX threads, `cc`. See pool.c beside this file for the other half: all that it says to
Python is `aiopark_unpark(word)`.
"""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import subprocess
import tempfile
from ctypes import POINTER, byref, c_int, c_uint, c_uint32, c_void_p
from pathlib import Path
from typing import TYPE_CHECKING, Self

import aiopark

if TYPE_CHECKING:
    from types import TracebackType


def build(folder: str) -> ctypes.CDLL:
    """Compile pool.c and load it. A real project does this when it is packaged."""
    source, library = Path(__file__).with_name("pool.c"), Path(folder) / "pool.so"
    flags = ["-std=c11", "-O2", "-shared", "-fPIC", "-pthread", f"-I{aiopark.get_include()}"]
    subprocess.run(["cc", *flags, str(source), "-o", str(library)], check=True)
    # CDLL gives the GIL up in each call: pool_free waits for threads, and pool_submit for a lock.
    pool = ctypes.CDLL(str(library))
    pool.pool_new.restype, pool.pool_new.argtypes = c_void_p, [c_uint, c_void_p]
    pool.pool_submit.restype, pool.pool_submit.argtypes = None, [c_void_p, c_uint32, c_uint32]
    pool.pool_take.restype, pool.pool_take.argtypes = c_int, [c_void_p, POINTER(c_uint32), POINTER(c_uint32)]
    pool.pool_free.restype, pool.pool_free.argtypes = None, [c_void_p]
    return pool


class Pool:
    """`await pool.primes_below(n)`, by a C thread."""

    def __init__(self, library: ctypes.CDLL, threads: int) -> None:
        self._library, self._threads = library, threads
        self._numbers = itertools.count()
        self._futures: dict[int, asyncio.Future[int]] = {}

    async def primes_below(self, limit: int) -> int:
        """Count the primes below the limit. Cancelling it leaves the job to finish unseen."""
        number = next(self._numbers)
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._futures[number] = future
        self._library.pool_submit(self._pool, number, limit)
        return await future

    async def _collect(self) -> None:
        number, result = c_uint32(), c_uint32()
        while True:
            await self._finished.park()
            # One permit may stand for many jobs. One that is finished after this look leaves another permit.
            while self._library.pool_take(self._pool, byref(number), byref(result)):
                future = self._futures.pop(number.value)
                if not future.done():  # nobody cancelled who waits for it
                    future.set_result(result.value)

    async def __aenter__(self) -> Self:
        self._word = aiopark.Word()  # private memory: the threads are in this process
        self._finished = aiopark.Parker(self._word)
        self._pool = self._library.pool_new(self._threads, self._word.address)
        self._collector = asyncio.create_task(self._collect())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._collector.cancel()
        await asyncio.wait([self._collector])
        await asyncio.to_thread(self._library.pool_free, self._pool)  # joins the threads: nobody unparks any more
        self._finished.close()
        self._word.close()


async def main() -> None:
    """Have 100 jobs done by 4 threads, while the loop goes on."""
    with tempfile.TemporaryDirectory() as folder:
        library = build(folder)
    async with Pool(library, threads=4) as pool:
        counts = await asyncio.gather(*(pool.primes_below(200 * number) for number in range(1, 101)))
    assert counts[:5] == [46, 78, 109, 139, 168]
    assert counts == sorted(counts)
    print(f"{len(counts)} jobs done; there are {counts[-1]:,} primes below 20,000")


if __name__ == "__main__":
    asyncio.run(main())
