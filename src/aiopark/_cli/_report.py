"""How a report is printed: a rich table where rich is installed, aligned text elsewhere."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING

from aiopark._cli._section import Line, Section

if TYPE_CHECKING:
    from collections.abc import Iterable


def show(sections: Iterable[Section]) -> bool:
    """Print the sections as they come, then the verdict, on stdout.

    Returns:
        Whether everything holds.
    """
    try:
        from aiopark._cli._rich import show_section
    except ImportError:
        from aiopark._cli._plain import show_section
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
