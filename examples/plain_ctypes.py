"""A 32-bit field of a C struct is the word, and whoever has the struct unparks a task without knowing of aiopark.

    python examples/plain_ctypes.py

There is no extension module here and nothing to compile: the struct is a ctypes one, and the unpark is one call of the
C library. It is what native code writes that cannot, or would not, include aiopark.h. Two steps make an unpark, in this
order:

    1. store 0 into the field, after (release) the data that it stands for
    2. wake all who sleep on the address of the field

    Linux      one system call does both: futex(FUTEX_WAKE_OP)
    Windows    InterlockedExchange(&field, 0); WakeByAddressAll(&field);
    macOS      atomic_store(&field, 0); os_sync_wake_by_address_all(&field, 4, 0);   (14.4 and later)

Whoever sleeps may be a task or a thread, and may be there or not: if nobody is, the 0 is the permit that the next park
takes. This program is for Linux.
"""

from __future__ import annotations

import asyncio
import ctypes
import platform
import threading

import aiopark

# SYS_futex in <sys/syscall.h>, on 64-bit machines.
SYS_FUTEX = {"x86_64": 202, "aarch64": 98, "riscv64": 98, "ppc64le": 221, "s390x": 238}[platform.machine()]
# Without FUTEX_PRIVATE_FLAG, which would not reach aiopark's sleepers: private and shared ones do not meet.
FUTEX_WAKE_OP = 5

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
libc.syscall.argtypes = (
    ctypes.c_long, ctypes.c_void_p, ctypes.c_long, ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_long
)  # fmt: skip


class Sensor(ctypes.Structure):
    """struct sensor { double reading; uint32_t count; uint32_t ready; };  // ready is the word, and aligned to 4."""

    _fields_ = (("reading", ctypes.c_double), ("count", ctypes.c_uint32), ("ready", ctypes.c_uint32))


def driver(sensor: Sensor, readings: int) -> None:
    """Stand in for native code: aiopark does not come up in it.

    It has to be Python here; but during the call of libc it holds no GIL.
    """
    ready = ctypes.addressof(sensor) + Sensor.ready.offset
    for number in range(1, readings + 1):
        sensor.reading = 20 + number / 100
        sensor.count = number
        # The operation, "ready = 0", is the last argument, in four fields of bits: FUTEX_OP_SET is 0, and so is the
        # number to set. The comparison decides about a second wake, of 0 sleepers. It is atomic, and a full barrier.
        wake_all, wake_none = 0x7FFFFFFF, 0
        if libc.syscall(SYS_FUTEX, ready, FUTEX_WAKE_OP, wake_all, wake_none, ready, 0) < 0:
            raise OSError(ctypes.get_errno(), "futex(FUTEX_WAKE_OP)")


async def main() -> None:
    """Park on the field until the sensor has delivered all of its readings."""
    sensor, readings = Sensor(), 1000
    # `shared=False`: the memory is this process' own. The word keeps it alive, so the driver may not outlive the word.
    word = aiopark.Word.from_buffer(sensor, Sensor.ready.offset, shared=False)
    with aiopark.Parker(word) as parker:
        parker.prepare_park()  # ctypes zero-fills, and 0 is a permit. Before the driver is told, or it drops one of his
        thread = threading.Thread(target=driver, args=(sensor, readings))
        thread.start()
        while sensor.count < readings:
            await parker.park()  # one permit may stand for several readings
        thread.join()
    word.close()
    print(f"after {sensor.count} readings the sensor says {sensor.reading:.2f}")


if __name__ == "__main__":
    asyncio.run(main())
