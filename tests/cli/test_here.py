"""The command line in this process, where it can be made to fail."""

from __future__ import annotations

import importlib.metadata
import io
import os
import re
import sys
import sysconfig
import threading
import time
from typing import TYPE_CHECKING

import pytest
from support.reports import DONE, SELF_TESTS, SHARES, STEPS, cells

import aiopark
from aiopark._cli import _check, _demo, _doctor, _found, _process, _process_demo, _report, _section, _self_test, main
from aiopark._loops import _asyncio
from aiopark.lowlevel import Portable

if TYPE_CHECKING:
    from collections.abc import Callable


def with_self_tests(monkeypatch: pytest.MonkeyPatch, **tests: Callable[[], tuple[bool, str]]) -> None:
    monkeypatch.setattr(_doctor, "self_tests", lambda *_, **__: tests)


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["demo", "more"], ["doctor", "--more"], ["--dem"]])
def test_wrong_arguments(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    output, errors = capsys.readouterr()
    assert not output
    assert errors.startswith("usage: aiopark ")


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--version", "--help"):
        with pytest.raises(SystemExit) as stopped:
            main([option])
        assert stopped.value.code == 0
    output = capsys.readouterr().out
    assert output.startswith(f"aiopark {importlib.metadata.version('aiopark')}\n")
    for command in ("demo", "doctor"):
        assert len(re.findall(rf"^ +{command} +\w.*$", output, re.MULTILINE)) == 1


def test_demo_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo"]) == 0
    assert list(cells(capsys.readouterr().out)) == STEPS


def test_demo_without_trio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trio", None)
    assert _demo._on_trio() == _section.Line(
        "thread unparks trio", "left out: trio is not installed (pip install 'aiopark[trio]')"
    )


def test_doctor_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    found = cells(capsys.readouterr().out)
    assert all(found[name][0] == "ok" for name in SELF_TESTS)


def test_step_that_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(loop: str) -> tuple[list[float], list[float]]:
        raise OSError(f"no {loop}\ntoday")

    monkeypatch.setattr(_demo, "round_trips", broken)
    assert main(["demo"]) == 1
    output = capsys.readouterr().out
    found = cells(output)
    assert found["thread unparks task"] == ("FAILED", "OSError: no asyncio today")
    assert found["thread deadline"][0] == "ok"
    assert output.splitlines()[-1] == "FAILED: " + ", ".join(
        DONE[:2] + [step for step in DONE if step == "thread unparks trio"]
    )


def test_self_test_that_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def leaves() -> tuple[bool, str]:
        raise SystemExit("enough")

    with_self_tests(monkeypatch, good=lambda: (True, "fine"), bad=lambda: (False, "too early"), gone=leaves)
    assert main(["doctor"]) == 1
    output = capsys.readouterr().out
    found = cells(output)
    assert [found[name] for name in ("good", "bad", "gone")] == [
        ("ok", "fine"),
        ("FAILED", "too early"),
        ("FAILED", "SystemExit: enough"),
    ]
    assert output.splitlines()[-1] == "FAILED: bad, gone"


def test_self_test_that_hangs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    let_go = threading.Event()
    hanging: list[threading.Thread] = []

    def hang() -> tuple[bool, str]:
        hanging.append(threading.current_thread())
        return let_go.wait(), "never told"

    def hang_with_short_limit() -> dict[str, Callable[[], tuple[bool, str]]]:
        monkeypatch.setattr(_check, "LIMIT", 0.01)  # the facts before it have their full time
        return {"stuck": hang}

    monkeypatch.setattr(_doctor, "self_tests", lambda *_, **__: hang_with_short_limit())
    try:
        assert main(["doctor"]) == 1
    finally:
        let_go.set()
        for thread in hanging:
            thread.join()
    assert cells(capsys.readouterr().out)["stuck"] == ("FAILED", "it hangs: not done after 0.01 s")


def silent(name: str) -> None:
    pass


def gone() -> tuple[bool, str]:
    os._exit(3)


def bad() -> tuple[bool, str]:
    raise OSError(os.environ["AIOPARK_TEST"])


def slow() -> tuple[bool, str]:
    time.sleep(3600)
    return True, "never told"


@pytest.mark.skipif(not SHARES, reason="this backend reaches no other process")
def test_process_that_does_not_unpark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_process_demo, "PATIENCE", 0.01)
    monkeypatch.setattr(_process_demo, "partner", silent)
    line = _process_demo.process_unparks_task()
    assert (line.holds, line.text) == (False, "the other process did not unpark within 0.01 s, in round 1")


