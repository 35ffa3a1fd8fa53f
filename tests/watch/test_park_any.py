"""park_any over Parkers on words."""

from __future__ import annotations

import anyio
import pytest
from support import block_until, in_thread, is_owned, is_parked, until

import aiopark


def all_parked(parkers):
    return all(map(is_parked, parkers))


def test_words(world, watcher):
    """Native code's unparks count, alone and beside one of Python's."""

    async def main():
        words = [aiopark.Word() for _ in range(3)]
        parkers = [*map(aiopark.Parker, words), aiopark.Parker()]
        for word, parker in zip(words, parkers, strict=False):
            with in_thread(lambda word=word: (block_until(lambda: all_parked(parkers)), word.unpark())):
                assert await aiopark.park_any(*parkers) == [parker]
            assert word.load() == 1
        words[2].unpark()
        parkers[0].unpark()
        assert await aiopark.park_any(*parkers) == [parkers[0], parkers[2]]
        assert await aiopark.park_any(*parkers, timeout=0.002) == []
        with in_thread(lambda: (block_until(lambda: all_parked(parkers)), parkers[3].unpark())):
            assert await aiopark.park_any(*parkers) == [parkers[3]]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(aiopark.park_any, *parkers)
            await until(lambda: all_parked(parkers))
            words[1].unpark()
            tasks.cancel_scope.cancel()
        assert words[1].load() == 0  # still in store
        assert await aiopark.park_any(*parkers) == [parkers[1]]
        for parker, word in zip(parkers, words, strict=False):
            parker.close()
            assert not is_owned(word)

    world.run(main)


def test_one_on_a_word_that_is_closed_while_parked(plain_world, watcher):
    """Its word is free for another owner once the park has ended."""

    async def main():
        word = aiopark.Word()
        parkers = [aiopark.Parker(word), aiopark.Parker()]
        with (
            in_thread(lambda: (block_until(lambda: all_parked(parkers)), parkers[0].close())),
            pytest.raises(aiopark.ClosedError),
        ):
            await aiopark.park_any(*parkers)
        assert not is_owned(word)
        with aiopark.Parker(word) as parker:
            assert await parker.park_timeout(0) is False

    plain_world.run(main)
