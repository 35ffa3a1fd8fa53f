"""trio-asyncio: asyncio tasks inside of trio, and trio's inside of those. Prints on which loop each one parks.

The argument says what to import first.
"""

import importlib
import sys
import threading
import time

importlib.import_module(sys.argv[1])

import trio
import trio_asyncio

import aiopark
from aiopark._loops import running_loop


async def park_and_be_woken():
    parker = aiopark.Parker()

    def unpark():
        while parker._cell.owner() is None:
            time.sleep(0.001)
        parker.unpark()

    threading.Thread(target=unpark, daemon=True).start()
    await parker.park()
    assert await parker.park_timeout(0.001) is False
    print(type(running_loop()).__name__)


async def there_and_back():
    await park_and_be_woken()
    await trio_asyncio.trio_as_aio(park_and_be_woken)()
    await park_and_be_woken()


async def main():
    await park_and_be_woken()
    async with trio_asyncio.open_loop():
        await park_and_be_woken()
        await trio_asyncio.aio_as_trio(park_and_be_woken)()
        await park_and_be_woken()
        await trio_asyncio.aio_as_trio(there_and_back)()


trio.run(main)