def test_backend_that_reaches_no_other_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_process_demo, "default_backend", Portable)
    line = _process_demo.process_unparks_task()
    assert (line.holds, line.text) == (None, "left out: portable wakes nobody in another process")


def test_tests_in_a_process_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _process.in_process({"AIOPARK_TEST": "no"}, bad) == (False, "OSError: no")
    assert _process.in_process({}, gone) == (False, "its process ended with no result")
    monkeypatch.setattr(_process, "PATIENCE", 0.01)
    assert _process.in_process({}, slow) == (False, "it hangs: not done after 0.01 s")


def test_park_that_comes_back_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hasty(aiopark.ThreadParker):
        def park(self) -> None:
            pass

        def park_until(self, deadline: object) -> bool:
            return False

    monkeypatch.setattr(aiopark, "ThreadParker", Hasty)
    holds, text = _self_test.wake_thread()
    assert not holds
    assert text.endswith("unparked by nobody")
    holds, text = _self_test.deadline_of_thread()
    assert not holds
    assert text.endswith("too early")


def test_park_that_spins(monkeypatch: pytest.MonkeyPatch) -> None:
    used = iter([0.0, 1.0])
    monkeypatch.setattr(time, "thread_time", lambda: next(used))
    holds, text = _self_test.wake_thread()
    assert not holds
    assert text.endswith("did not sleep: it used 1000.0 ms of CPU time")


def test_deadlines_are_judged() -> None:
    assert _check.judge_deadline(1.0, 1.02, 1.0203, unparked=False) == (
        True,
        "deadline 20 ms, passed after 20.3 ms, never early",
    )
    holds, text = _check.judge_deadline(1.0, 1.02, 1.0199999, unparked=False)
    assert not holds
    assert text == "deadline 20 ms, passed after 19.999900 ms, too early"
    holds, text = _check.judge_deadline(1.0, 1.02, 1.03, unparked=True)
    assert not holds
    assert text.endswith("said unparked, and nobody did")


def test_doorbells(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = "eventfd|socketpair|call_soon_threadsafe"
    assert re.match(kinds, _check.check("doorbell", _doctor._doorbell).text)
    monkeypatch.setattr(_asyncio, "hang", lambda *_: None)
    assert _check.check("doorbell", _doctor._doorbell).text.startswith("call_soon_threadsafe, ")
    monkeypatch.undo()
    monkeypatch.delattr(os, "eventfd", raising=False)
    if sys.platform != "win32":
        assert _check.check("doorbell", _doctor._doorbell).text.startswith("socketpair, ")


@pytest.mark.parametrize("free_threaded", [0, 1])
def test_python(free_threaded: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysconfig, "get_config_var", {"Py_GIL_DISABLED": free_threaded}.get)
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    assert ("free-threaded, GIL off" if free_threaded else "with the GIL") in _doctor._python()


def test_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert _found.loops() == ["asyncio"]
    assert {line.text for line in _doctor._loops()} == {"part of Python", "not installed"}


@pytest.fixture(params=["rich", "plain"])
def printer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "plain":
        monkeypatch.setitem(sys.modules, "rich", None)
        monkeypatch.delitem(sys.modules, "aiopark._cli._rich", raising=False)
    return request.param


@pytest.mark.usefixtures("printer")
def test_ascii_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(pipe, encoding="ascii", write_through=True))
    _report.show([_section.Section("π", [_section.Line("time", "it runs 5.0 µs after")])])
    output = pipe.getvalue().decode("ascii")
    assert output.startswith("?")
    assert cells(output) == {"time": ("", "it runs 5.0 us after")}


@pytest.mark.usefixtures("printer")
def test_terminal_of_80_columns(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    words = [f"word{number}" for number in range(60)]
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    _report.show([_section.Section("[bold]title", [_section.Line("[name]", " ".join(words), holds=False)])])
    output = capsys.readouterr().out
    assert max(map(len, output.splitlines())) <= 80
    assert re.findall(r"word\d+", output) == words
    assert "[bold]title" in output
    assert "[name]" in output
