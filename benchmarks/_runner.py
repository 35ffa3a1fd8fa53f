"""Run benchmarks: pin, interleave, take medians, and compare with a reference measured in the same round.

Every file here is a program with the options of this module, and the folder is the program that runs all of them:

    python benchmarks --quick
    python benchmarks/burst.py --rounds 9 --count 5000 --loop asyncio --markdown

Only ratios count, as the machine's own speed changes from minute to minute. pyperf, the usual library, runs one
benchmark after the other in processes of their own: it has neither rounds nor a reference within one.

A row may have a *goal*, what is wanted: whether it is met is told. It may have a *bound*, what has been reached, with
some slack: exit status 1 says that three quarters of the rounds were above one. Bounds count on Linux.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import math
import os
import statistics
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from _report import Figure, Row, show
from rich.progress import track

# The event loop built on libuv: winloop is uvloop for Windows.
LIBUV = importlib.import_module("winloop" if sys.platform == "win32" else "uvloop")
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    LIBUV.__name__: LIBUV.new_event_loop,
}
NO_LOOP = "no loop"

# From the measure's name to its value; a bare number is seconds an operation.
Sample = float | Mapping[str, float]

# Runs so many operations. A coroutine runs on the loop of the row, anything else without one.
Contestant = Callable[[int], Sample | Coroutine[Any, Any, Sample]]
Contestants = Mapping[str, Contestant]


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Contestants that are interleaved, and the rows that compare them.

    Attributes:
        title: above the rows; the file's name first. `{:,}` stands for the count.
        contestants: by name; or what sets them up, and takes them down, on a runner's loop.
        rows: what to tell of them.
        count: operations a sample.
        rounds: samples of each contestant.
        loops: those of LOOPS that it is run on, one after the other; or NO_LOOP.
        refusal: why it cannot run here, or None.
    """

    title: str
    contestants: Contestants | Callable[[asyncio.Runner], AbstractContextManager[Contestants]]
    rows: Sequence[Row]
    count: int
    rounds: int = 15
    loops: Sequence[str] = tuple(LOOPS)
    refusal: Callable[[], str | None] = field(default=lambda: None)


def mean_step(times: Sequence[float]) -> float:
    """Return the mean of the differences between one time and the next, but for the longest tenth.

    Those are mostly times when the core was another program's. A median would do as well, but for trips of two kinds,
    with more switches of threads and with fewer: it would show one kind only.
    """
    steps = sorted(later - earlier for earlier, later in pairwise(times))
    return statistics.fmean(steps[: math.ceil(len(steps) * 0.9)])


def cores() -> list[int]:
    """Return the cores that this process may use; none where the system does not say."""
    return sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []


def pin(arguments: argparse.Namespace) -> str:
    """Keep this process, with all its threads and children, on one core where the system can do that."""
    if sys.platform != "linux" or arguments.unpinned:
        return "not pinned"
    os.sched_setaffinity(0, {cores()[-1]})
    return f"pinned to core {cores()[-1]}"


def samples(benchmark: Benchmark, setting: str, rounds: int, count: int) -> dict[str, list[Mapping[str, float]]]:
    """Return the samples of each contestant, round by round."""
    with asyncio.Runner(loop_factory=LOOPS.get(setting)) as runner:
        setup = benchmark.contestants
        with setup(runner) if callable(setup) else nullcontext(setup) as contestants:
            results: dict[str, list[Mapping[str, float]]] = {name: [] for name in contestants}
            told = f"{benchmark.title.format(count)}, {setting}"
            for _ in track(range(rounds), told, transient=True, disable=not sys.stdout.isatty()):
                for name, contestant in contestants.items():
                    gc.collect()
                    result = contestant(count)
                    sample = runner.run(result) if isinstance(result, Coroutine) else result
                    results[name].append(sample if isinstance(sample, Mapping) else {"": sample})
    return results


def figures(benchmark: Benchmark, arguments: argparse.Namespace) -> Iterator[Figure]:
    """Run a benchmark; yield a figure for each row on each loop."""
    rounds = arguments.rounds or (max(benchmark.rounds // 4, 3) if arguments.quick else benchmark.rounds)
    count = arguments.count or (benchmark.count // 2 if arguments.quick else benchmark.count)
    for setting in benchmark.loops:
        if arguments.loop not in (None, setting) and setting != NO_LOOP:
            continue
        results = samples(benchmark, setting, rounds, count)
        for row in benchmark.rows:
            values = [sample[row.measure] for sample in results[row.contestant]]
            others = [sample[row.measure] for sample in results[row.against]] if row.against else [1.0] * len(values)
            ratios = [one / other for one, other in zip(values, others, strict=True)]
            quartiles = statistics.quantiles(ratios, n=4, method="inclusive")
            yield Figure(benchmark.title.format(count), row, setting, statistics.median(values), *quartiles)


def main(*benchmarks: Benchmark) -> int:
    """Run them as the command line says, print the table, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a quarter of the rounds, of half the operations")
    parser.add_argument("--rounds", type=int, help="samples of each contestant, at least 2")
    parser.add_argument("--count", type=int, help="operations a sample")
    parser.add_argument("--loop", choices=LOOPS, help="only this one")
    parser.add_argument("--unpinned", action="store_true", help="use all cores")
    parser.add_argument("--markdown", action="store_true", help="print what a document needs")
    parser.add_argument("--only", metavar="TEXT", default="", help="those whose title has the text")
    arguments = parser.parse_args()
    pinned = pin(arguments)
    found: list[Figure] = []
    for benchmark in benchmarks:
        if arguments.only not in benchmark.title:
            continue
        if reason := benchmark.refusal():
            print(f"{benchmark.title}: {reason}", file=sys.stderr)
            continue
        found += figures(benchmark, arguments)
    return show(found, f"Python {sys.version.split()[0]}, {pinned}", markdown=arguments.markdown)
