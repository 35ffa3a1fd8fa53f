"""`with Word()`: it closes the word, as close does."""

import pytest

from aiopark import ClosedError, Parker, ThreadParker, Word


def test_the_context_manager() -> None:
    with Word() as word:
        assert isinstance(word, Word)
        assert word.load() == 1
    with pytest.raises(ClosedError, match="the word was closed: make a new one"):
        word.load()
    with pytest.raises(ZeroDivisionError), Word() as word:
        raise ZeroDivisionError
    with pytest.raises(ClosedError):
        word.load()


def test_an_attached_word_lets_its_memory_go() -> None:
    memory = bytearray(8)
    with Word.from_buffer(memory, shared=False) as word:
        with pytest.raises(BufferError):
            memory.append(0)
        word.unpark()
    memory.append(0)


def test_with_a_parker_inside() -> None:
    with Word() as word, Parker(word) as parker, ThreadParker() as other:
        assert parker.word is word
        assert other.word is None


def test_it_says_so_where_somebody_still_parks() -> None:
    told = r"aiopark\.Parker 'inbox' still parks on this word: close that"
    with pytest.raises(RuntimeError, match=told), Word() as word:
        parker = Parker(word, name="inbox")
    assert word.load() == 1
    parker.close()
    word.close()
