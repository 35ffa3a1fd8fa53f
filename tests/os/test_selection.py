"""Which backend a process uses: the first that works, or the one that AIOPARK_BACKEND forces."""

import sys
from typing import Any

import pytest
from support import run_program

import aiopark._os
from aiopark import UnsupportedError
from aiopark._os import Futex, Portable, Ulock, WaitAddress, default_backend, refused_backends

KINDS: dict[str, Any] = {"futex": Futex, "waitaddress": WaitAddress, "ulock": Ulock, "portable": Portable}


def choose() -> Any:
    """Choose anew, past the cache."""
    return default_backend.__wrapped__()


def test_the_order_in_which_they_are_tried() -> None:
    assert list(aiopark._os._BACKENDS.items()) == list(KINDS.items())


@pytest.mark.parametrize("works", [["futex", "waitaddress", "ulock"], ["waitaddress", "ulock"], ["ulock"], []])
def test_the_first_that_works_is_used(monkeypatch: pytest.MonkeyPatch, works: list[str]) -> None:
    monkeypatch.delenv("AIOPARK_BACKEND", raising=False)
    made = {name: object() for name in works}
    for name in ("futex", "waitaddress", "ulock"):
        monkeypatch.setattr(KINDS[name], "_probe", lambda name=name: made.get(name, "the moon is full"))
    chosen = choose()
    assert chosen is made[works[0]] if works else isinstance(chosen, Portable)


def test_it_is_chosen_once() -> None:
    assert default_backend() is default_backend()


def test_an_empty_variable_forces_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIOPARK_BACKEND", raising=False)
    unset = choose()
    monkeypatch.setenv("AIOPARK_BACKEND", "")
    assert type(choose()) is type(unset)


@pytest.mark.parametrize("name", ["Futex", "epoll", " portable"])
def test_an_unknown_backend_lists_the_choices(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("AIOPARK_BACKEND", name)
    with pytest.raises(ValueError) as caught:
        choose()
    assert str(caught.value) == f"AIOPARK_BACKEND is {name!r}; choose one of futex, waitaddress, ulock, portable"


@pytest.mark.parametrize("name", ["futex", "waitaddress", "ulock"])
def test_a_forced_backend_that_does_not_work_says_why(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("AIOPARK_BACKEND", name)
    monkeypatch.setattr(KINDS[name], "_probe", lambda: "the moon is full")
    with pytest.raises(UnsupportedError) as caught:
        choose()
    assert str(caught.value) == (
        f"AIOPARK_BACKEND={name} does not work here: the moon is full; unset it, or use AIOPARK_BACKEND=portable"
    )


def test_refused_backends_are_those_that_give_none() -> None:
    refused = refused_backends()
    assert set(refused) == {name for name, kind in KINDS.items() if kind.create() is None}
    assert refused == {name: KINDS[name].refusal() for name in refused}
    assert "portable" not in refused
    if sys.platform.startswith("linux"):
        assert list(refused) == ["waitaddress", "ulock"]
        assert "linux" in refused["waitaddress"]
        assert "linux" in refused["ulock"]


@pytest.mark.parametrize("name", [*KINDS, "nonsense"])
def test_a_whole_process_is_forced(name: str) -> None:
    run = run_program("backend", AIOPARK_BACKEND=name)
    if name in KINDS and KINDS[name].create() is not None:
        assert (run.stdout.strip(), run.returncode) == (name, 0), run.stderr
    else:
        error = "aiopark.UnsupportedError: AIOPARK_BACKEND=" if name in KINDS else "ValueError: AIOPARK_BACKEND is "
        assert error in run.stderr
        assert run.returncode == 1


def test_a_whole_process_that_is_not_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIOPARK_BACKEND", raising=False)
    run = run_program("backend")
    first = next(name for name, kind in KINDS.items() if kind.create() is not None)
    assert (run.stdout.strip(), run.returncode) == (first, 0), run.stderr
