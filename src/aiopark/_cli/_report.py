"""How a report is printed: a rich table where rich is installed, aligned text elsewhere."""

from __future__ import annotations

import dataclasses
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """One line of a report.

    Attributes:
        name: what the line is about.
        text: what was found or measured.
        holds: whether a promise was kept; None for a fact that promises nothing.
    """

    name: str
    text: str
    holds: bool | None = None

    @property
    def status(self) -> str:
        """Say it in a word."""
        return {None: "", True: "ok", False: "FAILED"}[self.holds]


@dataclasses.dataclass(frozen=True, slots=True)
class Section:
    """Lines under one title."""

    title: str
    lines: Sequence[Line]


def show(sections: Iterable[Section]) -> bool:
    """Print the sections as they come, then the verdict, on stdout.

    Returns:
        Whether everything holds.
    """
    try:
        from aiopark._cli._rich import show_section
    except ImportError:
        show_section = _show_plain
    lines: list[Line] = []
    for section in sections:
        lines += section.lines
        show_section(Section(printable(section.title), [_printable_line(line) for line in section.lines]))
    failed = [line.name for line in lines if line.holds is False]
    checks = sum(line.holds is not None for line in lines)
    print(printable(f"FAILED: {', '.join(failed)}" if failed else f"all {checks} checks ok"), flush=True)
    return not failed


def printable(text: str) -> str:
    """Replace what stdout cannot encode: a pipe on Windows, say, or PYTHONIOENCODING=ascii."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.replace("µ", "u").encode(encoding, "replace").decode(encoding)
    return text


def _printable_line(line: Line) -> Line:
    # One line is one line, also where the message of an exception has several.
    return dataclasses.replace(line, name=printable(line.name), text=printable(" ".join(line.text.split())))


def _show_plain(section: Section) -> None:
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
