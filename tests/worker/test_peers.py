"""What docs/workers.md says of others at a cancellation."""

from __future__ import annotations

import asyncio
import concurrent.futures
from functools import partial

import anyio
import anyio.to_thread
import pytest
from support import Held, until


@pytest.mark.parametrize("outcome", ["result", ValueError("lost")], ids=repr)
def test_asyncio_to_thread(outcome):
    """In the queue it never runs. Running, the caller leaves, and whatever comes of it is lost."""

    async def main():
        asyncio.get_running_loop().set_default_executor(concurrent.futures.ThreadPoolExecutor(1))
        held, never = Held(outcome), Held()
        tasks = [asyncio.create_task(asyncio.to_thread(function)) for function in (held, never)]
        await until(held.runs)
        for task in tasks:
            task.cancel()
        for task in tasks:
            with pytest.raises(asyncio.CancelledError) as caught:
                await task
            assert caught.value.__context__ is None
        assert held.ended == 0
        held.release()
        await until(lambda: held.ended)
        await asyncio.to_thread(len, "abc")
        assert not never.runs()

    asyncio.run(main())


@pytest.mark.parametrize("abandons", [False, True])
def test_anyio_to_thread(plain_world, abandons):
    """In the queue it never runs. Running, the caller waits, and has the result; or leaves, and it is lost."""

    async def main():
        held, never = Held(), Held()
        heard = []
        run = partial(anyio.to_thread.run_sync, limiter=anyio.CapacityLimiter(1), abandon_on_cancel=abandons)

        async def call(function, scope):
            with scope:
                heard.append(await run(function))
            over.append(function)

        over = []
        async with anyio.create_task_group() as tasks:
            scopes = [anyio.CancelScope(), anyio.CancelScope()]
            tasks.start_soon(call, held, scopes[0])
            await until(held.runs)
            tasks.start_soon(call, never, scopes[1])
            await anyio.sleep(0.001)
            scopes[1].cancel()
            await until(lambda: over == [never])
            scopes[0].cancel()
            if abandons:
                await until(lambda: over == [never, held])
            else:
                await anyio.sleep(0.001)
                assert over == [never]
            assert held.ended == 0
            held.release()
            await until(lambda: held.ended)
        assert heard == ([] if abandons else ["result"])
        assert not never.runs()

    plain_world.run(main)
