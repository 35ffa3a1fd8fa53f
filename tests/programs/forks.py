"""Fork while a loop that stands still watches a word; both go on, and the child ends as the last argument says.

Arguments: the name of the event loop, and how the child ends: "exit", with its finalizers, or "_exit", with none.
"""

import asyncio
import os
import sys
import threading
from pathlib import Path

import anyio

import aiopark

sys.path.append(str(Path(__file__).parent.parent))
from support import PLAIN_WORLDS, installed

name, end = sys.argv[1:]
(world,) = [world for world in installed(PLAIN_WORLDS) if world.name == name]
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
still.run_until_complete(parker.park_timeout(0.001))
child = os.fork()
world.run(use)
if child:
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    world.run(use)
    still.run_until_complete(use())
    parker.close()
    still.close()
    print("the parent ends")
elif end == "exit":
    sys.exit(7)
else:
    os._exit(7)
