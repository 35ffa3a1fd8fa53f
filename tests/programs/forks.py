"""Fork while a loop that stands still watches a word; both go on. The argument names an event loop."""

import asyncio
import os
import sys
import threading
from pathlib import Path

import anyio

import aiopark

sys.path.append(str(Path(__file__).parent.parent))
from support import PLAIN_WORLDS, installed

(world,) = [world for world in installed(PLAIN_WORLDS) if world.name == sys.argv[1]]
word = aiopark.Word()
parker = aiopark.Parker(word)


async def use():
    assert await parker.park_timeout(0.001) is False
    thread = threading.Thread(target=word.unpark)
    thread.start()
    with anyio.fail_after(20):
        await parker.park()
    thread.join()


world.run(use)
still = asyncio.new_event_loop()  # whose ring, or thread, waits on
for end in (sys.exit, os._exit):  # with finalizers, and with none
    still.run_until_complete(parker.park_timeout(0.001))
    child = os.fork()
    world.run(use)
    if child == 0:
        end(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    world.run(use)
    still.run_until_complete(use())
parker.close()
still.close()
print("the parent ends")
