"""Native threads, which hold no GIL, and ThreadParkers on the same words."""

from __future__ import annotations

import ctypes
import random
import sys
import time
from contextlib import ExitStack
from ctypes import c_int64
from pathlib import Path

import pytest
from support import PATIENCE, block_until, in_thread, is_owned

import aiopark

PING_PONG, UNPARKER, PARKER, STREAMER = range(4)  # what partner.c's threads do
MILLISECOND = 1_000_000  # in nanoseconds


def instruction(thread):
    """Where the thread is in Python code; None if it has ended."""
    frame = sys._current_frames().get(thread.ident)
    return frame and (frame.f_code, frame.f_lasti)


def is_asleep(thread):
    """Whether the kernel says that it sleeps, or it has ended. On Windows: whether it stays within one call of C."""
    if sys.platform == "win32":
        seen = {instruction(thread) for _ in range(20) if time.sleep(0.002) is None}
        return len(seen) == 1
    try:
        stat = Path(f"/proc/self/task/{thread.native_id}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return not thread.is_alive()
    return stat.rpartition(")")[2].split()[0] == "S"


def play(partner, rounds, seed=1):
    """Pass a ball, plain memory that only parks and unparks order, to a native thread and back."""
    here, there, ball = aiopark.Word(), aiopark.Word(), c_int64()
    parker = aiopark.ThreadParker(here)
    job = partner.start(PING_PONG, there.address, here.address, ctypes.addressof(ball), None, rounds, seed)
    for i in range(rounds):
        assert ball.value == 2 * i
        ball.value += 1
        there.unpark()
        assert parker.park_timeout(PATIENCE), f"the unpark of round {i} was lost"
    assert partner.finish(job) == 0
    assert ball.value == 2 * rounds
    assert here.load() == there.load() == 1


def test_ping_pong(partner):
    play(partner, 5000)


def test_eight_pairs_at_once(partner):
    with ExitStack() as threads:
        for seed in range(8):
            threads.enter_context(in_thread(play, partner, 300, seed))


@pytest.mark.parametrize("first", ["park", "unpark"])
def test_python_unparks_a_native_owner(partner, first):
    word = aiopark.Word()
    if first == "unpark":
        word.unpark()
    with in_thread(partner.park, word.address) as thread:
        if first == "park":
            block_until(lambda: is_asleep(thread))
            word.unpark()
    assert word.load() == 1


# What unparks; "shared_" as well on Linux, where both wake whoever sleeps, and never on Windows.
UNPARKS = ["unpark", "unpark_coalesced"]
EVERY_UNPARK = [*UNPARKS, *(f"shared_{name}" for name in UNPARKS)] if sys.platform == "linux" else UNPARKS


@pytest.mark.parametrize("shared", [False, True] if sys.platform == "linux" else [False])
@pytest.mark.parametrize("unpark", EVERY_UNPARK)
def test_native_code_unparks_a_thread(partner, unpark, shared):
    """Whatever each side says of `shared`."""
    word = aiopark.Word.from_buffer(ctypes.c_uint32(1), shared=shared)
    parker = aiopark.ThreadParker(word)
    for _ in range(3):
        with in_thread(lambda: parker.park_timeout(PATIENCE) or pytest.fail("it was not woken")) as thread:
            block_until(lambda: is_asleep(thread))
            getattr(partner, unpark)(word.address)
        assert word.load() == 1


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere each side says the same of shared")
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("park", ["park", "shared_park"])
def test_python_unparks_a_native_owner_whatever_each_says_of_shared(partner, park, shared):
    word = aiopark.Word.from_buffer(ctypes.c_uint32(1), shared=shared)
    with in_thread(getattr(partner, park), word.address) as thread:
        block_until(lambda: is_asleep(thread))
        word.unpark()
    assert word.load() == 1


def test_a_native_owner_sleeps_on_a_word_that_is_neither(partner):
    word = aiopark.Word()
    word.store(7)
    with in_thread(partner.park, word.address) as thread:
        block_until(lambda: is_asleep(thread))
        assert word.load() == 7
        partner.unpark_coalesced(word.address)
    assert word.load() == 1


@pytest.mark.parametrize("seed", range(3))
def test_coalesced_unparks_lose_no_wake_and_no_data(partner, seed):
    """The owner waits for all of them with no short deadline that would hide a lost wake."""
    rounds, streamers = 5000, 3
    word, counts = aiopark.Word(), (c_int64 * streamers)()
    parker, rng = aiopark.ThreadParker(word), random.Random(seed)
    cells = [ctypes.addressof(counts) + 8 * i for i in range(streamers)]
    jobs = [partner.start(STREAMER, None, word.address, cell, None, rounds, rng.randrange(2**32)) for cell in cells]
    while sum(counts) < streamers * rounds:
        assert parker.park_timeout(PATIENCE), f"after {list(counts)} a wake was lost"
    assert sum(map(partner.finish, jobs)) == streamers * rounds


def test_a_handle_that_never_wakes_does_not_hide_a_native_unpark(partner):
    """So unpark wakes even if the word is 0 already: the owner may sleep on."""
    for _ in range(20):
        word = aiopark.Word()
        parker = aiopark.ThreadParker(word)
        with in_thread(parker.park) as thread:
            block_until(lambda: is_owned(word) and is_asleep(thread))  # noqa: B023  # called before the next round
            word.unpark_lock()  # the handle is dropped
            partner.unpark(word.address)


def test_prepare_park_drops_the_permit(partner):
    word = aiopark.Word()
    word.unpark()
    partner.prepare_park(word.address)
    assert word.load() == 1
    assert not aiopark.ThreadParker(word).park_timeout(0)


@pytest.mark.parametrize("ns", [1, 999, 1000, 1001, 999_999, MILLISECOND + 1, 30 * MILLISECOND])
def test_timeouts_are_never_early(partner, ns):
    word, took = aiopark.Word(), c_int64()
    for _ in range(5):
        before = time.perf_counter_ns()  # the header's clock, on Windows too
        assert partner.park_timeout(word.address, ns, took) == 0
        assert time.perf_counter_ns() - before >= ns
        assert took.value >= ns
    assert word.load() == 1


@pytest.mark.parametrize("ns", [-(2**63), -1, 0])
def test_no_timeout_only_looks(partner, ns):
    word, took = aiopark.Word(), c_int64()
    assert partner.park_timeout(word.address, ns, took) == 0
    word.unpark()
    assert partner.park_timeout(word.address, ns, took) == 1
    assert word.load() == 1
    assert partner.park_timeout(word.address, ns, took) == 0


@pytest.mark.parametrize("ns", [2**63 - 1, 2**63 - 2, 2**62, 60 * 86400 * 1000 * MILLISECOND])
def test_long_timeouts_are_honoured(partner, ns):
    word, took, results = aiopark.Word(), c_int64(), []
    with in_thread(lambda: results.append(partner.park_timeout(word.address, ns, took))) as thread:
        block_until(lambda: is_asleep(thread))  # one that overflowed ends with 0 instead
        word.unpark()
    assert results == [1]


@pytest.mark.parametrize("seed", range(3))
def test_native_unparkers_and_random_deadlines(partner, seed):
    """Each permit is acknowledged before the next one is deposited; so as many are taken as were deposited."""
    rng, rounds, unparkers = random.Random(seed), 1000, 3
    word, acknowledged = aiopark.Word(), aiopark.Word()
    parker, turn = aiopark.ThreadParker(word), partner.new_turn()
    jobs = [
        partner.start(UNPARKER, acknowledged.address, word.address, None, turn, rounds, rng.randrange(2**32))
        for _ in range(unparkers)
    ]
    taken = timed_out = 0
    give_up = time.monotonic() + PATIENCE
    while taken < rounds * unparkers:
        if parker.park_timeout(rng.choice([-1, 0, 1e-6, 2e-5, 5e-5, 2e-4])):
            taken += 1
            acknowledged.unpark()
        else:
            timed_out += 1
            assert time.monotonic() < give_up, f"{taken} were taken: a permit was lost"
    assert sum(map(partner.finish, jobs)) == taken
    partner.free_turn(turn)
    assert word.load() == acknowledged.load() == 1
    assert timed_out


@pytest.mark.parametrize("seed", range(3))
def test_a_native_parker_with_random_timeouts(partner, seed):
    rng, rounds = random.Random(seed), 2000
    word, acknowledged = aiopark.Word(), aiopark.Word()
    parker = aiopark.ThreadParker(acknowledged)
    job = partner.start(PARKER, word.address, acknowledged.address, None, None, rounds, rng.randrange(2**32))
    for i in range(rounds):
        for _ in range(rng.randrange(300)):
            pass
        word.unpark()
        assert parker.park_timeout(PATIENCE), f"permit {i} was lost"
    assert partner.finish(job) == rounds
    assert word.load() == acknowledged.load() == 1
