"""As users' own suites run it: under pytest-asyncio, and under anyio's plugin."""

from __future__ import annotations

import threading

import anyio
import pytest
from support import is_parked, needs, until

import aiopark


@pytest.mark.asyncio
async def test_under_pytest_asyncio():
    parker = aiopark.Parker()
    thread = threading.Thread(target=parker.unpark)
    thread.start()
    await parker.park()
    thread.join()
    assert await parker.park_timeout(0.001) is False


@pytest.fixture(params=["asyncio", pytest.param("trio", marks=needs("trio"))])
def anyio_backend(request):
    return request.param


@pytest.mark.anyio
async def test_under_anyios_plugin(anyio_backend):
    parker = aiopark.Parker()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(parker.park)
        await until(lambda: is_parked(parker))
        await anyio.to_thread.run_sync(parker.unpark)
    with anyio.move_on_after(0.001) as scope:
        await parker.park()
    assert scope.cancelled_caught


@pytest.mark.anyio
async def test_anyio_cancel_scopes(anyio_backend):
    """Nested, shielded, and cancelled from outside: each cancellation reaches its own scope."""
    parker = aiopark.Parker()
    with anyio.move_on_after(0.001) as outer:
        with anyio.CancelScope(shield=True), anyio.move_on_after(0.003) as inner:
            await parker.park()
        assert inner.cancelled_caught
        await parker.park()
    assert outer.cancelled_caught
    with pytest.raises(TimeoutError), anyio.fail_after(0.001):
        await parker.park()
    parker.unpark()
    assert await parker.park_timeout(0) is True
