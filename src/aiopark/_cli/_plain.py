"""The report as aligned text, where rich is not installed."""

from __future__ import annotations

import shutil
import sys
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiopark._cli._section import Section


def show_section(section: Section) -> None:
    """Print one section with its columns aligned: wrapped on a terminal, one line each in a pipe."""
    status_width = max(len(line.status) for line in section.lines)
    name_width = max(len(line.name) for line in section.lines)
    print(section.title)
    for line in section.lines:
        status = f"{line.status:<{status_width}}  " if status_width else ""
        head = f"  {status}{line.name:<{name_width}}  "
        room = max(shutil.get_terminal_size().columns - len(head), 20) if sys.stdout.isatty() else sys.maxsize
        rows = textwrap.wrap(line.text, room) or [""]
        print(head + f"\n{' ' * len(head)}".join(rows))
    print()
