"""sqlite3 in a Worker: a thousand queries with random time limits, and none goes on after its caller has left.

    python examples/sqlite_worker.py

A connection of sqlite3 belongs to the thread that made it, so a Worker is what it needs. `connection.interrupt` is the
one method that may be called from another thread: it stops the query that runs. The caller then waits for the end of
the function, which comes at once, and the next query finds the connection idle.

`interrupt` stops what runs at that moment, and no more than that: a query that begins a moment later would not know of
it. So `query` does not only execute. It asks a flag, which is set before, from a progress handler: that lasts.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3

import aiopark

# Counts to a million: some tenths of a second.
SLOW = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 1000000) SELECT max(x) FROM n"
QUICK = "SELECT 6 * 7"


class Query:
    """One query, that stops whenever it is interrupted, also before it began."""

    running = 0  # how many there are now

    def __init__(self, connection: sqlite3.Connection, text: str) -> None:
        self.connection = connection
        self.text = text
        self.is_interrupted = False

    def __call__(self) -> int:
        """Run it. On the Worker's thread."""
        self.connection.set_progress_handler(lambda: self.is_interrupted, 1000)  # asked every 1,000 steps
        Query.running += 1
        try:
            (answer,) = self.connection.execute(self.text).fetchone()
            return int(answer)
        finally:
            Query.running -= 1

    def interrupt(self) -> None:
        """Stop it. On the loop's thread."""
        self.is_interrupted = True
        self.connection.interrupt()


async def main() -> None:
    """Ask a thousand times, and give each time a little time."""
    rng = random.Random(1)
    answers = late = 0
    async with aiopark.Worker(name="sqlite") as worker:
        connection = await worker.run(sqlite3.connect, ":memory:", on_dropped=sqlite3.Connection.close)
        for number in range(1000):
            query = Query(connection, QUICK if number % 2 else SLOW)
            try:
                async with asyncio.timeout(rng.uniform(0, 0.002) if query.text is SLOW else None):
                    answers += await worker.run(query, interrupt=query.interrupt) == 42
            except TimeoutError:
                late += 1
            assert Query.running == 0, "a query goes on behind the caller's back"
        await worker.run(connection.close)
    print(f"{answers} queries answered, {late} stopped, none left running")


if __name__ == "__main__":
    asyncio.run(main())
