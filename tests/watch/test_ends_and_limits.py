"""What docs/words.md says of fork, exit, other processes, and of watchers that cannot be had; with each watcher."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

from aiopark._watch import NAMES, refused_watchers
from aiopark.lowlevel import default_backend

linux = pytest.mark.skipif(sys.platform != "linux", reason="limits and descriptors as Linux has them")
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
shares = pytest.mark.skipif(not default_backend().supports_shared, reason="this backend reaches no other process")
rings = pytest.mark.skipif("uring" in refused_watchers(), reason="no ring is to be had here")

PREAMBLE = """
import asyncio, mmap, os, sys, threading, time
import aiopark

class NoDescriptors(asyncio.SelectorEventLoop):
    def add_reader(self, *_):
        raise NotImplementedError

def in_child(check):
    child = os.fork()
    if child == 0:
        try:
            check()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

def later(call):
    threading.Timer(0.02, call).start()
"""


def run(code: str, watcher: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program in which this watcher is forced, if one is."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PREAMBLE + textwrap.dedent(code)],
        env={**os.environ, "AIOPARK_WATCHER": watcher},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(params=[name for name in NAMES if name not in refused_watchers()])
def forced(request: pytest.FixtureRequest) -> str:
    return request.param


def passes(code: str, watcher: str) -> None:
    ran = run(code, watcher)
    assert (ran.returncode, ran.stderr) == (0, "")


@forks
def test_the_child_watches_anew(forced: str) -> None:
    passes(
        """
        word = aiopark.Word()
        parker = aiopark.Parker(word)

        async def round_of_wakes():
            assert await parker.park_timeout(0.001) is False
            later(word.unpark)
            assert await parker.park_timeout(30)

        asyncio.run(round_of_wakes())
        in_child(lambda: asyncio.run(round_of_wakes()))
        asyncio.run(round_of_wakes())
        """,
        forced,
    )


@forks
def test_a_stored_permit_of_private_memory_is_copied(forced: str) -> None:
    passes(
        """
        word = aiopark.Word()
        parker = aiopark.Parker(word)
        word.unpark()

        def check():
            assert asyncio.run(parker.park_timeout(0))

        in_child(check)
        check()
        """,
        forced,
    )


@forks
@shares
def test_the_child_unparks_the_parents_task(forced: str) -> None:
    passes(
        """
        memory = mmap.mmap(-1, 4096)
        word = aiopark.Word.from_buffer(memory)

        async def main():
            parker = aiopark.Parker(word)
            parker.prepare_park()
            task = asyncio.create_task(parker.park_timeout(30))
            await asyncio.sleep(0.02)
            in_child(word.unpark)
            assert await task

        asyncio.run(main())
        """,
        forced,
    )


@forks
@shares
def test_a_child_that_closes_its_parker_does_not_disturb_the_parents(forced: str) -> None:
    passes(
        """
        memory = mmap.mmap(-1, 4096)
        word = aiopark.Word.from_buffer(memory)

        async def main():
            parker = aiopark.Parker(word)
            parker.prepare_park()
            task = asyncio.create_task(parker.park_timeout(30))
            await asyncio.sleep(0.02)
            in_child(parker.close)
            assert not task.done()
            later(word.unpark)
            assert await task

        asyncio.run(main())
        """,
        forced,
    )


def test_exit_with_words_watched(forced: str) -> None:
    """Parked in a daemon thread's loop, and left behind by a loop that ended; nobody closed anything."""
    passes(
        """
        parkers = [aiopark.Parker(aiopark.Word()) for _ in range(3)]

        async def main():
            tasks = [asyncio.create_task(parker.park()) for parker in parkers[:2]]
            await asyncio.sleep(0.01)

        asyncio.run(main())
        threading.Thread(target=asyncio.run, args=(parkers[2].park(),), daemon=True).start()
        while not aiopark.statistics().parked_tasks:
            time.sleep(0.001)
        """,
        forced,
    )


THREAD_TAKES_OVER = """
    async def main():
        word = aiopark.Word()
        with aiopark.Parker(word) as parker:
            timer = threading.Timer(0.02, word.unpark)
            timer.start()
            assert await parker.park_timeout(30)
            timer.join()
            assert aiopark.statistics().waiter_threads == 1
            assert f"aiopark-watch-{word.address:#x}" in {thread.name for thread in threading.enumerate()}
        assert aiopark.statistics().waiter_threads == 0
        word.close()
"""

NO_EVENTFD = f"""{THREAD_TAKES_OVER}
    with asyncio.Runner(loop_factory=NoDescriptors) as runner:
        runner.run(main())
"""

NO_DESCRIPTORS = f"""
    import resource
    {THREAD_TAKES_OVER}
    async def without_descriptors():
        await aiopark.Parker().park_timeout(0.001)  # hangs the doorbell
        assert aiopark.statistics().watcher
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        taken = []
        try:
            while True:
                taken.append(os.dup(0))
        except OSError:
            pass
        try:
            await main()
        finally:
            for descriptor in taken:
                os.close(descriptor)

    asyncio.run(without_descriptors())
"""


@pytest.mark.parametrize("code", [NO_EVENTFD, pytest.param(NO_DESCRIPTORS, marks=linux)], ids=["eventfd", "descriptor"])
def test_a_thread_takes_over_where_no_ring_is_to_be_had(code: str) -> None:
    passes(code, "")


@rings
@pytest.mark.parametrize(
    ("code", "error"),
    [
        (NO_EVENTFD, "aiopark.UnsupportedError: this event loop cannot watch an eventfd"),
        (NO_DESCRIPTORS, "OSError: [Errno 24]"),
    ],
    ids=["eventfd", "descriptor"],
)
def test_forced_rings_that_are_not_to_be_had(code: str, error: str) -> None:
    ran = run(code, "uring")
    assert ran.returncode == 1
    assert error in ran.stderr


@pytest.mark.parametrize(
    ("variables", "error"),
    [
        ({"AIOPARK_WATCHER": "nonsense"}, "ValueError: AIOPARK_WATCHER is 'nonsense'; choose one of uring, threads"),
        (
            {"AIOPARK_WATCHER": "uring", "AIOPARK_BACKEND": "portable"},
            "UnsupportedError: AIOPARK_WATCHER=uring does not work here: ",
        ),
    ],
    ids=["unknown", "refused"],
)
def test_forced_watchers_are_refused_at_construction(variables: dict[str, str], error: str) -> None:
    code = "import aiopark; word = aiopark.Word(); aiopark.Parker(); aiopark.Parker(word)"
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 1
    assert error in ran.stderr
