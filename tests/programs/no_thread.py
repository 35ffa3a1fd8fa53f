"""Park on a word where no thread is to be had, on asyncio or trio."""

import asyncio
import os
import resource
import sys

import aiopark


async def main():
    with aiopark.Parker(aiopark.Word()) as parker:
        try:
            assert await parker.park_timeout(0.01) is False
        except OSError as error:
            print("OSError", error.errno, error)
        else:
            print("slept")
        parker.word.unpark()
        assert await parker.park_timeout(0.01) is True


if sys.argv[1] == "trio":
    import trio  # which the other user may not read
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
if sys.argv[1] == "trio":
    trio.run(main)
else:
    asyncio.run(main())
