"""The first park of a process that has no descriptor left, under trio or asyncio. Prints how it ended."""

import asyncio
import os
import resource
import sys

import aiopark


async def main():
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    taken = []
    try:
        while True:
            taken.append(os.dup(0))
    except OSError:
        pass
    try:
        parker = aiopark.Parker(aiopark.Word() if sys.argv[2] == "word" else None)
        with parker:
            assert await parker.park_timeout(0.001) is False
            (parker.word or parker).unpark()
            assert await parker.park_timeout(30) is True
    finally:
        for descriptor in taken:
            os.close(descriptor)
    print("parked")


if sys.argv[1] == "trio":
    import trio

    trio.run(main)
else:
    asyncio.run(main())
