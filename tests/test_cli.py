"""The command line: what a user sees, in this process and in real ones."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import sysconfig
import threading
import time
from typing import TYPE_CHECKING

import pytest
from support import needs, program

import aiopark
from aiopark._cli import _check, _demo, _doctor, _found, _process, _process_demo, _report, _section, _self_test, main
from aiopark._loops import _asyncio
from aiopark._watch import NAMES as WATCHERS
from aiopark._watch import refused_watchers, watcher
from aiopark.lowlevel import Portable, default_backend, refused_backends

if TYPE_CHECKING:
    from collections.abc import Callable

STEPS = ["thread unparks task", "task unparks thread", "no thread a task", "task deadline", "thread deadline"]
STEPS += ["cancellation", "thread unparks trio", "process unparks task"]
SHARES = default_backend().supports_shared
# What cannot be done here is left out.
LEFT_OUT = {STEPS[6]: not _found.version("trio"), STEPS[7]: not SHARES}
DONE = [step for step in STEPS if not LEFT_OUT.get(step)]
FACTS = ["aiopark", "system", "Python", "backend", "memory fence", "watcher", "doorbell", "asyncio", "trio", "anyio"]
OTHER_WATCHERS = [name for name in WATCHERS if name != watcher() and name not in refused_watchers()]
SELF_TESTS = ["thread wake", "thread deadline"]
SELF_TESTS += [f"{loop} {what}" for loop in _found.loops() for what in ("wake", "deadline", "word")]
SELF_TESTS += [f"words, {name}" for name in OTHER_WATCHERS]
ESCAPE = "\x1b"
TABLE = "┌" if sys.platform == "win32" else "╭"  # the corner of rich's; it takes no chances on a console of Windows

DEV = ("-X", "dev")

# What would make rich take a pipe for a terminal, or Python talk on stderr.
STEERING = ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS", "PYTHONWARNINGS")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in STEERING:
        monkeypatch.delenv(variable, raising=False)


def run(*arguments: str, hidden: tuple[str, ...] = (), **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, in which the hidden modules cannot be imported."""
    start = [sys.executable, *DEV, "-m", "aiopark"]
    if hidden:
        start = program("command_line", *hidden, "--", options=DEV)
    return subprocess.run(
        [*start, *arguments],
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


def cells(output: str) -> dict[str, tuple[str, str]]:
    """Read a report: from the name of a line to its status and text, whichever way it was printed."""
    found = {}
    for line in output.splitlines():
        if line.startswith(("│", "|")):
            parts = [part.strip() for part in re.split(r"[│|]", line)[1:-1]]
        elif line.startswith("  "):
            parts = [part.strip() for part in re.split(r" {2,}", line.strip(), maxsplit=2)]
        else:
            continue
        status = parts.pop(0) if parts[0] in {"", "ok", "FAILED"} else ""
        found[parts[0]] = (status, "  ".join(parts[1:]))
    return found


def with_self_tests(monkeypatch: pytest.MonkeyPatch, **tests: Callable[[], tuple[bool, str]]) -> None:
    monkeypatch.setattr(_doctor, "self_tests", lambda *_, **__: tests)


# --- real processes ---


@pytest.mark.parametrize("hidden", [(), ("rich",)], ids=["rich", "plain"])
def test_demo(hidden: tuple[str, ...]) -> None:
    ran = run("demo", hidden=hidden)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ESCAPE not in ran.stdout
    assert (TABLE in ran.stdout) == (not hidden)
    assert f"all {len(DONE)} checks ok" in ran.stdout.splitlines()
    found = cells(ran.stdout)
    assert list(found) == STEPS
    assert {found[step][0] for step in DONE} == {"ok"}
    for step in ("task deadline", "thread deadline"):
        passed = re.search(r"deadline 20 ms, passed after ([\d.]+) ms, never early", found[step][1])
        assert passed is not None
        assert float(passed[1]) >= 20.0
    for step in [step for step in DONE if step.startswith("thread unparks") or step == "task unparks thread"]:
        assert all(float(median) > 0 for median in re.findall(r"([\d.]+) µs", found[step][1]))
        assert "µs" in found[step][1]
    status, text = found["process unparks task"]
    if SHARES:
        assert re.fullmatch(rf"it runs [\d.]+ µs after .*, median of 300, watched by {watcher()}", text)
    else:
        assert (status, text) == ("", f"left out: {default_backend().name} wakes nobody in another process")
    assert "2 threads before, 2 while 1,000 tasks are parked, 2 after" in found["no thread a task"][1]
    assert found["cancellation"][1].endswith("1,000 cancelled, 1,000 permits kept, 0 lost")


@pytest.mark.parametrize("hidden", [(), ("rich",)], ids=["rich", "plain"])
def test_doctor(hidden: tuple[str, ...]) -> None:
    ran = run("doctor", hidden=hidden)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ESCAPE not in ran.stdout
    assert (TABLE in ran.stdout) == (not hidden)
    assert f"all {len(SELF_TESTS)} checks ok" in ran.stdout.splitlines()
    found = cells(ran.stdout)
    assert set(FACTS) <= set(found)
    assert [name for name, (status, _) in found.items() if status] == SELF_TESTS
    assert found["aiopark"][1] == importlib.metadata.version("aiopark")
    assert found["backend"][1].split(",")[0] == default_backend().name
    assert found["trio"][1] == (_found.version("trio") or "not installed")
    assert found["watcher"][1].split(",")[0] == watcher()
    for name, reason in (refused_backends() | refused_watchers()).items():
        assert found[name][1] == f"refused: {reason}"  # whole, however long
    by = {"uring": "a ring of the loop", "threads": "a thread"}
    for loop in _found.loops():
        assert re.fullmatch(rf"slept .* after unpark\(\), watched by {by[watcher()]}", found[f"{loop} word"][1])
        for other in OTHER_WATCHERS:
            assert re.search(rf"{loop} slept [^;]*, watched by {by[other]}", found[f"words, {other}"][1])


@needs("trio")
def test_doctor_without_extras() -> None:
    """What is installed but cannot be imported is told, and the rest is tested."""
    ran = run("doctor", hidden=("rich", "trio"))
    assert (ran.returncode, ran.stderr) == (1, "")
    status, text = cells(ran.stdout)["trio wake"]
    assert status == "FAILED"
    assert "import of trio halted" in text
    failed = [name for name in SELF_TESTS if name.startswith(("trio", "words"))]
    assert f"FAILED: {', '.join(failed)}" in ran.stdout.splitlines()


def test_demo_without_trio() -> None:
    ran = run("demo", hidden=("trio",))
    assert (ran.returncode, ran.stderr) == (0, "")
    status, text = cells(ran.stdout)["thread unparks trio"]
    assert not status
    assert "trio is not installed (pip install 'aiopark[trio]')" in text
    assert f"all {len(set(DONE) - {STEPS[6]})} checks ok" in ran.stdout.splitlines()


def test_forced_backend() -> None:
    ran = run("doctor", AIOPARK_BACKEND="portable")
    assert (ran.returncode, ran.stderr) == (0, "")
    found = cells(ran.stdout)
    assert found["backend"][1] == "portable, forced by AIOPARK_BACKEND"
    if sys.platform == "linux":
        assert found["futex"][1].startswith("would work too")
        assert found["uring"][1].startswith("refused: ")
    assert found["watcher"][1].startswith("threads")


def test_forced_watcher() -> None:
    ran = run("doctor", AIOPARK_WATCHER="threads")
    assert (ran.returncode, ran.stderr) == (0, "")
    found = cells(ran.stdout)
    assert found["watcher"][1] == "threads, forced by AIOPARK_WATCHER"
    assert found["asyncio word"][1].endswith("watched by a thread")
    reason = refused_watchers().get("uring")
    assert found["uring"][1] == (f"refused: {reason}" if reason else "would work too: AIOPARK_WATCHER=uring forces it")
    assert ("words, uring" in found) == (reason is None)
    demo = run("demo", AIOPARK_WATCHER="threads")
    assert (demo.returncode, demo.stderr) == (0, "")
    assert demo.stdout.splitlines()[0].endswith("words are watched by threads")


@pytest.mark.parametrize("forced", ["nonsense", "uring"])
@pytest.mark.parametrize("command", ["doctor", "demo"])
def test_watcher_that_is_none(command: str, forced: str) -> None:
    """The ring waits on futexes, so the portable backend refuses it, on Linux too."""
    ran = run(command, AIOPARK_WATCHER=forced, AIOPARK_BACKEND="portable")
    assert (ran.returncode, ran.stderr) == (1, "")
    found = cells(ran.stdout)
    status, text = found["watcher"]
    assert status == "FAILED"
    assert forced in text
    assert "threads" in text  # what to do
    assert ran.stdout.splitlines()[-1] == "FAILED: watcher"
    if command == "doctor":
        assert found["asyncio wake"][0] == "ok"  # the rest is tested
        assert "asyncio word" not in found


@pytest.mark.parametrize("backend", ["nonsense", "ulock" if sys.platform != "darwin" else "futex"])
@pytest.mark.parametrize("command", ["doctor", "demo"])
def test_backend_that_is_none(command: str, backend: str) -> None:
    ran = run(command, AIOPARK_BACKEND=backend)
    assert (ran.returncode, ran.stderr) == (1, "")
    status, text = cells(ran.stdout)["backend"]
    assert status == "FAILED"
    assert backend in text
    assert "portable" in text  # what to do
    assert ran.stdout.splitlines()[-1] == "FAILED: backend"
    if command == "doctor":
        assert cells(ran.stdout)["watcher"] == ("", "none without a backend")


def test_ascii_pipe() -> None:
    for hidden in ((), ("rich",)):
        ran = run("demo", hidden=hidden, PYTHONIOENCODING="ascii")
        assert (ran.returncode, ran.stderr) == (0, "")
        assert re.search(r"it runs [\d.]+ us after", ran.stdout)


@pytest.mark.skipif(sys.platform == "win32", reason="a broken pipe is another error there")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_reader_that_left(unbuffered: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    ran = subprocess.run(
        program("command_line", "rich", "--", "doctor", options=DEV),
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        stdout=writer,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    os.close(writer)
    assert (ran.returncode, ran.stderr) == (1, b"")


def test_no_command() -> None:
    ran = run()
    assert ran.returncode == 2
    assert not ran.stdout
    assert ran.stderr.startswith("usage: aiopark ")


# --- this process ---


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


@pytest.mark.parametrize("with_rich", [True, False], ids=["rich", "plain"])
def test_terminal_of_80_columns(
    with_rich: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"word{number}" for number in range(60)]
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    if not with_rich:
        monkeypatch.setitem(sys.modules, "rich", None)
        monkeypatch.delitem(sys.modules, "aiopark._cli._rich", raising=False)
    _report.show([_section.Section("[bold]title", [_section.Line("[name]", " ".join(words), holds=False)])])
    output = capsys.readouterr().out
    assert max(map(len, output.splitlines())) <= 80
    assert re.findall(r"word\d+", output) == words
    assert "[bold]title" in output
    assert "[name]" in output
