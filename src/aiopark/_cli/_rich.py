"""The report as tables; imported only where rich is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from aiopark._cli._section import Section

_STYLES = {None: "", True: "green", False: "bold red"}


def show_section(section: Section) -> None:
    """Print one section: wrapped on a terminal, as wide as it needs to be in a pipe."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=10_000)
    with_status = any(line.holds is not None for line in section.lines)
    table = Table(box=box.ROUNDED, show_header=False)
    if with_status:
        table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, style="cyan")
    table.add_column(overflow="fold")
    for line in section.lines:
        style = _STYLES[line.holds]
        status = [Text(line.status, style=style)] if with_status else []
        table.add_row(*status, Text(line.name), Text(line.text, style=style if line.holds is False else ""))
    console.print(Text(section.title, style="bold"))
    console.print(table)
