"""name=, repr and messages: who parks where, and for how long."""

from __future__ import annotations

import asyncio
import re
import threading

import anyio
import pytest
from support import block_until, in_thread, is_parked, until

import aiopark

KINDS = [aiopark.Parker, aiopark.ThreadParker]
both = pytest.mark.parametrize("kind", KINDS)


def park_in_a_thread(parker, name="printer"):
    thread = threading.Thread(target=parker.park, name=name, daemon=True)
    thread.start()
    block_until(lambda: is_parked(parker))
    return thread


@both
def test_the_name(kind):
    assert kind().name is None
    assert kind(name="inbox").name == "inbox"
    with pytest.raises(AttributeError):
        kind().name = "inbox"


@both
@pytest.mark.parametrize("name", [b"inbox", 1, object()])
def test_what_is_no_name(kind, name):
    with pytest.raises(TypeError, match=f"the name of a {kind.__name__} must be a string, not {type(name).__name__}"):
        kind(name=name)


@both
def test_repr(kind):
    parker = kind(name="inbox")
    assert repr(parker) == f"<aiopark.{kind.__name__} 'inbox' idle>"
    parker.unpark()
    assert repr(parker) == f"<aiopark.{kind.__name__} 'inbox' permit stored>"
    parker.close()
    assert repr(parker) == f"<aiopark.{kind.__name__} 'inbox' closed>"


@both
def test_repr_without_a_name_tells_two_apart(kind):
    first, second = kind(), kind()
    assert re.fullmatch(rf"<aiopark\.{kind.__name__} 0x[0-9a-f]+ idle>", repr(first))
    assert repr(first) == repr(first)
    assert repr(first) != repr(second)


@both
def test_repr_with_a_word(kind):
    word = aiopark.Word()
    with kind(word, name="inbox") as parker:
        assert repr(parker) == f"<aiopark.{kind.__name__} 'inbox' idle on {word!r}>"


@pytest.mark.parametrize("word", [aiopark.Word, lambda: None], ids=["word", "no word"])
def test_repr_names_the_thread_that_parks(word):
    parker = aiopark.ThreadParker(word(), name="inbox")
    thread = park_in_a_thread(parker)
    assert re.match(r"<aiopark\.ThreadParker 'inbox' parked by thread 'printer' for \d+\.\d s( on |>)", repr(parker))
    parker.unpark()
    thread.join()


def test_repr_names_the_task_that_parks(plain_world):
    async def park(parker):
        if plain_world.backend == "asyncio":
            asyncio.current_task().set_name("reader")
        await parker.park_timeout(3600)

    async def main():
        parker = aiopark.Parker(name="inbox")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(park, parker, name="reader")
            await until(lambda: is_parked(parker) and aiopark.statistics().parked_tasks == 1)
            who = re.fullmatch(r"<aiopark\.Parker 'inbox' parked by task '(.*)' for \d+\.\d s>", repr(parker))
            assert who, repr(parker)
            assert who[1].endswith("reader") or plain_world.backend == "trio"
            parker.unpark()
            assert repr(parker) == "<aiopark.Parker 'inbox' permit stored>"

    plain_world.run(main)


def test_repr_while_a_park_does_not_sleep(plain_world):
    """It stands in the slot, and is about to return: since when it sleeps is nothing to be said."""

    async def main():
        parker = aiopark.Parker()
        seen = []

        async def look():
            seen.append(repr(parker))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(look)
            tasks.start_soon(parker.park_timeout, -1)
            tasks.start_soon(look)
        for text in seen:
            assert "inf" not in text
            assert "-" not in text

    plain_world.run(main)


def test_who_is_parked_is_said_to_the_second(plain_world):
    async def main():
        parker = aiopark.Parker(name="inbox")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(parker.park)
            await until(lambda: is_parked(parker) and aiopark.statistics().parked_tasks == 1)
            with pytest.raises(
                RuntimeError,
                match=r"task '.*' is already parked on aiopark\.Parker 'inbox': .* give each of them its own Parker",
            ):
                await parker.park()
            parker.unpark()

    plain_world.run(main)


def test_which_thread_is_parked_is_said_to_the_second():
    parker = aiopark.ThreadParker(name="inbox")
    thread = park_in_a_thread(parker)
    with pytest.raises(
        RuntimeError,
        match=r"thread 'printer' is already parked on aiopark\.ThreadParker 'inbox': .* its own ThreadParker",
    ):
        parker.park()
    parker.unpark()
    thread.join()


def test_who_has_the_word_is_said_whoever_asks():
    """To somebody who has a ThreadParker already "give each of them its own ThreadParker" is no help."""
    word = aiopark.Word()
    with aiopark.Parker(word, name="inbox") as parker:
        told = (
            rf"the word at {word.address:#x} is taken by aiopark\.Parker 'inbox': one thread or task parks on a word "
            "at a time; close that one first, or give each its own Word"
        )
        with pytest.raises(RuntimeError, match=told):
            aiopark.ThreadParker(word).park_timeout(0)
        with pytest.raises(RuntimeError, match=told):
            aiopark.Parker(word)
        with pytest.raises(RuntimeError, match=r"aiopark\.Parker 'inbox' still parks on this word: close that"):
            word.close()
        assert not is_parked(parker)
    thread_parker = aiopark.ThreadParker(word, name="printer")
    thread = park_in_a_thread(thread_parker)
    with pytest.raises(RuntimeError, match=r"is taken by aiopark\.ThreadParker 'printer'"):
        aiopark.Parker(word)
    word.unpark()
    thread.join()
    aiopark.Parker(word).close()


def test_threads_that_ask_for_the_repr_while_the_state_changes():
    parker, stop = aiopark.ThreadParker(name="inbox"), threading.Event()

    def look():
        while not stop.is_set():
            assert repr(parker).startswith("<aiopark.ThreadParker 'inbox' ")

    with in_thread(look):
        for _ in range(300):
            with in_thread(parker.park):
                parker.unpark()
        stop.set()
