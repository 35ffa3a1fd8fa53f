"""Loops inside of loops: nest_asyncio, which patches asyncio for the whole process, so that each case is a program."""

from __future__ import annotations

import pytest
from support import WATCHERS, needs, run_program

CASES = [
    "by_a_thread_inside",
    "one_outside_from_within",
    "one_inside_from_without",
    "on_words",
    "on_a_word_that_slept_before",
    "a_deadline_inside",
]


@needs("nest_asyncio")
@pytest.mark.parametrize(
    ("case", "watcher"),
    [(case, watcher) for case in CASES for watcher in (WATCHERS if case.startswith("on_") else list(WATCHERS)[:1])],
)
def test_nest_asyncio(case, watcher):
    run = run_program("nested", case, options=("-W", "ignore::DeprecationWarning"), AIOPARK_WATCHER=watcher)
    assert (run.returncode, run.stderr) == (0, "")
