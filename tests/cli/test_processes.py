"""The command line in processes of its own: what a user sees."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys

import pytest
from support import needs, program
from support.reports import DONE, ESCAPE, FACTS, OTHER_WATCHERS, SELF_TESTS, SHARES, STEPS, TABLE, cells

from aiopark._cli import _found
from aiopark._watch import refused_watchers, watcher
from aiopark.lowlevel import default_backend, refused_backends

DEV = ("-X", "dev")


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


@pytest.mark.parametrize(("command", "forced"), [("doctor", "uring"), ("demo", "nonsense")])
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


@pytest.mark.parametrize(
    ("command", "backend"), [("doctor", "nonsense"), ("demo", "ulock" if sys.platform != "darwin" else "futex")]
)
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
