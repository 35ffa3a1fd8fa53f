"""A FastAPI endpoint that answers 503 after a deadline, and stops its query: a real server, and a real client.

    pip install fastapi uvicorn httpx
    python examples/fastapi_deadline.py

`def` endpoints and `to_thread` leave a query running that nobody waits for any more: it holds its thread and the
database until it ends, and under load the next requests wait for it. Here the deadline interrupts the query, the
endpoint answers when it has ended, and the next request has the connection to itself.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx
import uvicorn
from fastapi import FastAPI, HTTPException

import aiopark

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

DEADLINE = 0.2  # seconds

database = aiopark.Worker(name="database")
running: list[Count] = []  # the queries that run now


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the database on its thread, and close it there."""
    async with database:
        connection = await database.run(sqlite3.connect, ":memory:", on_dropped=sqlite3.Connection.close)
        app.state.connection = connection
        yield
        await database.run(connection.close)


app = FastAPI(lifespan=lifespan)


class Count:
    """A query that takes as long as it is asked to, and can be stopped: also a moment before it begins."""

    def __init__(self, to: int) -> None:
        self.to = to
        self.is_stopped = False

    def __call__(self) -> int:
        """Run it. On the thread of the database."""
        running.append(self)
        try:
            connection: sqlite3.Connection = app.state.connection
            connection.set_progress_handler(lambda: self.is_stopped, 1000)  # asked every 1,000 steps
            query = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < ?) SELECT max(x) FROM n"
            return int(connection.execute(query, (self.to,)).fetchone()[0])
        finally:
            running.remove(self)

    def stop(self) -> None:
        """Stop it. On the loop's thread."""
        self.is_stopped = True


@app.get("/count/{to}")
async def get_count(to: int) -> dict[str, int]:
    """Answer, or say in time that it took too long."""
    query = Count(to)
    try:
        async with asyncio.timeout(DEADLINE):
            return {"answer": await database.run(query, interrupt=query.stop)}
    except TimeoutError:
        raise HTTPException(503, "the query took too long, and was stopped") from None


async def main() -> None:
    """Serve, and ask."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110  # uvicorn has no event for it
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client:
        quick = await client.get("/count/1000")
        start = time.monotonic()
        slow = await client.get("/count/1000000000")  # minutes, if nobody stops it
        took = time.monotonic() - start
        left = running.copy()
        again = await client.get("/count/2000")
    server.should_exit = True
    await serving
    assert took < 30, "it was not stopped"
    assert left == [], "the query goes on behind the endpoint's back"
    print(quick.status_code, quick.json(), slow.status_code, again.status_code, again.json())


if __name__ == "__main__":
    asyncio.run(main())
