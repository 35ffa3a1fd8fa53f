"""The other process of a ping-pong: a mapped file, and how many rounds.

Word 0 is its own, the word at 64 the test's, and the 64-bit number at 128 the ball, which each adds 1 to.
"""

import mmap
import struct
import sys

import aiopark

path, rounds = sys.argv[1:]
with open(path, "r+b") as file:  # noqa: PTH123
    memory = mmap.mmap(file.fileno(), 4096)
here, there = (aiopark.Word.from_buffer(memory, offset) for offset in (0, 64))
parker = aiopark.ThreadParker(here)
print("here", flush=True)
for i in range(int(rounds)):
    assert parker.park_timeout(30), f"the unpark of round {i} was lost"
    (ball,) = struct.unpack_from("q", memory, 128)
    assert ball == 2 * i + 1, (i, ball)
    struct.pack_into("q", memory, 128, ball + 1)
    there.unpark()
for word in (here, there):
    word.close()
memory.close()
