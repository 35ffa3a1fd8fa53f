"""What a report is made of: sections of lines."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


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
        """The outcome in a word: `ok`, `FAILED`, or nothing for a fact."""
        return {None: "", True: "ok", False: "FAILED"}[self.holds]


@dataclasses.dataclass(frozen=True, slots=True)
class Section:
    """Lines under one title."""

    title: str
    lines: Sequence[Line]
