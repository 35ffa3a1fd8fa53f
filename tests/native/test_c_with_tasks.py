"""Native threads, which hold no GIL, and tasks parked on the same words, through every watcher."""

from __future__ import annotations

import ctypes
import random
import sys
from contextlib import ExitStack

import anyio
import pytest
from support import PATIENCE, UNDER_WINE, in_thread, is_parked, until

import aiopark

pytestmark = pytest.mark.usefixtures("watcher")

PING_PONG, UNPARKER, _, STREAMER = range(4)  # what partner.c's threads do


async def play(partner, rounds, seed=1):
    """Pass a ball, plain memory that only parks and unparks order, to a native thread and back."""
    here, there, ball = aiopark.Word(), aiopark.Word(), ctypes.c_int64()
    with aiopark.Parker(here) as parker:
        job = partner.start(PING_PONG, there.address, here.address, ctypes.addressof(ball), None, rounds, seed)
        for i in range(rounds):
            assert ball.value == 2 * i
            ball.value += 1
            there.unpark()
            assert await parker.park_timeout(PATIENCE), f"the unpark of round {i} was lost"
        assert partner.finish(job) == 0
    assert ball.value == 2 * rounds
    assert here.load() == there.load() == 1


def test_ping_pong(partner, plain_world):
    plain_world.run(play, partner, 5000)


def test_eight_pairs_at_once(partner, plain_world):
    async def main():
        async with anyio.create_task_group() as tasks:
            for seed in range(8):
                tasks.start_soon(play, partner, 300, seed)

    plain_world.run(main)


@pytest.mark.parametrize("shared", [False, True] if sys.platform == "linux" else [False])
def test_native_code_unparks_a_task(partner, plain_world, shared):
    """On Linux whatever each side says of `shared`."""
    names = ["unpark", "unpark_coalesced"]
    if sys.platform == "linux":
        names += [f"shared_{name}" for name in names]
    word = aiopark.Word.from_buffer(ctypes.c_uint32(1), shared=shared)

    async def main():
        with aiopark.Parker(word) as parker:
            for name in names:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(parker.park)
                    await until(lambda: is_parked(parker))
                    with anyio.fail_after(PATIENCE), in_thread(getattr(partner, name), word.address):
                        await until(lambda: not is_parked(parker))
                assert word.load() == 1

    plain_world.run(main)


@pytest.mark.parametrize("seed", range(2))
def test_coalesced_unparks_lose_no_wake_and_no_data(partner, plain_world, seed):
    """The owner waits for all of them with no short deadline that would hide a lost wake."""
    rounds, streamers = 5000, 3
    word, counts = aiopark.Word(), (ctypes.c_int64 * streamers)()
    rng = random.Random(seed)

    async def main():
        cells = [ctypes.addressof(counts) + 8 * i for i in range(streamers)]
        jobs = [partner.start(STREAMER, None, word.address, cell, None, rounds, rng.randrange(2**32)) for cell in cells]
        with aiopark.Parker(word) as parker:
            while sum(counts) < streamers * rounds:
                assert await parker.park_timeout(PATIENCE), f"after {list(counts)} a wake was lost"
        assert sum(map(partner.finish, jobs)) == streamers * rounds

    plain_world.run(main)


def test_many_words_at_once(partner, plain_world):
    """Unparked three times over by native code."""
    # Wine's WakeByAddressAll wakes strangers too, whose addresses share a bucket: a thousand threads take a minute.
    # And 32 bits have no room for the stacks of so many.
    count = 200 if UNDER_WINE or sys.maxsize < 2**32 else 1000
    memory = (ctypes.c_uint32 * count)(*(1,) * count)

    async def main():
        with ExitStack() as stack:
            words = [aiopark.Word.from_buffer(memory, 4 * i, shared=False) for i in range(count)]
            parkers = [stack.enter_context(aiopark.Parker(word)) for word in words]
            for _ in range(3):
                async with anyio.create_task_group() as tasks:
                    for parker in parkers:
                        tasks.start_soon(parker.park)
                    await until(lambda: all(map(is_parked, parkers)))
                    with in_thread(partner.unpark_each, memory, count):
                        pass
                assert list(memory) == [1] * count

    plain_world.run(main)


@pytest.mark.parametrize("seed", range(2))
def test_permits_are_conserved(partner, plain_world, seed):
    """Each is acknowledged before the next is deposited, while deadlines and cancellations come at any moment."""
    rng, rounds, unparkers = random.Random(seed), 300, 3
    word, acknowledged = aiopark.Word(), aiopark.Word()

    async def main():
        turn, taken, given_up = partner.new_turn(), 0, 0
        jobs = [
            partner.start(UNPARKER, acknowledged.address, word.address, None, turn, rounds, rng.randrange(2**32))
            for _ in range(unparkers)
        ]
        with aiopark.Parker(word) as parker, anyio.fail_after(PATIENCE):
            while taken < rounds * unparkers:
                unparked = False
                with anyio.move_on_after(rng.choice([0, 1e-6, 1e-4, 1])) as scope:
                    unparked = await parker.park_timeout(rng.choice([-1, 0, 1e-6, 1e-4, 1]))
                assert not (unparked and scope.cancelled_caught)
                taken += unparked
                given_up += not unparked
                if unparked:
                    acknowledged.unpark()
        assert sum(map(partner.finish, jobs)) == taken
        partner.free_turn(turn)
        assert word.load() == acknowledged.load() == 1
        assert given_up

    plain_world.run(main)
