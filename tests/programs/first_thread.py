"""Start the first thread of the process after 64 waits of a ring; print how many of them are woken.

The argument is "process", or "child" for that of a fork.
"""

import ctypes
import os
import sys
import threading


def no_thread(self):
    raise RuntimeError("can't start new thread")


start, threading.Thread.start = threading.Thread.start, no_thread

from aiopark._cell import full_fence
from aiopark._os import Futex
from aiopark._os._io_uring import Ring
from aiopark._os._io_uring_probe import refusal

assert refusal() is None
if sys.argv[1] == "child" and (child := os.fork()):
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
ring = Ring(os.eventfd(0, os.EFD_NONBLOCK), full_fence)
memory = (ctypes.c_uint32 * 64)(*[1] * 64)
addresses = [ctypes.addressof(memory) + 4 * i for i in range(64)]
for i, address in enumerate(addresses):
    assert ring.prepare(address, 1, i)
ring.submit()
assert len(os.listdir("/proc/self/task")) == 1  # noqa: PTH208
threading.Thread.start = start
thread = threading.Thread(target=int)
thread.start()
thread.join()
futex = Futex.create()
for address in addresses:
    futex.wake_all(address)
print(sum(result == 0 for _, result in ring.completions()), flush=True)
os._exit(0)
