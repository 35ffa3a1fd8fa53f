"""One of several candidates: the first that works, or the one that the environment forces."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from aiopark import UnsupportedError
from aiopark._choice import Choice, choose

VARIABLE = "AIOPARK_TEST_CHOICE"


@pytest.fixture(autouse=True)
def unforced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


class Candidates:
    """Three, of which the first is refused; notes which ones were asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def refusal_of(self, name: str) -> str | None:
        self.asked.append(name)
        return "the moon is full" if name == "first" else None

    def choose(self) -> Choice:
        names = ("first", "second", "third")
        return choose(VARIABLE, {name: lambda name=name: self.refusal_of(name) for name in names}, "third")


@pytest.mark.parametrize("empty", [False, True])
def test_the_first_that_works(monkeypatch: pytest.MonkeyPatch, empty: bool) -> None:
    if empty:
        monkeypatch.setenv(VARIABLE, "")
    candidates = Candidates()
    assert candidates.choose() == Choice("second", forced=False)
    assert candidates.asked == ["first", "second"]


@pytest.mark.parametrize("name", ["second", "third"])
def test_one_that_is_forced(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(VARIABLE, name)
    candidates = Candidates()
    assert candidates.choose() == Choice(name, forced=True)
    assert candidates.asked == [name]  # what the others would say is nobody's business


def test_one_that_is_forced_and_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "first")
    with pytest.raises(UnsupportedError) as caught:
        Candidates().choose()
    assert str(caught.value) == (
        f"{VARIABLE}=first does not work here: the moon is full; unset it, or use {VARIABLE}=third"
    )


def test_one_that_there_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, " first")
    candidates = Candidates()
    with pytest.raises(ValueError) as caught:
        candidates.choose()
    assert str(caught.value) == f"{VARIABLE} is ' first'; choose one of first, second, third"
    assert candidates.asked == []


def test_a_choice_does_not_change(monkeypatch: pytest.MonkeyPatch) -> None:
    choice = Candidates().choose()
    monkeypatch.setenv(VARIABLE, "third")
    assert choice == Choice("second", forced=False)
    with pytest.raises(FrozenInstanceError):
        choice.forced = True
