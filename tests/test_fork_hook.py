"""What runs in the child of a fork: registered in one place, after the epoch has grown."""

from __future__ import annotations

import importlib.util
import os
import sys

import pytest
from support import in_a_fork

from aiopark import _fork

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="fork is POSIX'")


@needs_fork
def test_hooks_run_in_their_order_and_find_the_new_epoch() -> None:
    ran: list[tuple[str, int]] = []

    def parent() -> None:  # a child itself, so that the hooks end with it
        before = _fork.epoch

        @_fork.in_child
        def first() -> None:
            ran.append(("first", _fork.epoch))

        _fork.in_child(lambda: ran.append(("second", _fork.epoch)))
        assert callable(first)

        def child() -> None:
            assert ran == [("first", before + 1), ("second", before + 1)]
            in_a_fork(lambda: ran.index(("second", before + 2)))

        in_a_fork(child)
        assert ran == []
        assert _fork.epoch == before

    in_a_fork(parent)


@needs_fork
def test_a_hook_that_raises_stops_no_other() -> None:
    reported: list[object] = []

    def fail() -> None:
        raise ZeroDivisionError

    def parent() -> None:
        sys.unraisablehook = lambda unraisable: reported.append(unraisable.exc_type)
        ran: list[int] = []
        _fork.in_child(fail)
        _fork.in_child(lambda: ran.append(1))

        def child() -> None:
            assert (reported, ran) == ([ZeroDivisionError], [1])

        in_a_fork(child)

    in_a_fork(parent)


def test_a_system_without_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "register_at_fork", raising=False)
    spec = importlib.util.spec_from_file_location("anew", _fork.__file__)
    assert spec is not None
    assert spec.loader is not None
    anew = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(anew)
    assert anew.in_child(test_a_system_without_fork) is test_a_system_without_fork
    assert anew.epoch == 0
