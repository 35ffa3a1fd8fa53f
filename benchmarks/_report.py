"""The table of a run, and whether a bound was exceeded."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# What a second, or a unit of its own, is multiplied by to be shown.
SCALES = {"µs": 1e6, "B": 1, "threads": 1}


@dataclass(frozen=True, kw_only=True)
class Row:
    """A figure to tell: a contestant's values, each divided by another's of the same round.

    Attributes:
        contestant: whose.
        against: the reference; "" if the value itself is the figure.
        name: what stands in the table, if it is not the two above.
        measure: which of the measures of a sample; "" where there is one only.
        unit: of the values.
        goal: by loop, the figure that is wanted, or less.
        bound: by loop, the figure above which something got worse.
    """

    contestant: str
    against: str
    name: str = ""
    measure: str = ""
    unit: str = "µs"
    goal: Mapping[str, float] = field(default_factory=dict)
    bound: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name or " / ".join(filter(None, (self.contestant, self.against)))


@dataclass(frozen=True)
class Figure:
    """What was found: the median value, and the quartiles of the ratio; `ratio` is the middle one."""

    title: str
    row: Row
    setting: str
    value: float
    low: float
    ratio: float
    high: float

    def exceeded(self) -> bool:
        """Return whether three quarters of the rounds are above a bound that counts here."""
        return sys.platform == "linux" and self.low > self.row.bound.get(self.setting, math.inf)

    def cells(self) -> list[str]:
        """Return what the table shows."""
        row, ratio = self.row, round(self.ratio, 2)
        goal, bound = row.goal.get(self.setting), row.bound.get(self.setting)
        met = "" if goal is None else "[green]met[/]" if ratio <= goal else "[yellow]not met[/]"
        return [
            str(row),
            self.setting,
            f"{self.value * SCALES[row.unit]:,.2f} {row.unit}",
            f"{ratio:.2f}" if row.against else "",
            f"{self.high - self.low:.2f}" if row.against else "",
            "" if goal is None else f"{goal:.2f} {met}",
            "" if bound is None else f"{bound:.2f}{' [bold red]EXCEEDED[/]' if self.exceeded() else ''}",
        ]


def show(found: Sequence[Figure], title: str, *, markdown: bool) -> int:
    """Print the table; return 1 if a bound is exceeded, else 0."""
    console = Console(width=200 if markdown or not sys.stdout.isatty() else None)
    console.print(*(_markdown(found) if markdown else [_table(found, title)]), sep="\n")
    exceeded = [f"{one.row}, {one.setting}: {one.ratio:.2f}" for one in found if one.exceeded()]
    if exceeded:
        console.print("bounds exceeded:", *exceeded, sep="\n  ")
    return 1 if exceeded else 0


def _table(found: Sequence[Figure], title: str) -> Table:
    table = Table(title=title)
    for column in ("", "loop"):
        table.add_column(column)
    for column in ("median", "ratio", "IQR", "goal", "bound"):
        table.add_column(column, justify="right")
    for heading, figures in groupby(found, lambda figure: figure.title):
        table.add_section()
        table.add_row(f"[bold]{heading}[/]")
        for figure in figures:
            table.add_row(*figure.cells())
    return table


def _markdown(found: Sequence[Figure]) -> Iterator[Table]:
    """Yield a table a benchmark, with a column of ratios a loop: what the README has."""
    for heading, figures in groupby(found, lambda figure: figure.title):
        cells: dict[str, dict[str, str]] = {}
        for figure in figures:
            shown = f"{figure.ratio:.2f}" if figure.row.against else figure.cells()[2]
            cells.setdefault(str(figure.row), {})[figure.setting] = shown
        table = Table(heading, *next(iter(cells.values())), box=box.MARKDOWN)
        for name, shown_by_loop in cells.items():
            table.add_row(name, *shown_by_loop.values())
        yield table
