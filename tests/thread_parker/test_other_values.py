"""A word that holds neither 0 nor 1 holds no permit: the thread sleeps, as it does on 1."""

import time
from typing import Any

import pytest
from support import block_until, in_thread, is_asleep, is_owned, soon

from aiopark import ThreadParker


@pytest.mark.parametrize("value", [2, 7, 2**31, 2**32 - 1])
def test_it_sleeps(parker: ThreadParker, value: int) -> None:
    assert parker.word is not None
    parker.word.store(value)
    assert parker.timed_out()
    before = time.thread_time()
    assert parker.park_timeout(0.3) is False
    assert time.thread_time() - before < 0.15  # CPU time of this thread: 0.3 if it spun
    assert parker.word.load() == value  # nothing is written where there is no permit


@pytest.mark.parametrize("value", [2, 2**32 - 1])
def test_it_is_unparked(parker: ThreadParker, value: int) -> None:
    assert parker.word is not None
    parker.word.store(value)
    with in_thread(parker.park_until, soon()):
        block_until(lambda: is_asleep(parker))
        parker.unpark()
    assert parker.word.load() == 1


def test_a_value_that_changes_while_it_sleeps(parker: ThreadParker) -> None:
    word: Any = parker.word
    answers: list[bool] = []
    with in_thread(lambda: answers.append(parker.park_until(soon()))):
        block_until(lambda: is_owned(word))
        for value in (2, 3, 1, 4):
            word.store(value)
            word.wake()
            block_until(lambda: is_asleep(parker))
        assert not answers
        word.unpark()
    assert answers == [True]
