"""Pin, interleave, take medians: figures are ratios against a reference measured in the same run."""

from __future__ import annotations

import importlib
import math
import os
import statistics
import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

# The event loop built on libuv: winloop is uvloop for Windows.
LIBUV = importlib.import_module("winloop" if sys.platform == "win32" else "uvloop")

# A cell of a result: seconds per operation of each contestant, round by round. The first is the reference.
Rounds = dict[str, list[float]]

# As a bound: a ratio that is told, and may be anything.
REPORTED = math.inf


def pin_to_one_core() -> str:
    """Keep this process, with all its threads, on one core where the system can do that."""
    if not hasattr(os, "sched_setaffinity"):
        return "not pinned"
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    return f"pinned to core {core}"


def ratios(rounds: Rounds, reference: str) -> dict[str, float]:
    """Give each contestant's median ratio to the reference, pair by pair within a round."""
    base = rounds[reference]
    return {
        name: statistics.median(one / other for one, other in zip(times, base, strict=True))
        for name, times in rounds.items()
    }


def show(title: str, results: dict[str, Rounds], reference: str, bounds: Sequence[tuple[str, str, str, float]]) -> bool:
    """Print a table, a column a setting, and the bounds; tell whether all of them hold.

    Args:
        title: above the table.
        results: from the setting (a loop, say) to its rounds.
        reference: the contestant that counts as 1.00.
        bounds: (setting, contestant, against, at most), or REPORTED for the last.
    """
    console = Console()
    table = Table(title=title)
    table.add_column("way")
    for setting in results:
        table.add_column(f"{setting} µs", justify="right")
        table.add_column("ratio", justify="right")
    for name in next(iter(results.values())):
        row = [name]
        for rounds in results.values():
            row += [f"{statistics.median(rounds[name]) * 1e6:.2f}", f"{ratios(rounds, reference)[name]:.2f}"]
        table.add_row(*row)
    console.print(table)
    kept = True
    for setting, contestant, against, most in bounds:
        ratio = ratios(results[setting], against)[contestant]
        if most == REPORTED:
            console.print(f"  {setting}: {contestant} / {against} = {ratio:.2f}")
            continue
        kept &= ratio <= most
        verdict = "kept" if ratio <= most else "[bold]NOT REACHED[/bold]"
        console.print(f"  {setting}: {contestant} / {against} = {ratio:.2f}, at most {most:.2f}: {verdict}")
    return kept
