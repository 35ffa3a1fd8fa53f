"""Another process wakes a task, which wakes that process: seconds until the task runs, and seconds a round trip.

Against what is in use for it: a socketpair (`loop.sock_recv`, and streams), `multiprocessing.Event` in
`asyncio.to_thread`, and ZeroMQ's PAIR over ipc. In each contest the other process blocks in the contestant's own call
until it is asked, and answers by it: `ThreadParker.park`, `socket.recv`, `Event.wait`, `zmq.Socket.recv`.

Once on one core, once with the other process on another one. On one core, what the other process does after its answer,
until it blocks again, may count too; and it may have answered before the loop sleeps: then `sock_recv` returns without
a pass through the loop, while a park is a checkpoint and takes one.

Latency: the process pauses 150 µs after it was asked, so that the loop is asleep, takes the time and answers; the task
takes the time when it runs. Round trip: without the pause, from before it asks. Of a sample's trips the median counts.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from _peers import AIOPARK, EVENT, PEERS, SOCKET, SPAWN, STREAMS, ZMQ, Pair, Peer
from _report import Row
from _runner import Benchmark, Contestants, cores, main

from aiopark.lowlevel import default_backend

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator

LATENCY, ROUND_TRIP = "latency", "round trip"
PAUSE = 150_000  # nanoseconds

# The main process is on the last of them, and nowhere else once it is pinned.
CORES = cores()


def other_process(
    core: int | None, pause: Any, at: Any, connect: Callable[..., Pair], arguments: tuple[Any, ...]
) -> None:
    if core is not None:
        os.sched_setaffinity(0, {core})
    wait, wake = connect(*arguments)
    now = time.monotonic_ns
    while True:
        wait()
        if pause.value:
            time.sleep(pause.value / 1e9)
        at.value = now()
        wake()


def medians(runner: asyncio.Runner, peer: Peer, pause: Any, at: Any, count: int) -> dict[str, float]:
    async def trips() -> tuple[float, float]:
        trip, now = peer.trip, time.monotonic_ns
        latencies, round_trips = [], []
        for _ in range(count):
            start = now()
            await trip()
            end = now()
            latencies.append(end - at.value)
            round_trips.append(end - start)
        return statistics.median(latencies) / 1e9, statistics.median(round_trips) / 1e9

    pause.value = PAUSE
    latency, _ = runner.run(trips())
    pause.value = 0
    _, round_trip = runner.run(trips())
    return {LATENCY: latency, ROUND_TRIP: round_trip}


@contextmanager
def opened(core: int | None, runner: asyncio.Runner) -> Iterator[Contestants]:
    """Open the peers, with a process for each, on that core or on the one of this process."""
    pause, at = (SPAWN.Value("q", 0, lock=False) for _ in range(2))
    contestants = {}
    with ExitStack() as stack:
        for name, make in PEERS.items():
            peer = make()
            runner.run(peer.open())
            stack.callback(peer.close)
            arguments = (core, pause, at, peer.connect, peer.arguments)
            process = SPAWN.Process(target=other_process, args=arguments, daemon=True)
            process.start()
            stack.callback(process.join)
            stack.callback(process.terminate)
            runner.run(peer.trip())  # when it answers, it has started
            contestants[name] = partial(medians, runner, peer, pause, at)
        yield contestants


def refusal(cores_needed: int) -> str | None:
    backend = default_backend()
    if not backend.supports_shared:
        return f"{backend.name} wakes nobody in another process"
    return f"needs {cores_needed} cores" if len(CORES) < cores_needed else None


def rows(socket_bounds: dict[str, float]) -> list[Row]:
    return [
        Row(
            contestant=AIOPARK,
            against=SOCKET,
            measure=LATENCY,
            goal={"asyncio": 1.00, "uvloop": 1.00},
            bound=socket_bounds,
        ),
        *(
            Row(contestant=AIOPARK, against=other, measure=LATENCY, bound={"asyncio": 0.75, "uvloop": 0.75})
            for other in (EVENT, ZMQ)
        ),
        *(Row(contestant=other, against=SOCKET, measure=LATENCY) for other in (STREAMS, EVENT, ZMQ)),
        Row(name="the same, round trip", contestant=AIOPARK, against=SOCKET, measure=ROUND_TRIP),
    ]


BENCHMARKS = [
    Benchmark(
        title="processes: a process wakes a task, one core",
        contestants=partial(opened, None),
        rows=rows({"asyncio": 1.20, "uvloop": 1.40}),
        count=200,
        rounds=30,
        refusal=partial(refusal, 0),
    ),
    Benchmark(
        title="processes: a process wakes a task, two cores",
        contestants=partial(opened, CORES[0] if CORES else None),
        rows=rows({"asyncio": 1.00, "uvloop": 1.00}),
        count=200,
        rounds=30,
        refusal=partial(refusal, 2),
    ),
]

if __name__ == "__main__":
    sys.exit(main(*BENCHMARKS))
