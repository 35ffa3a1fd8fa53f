"""shared=: True or False, and the same for all words at one address."""

from __future__ import annotations

import ctypes

import pytest

import aiopark
from aiopark.lowlevel import default_backend


@pytest.mark.parametrize("shared", [None, 0, 1, 2, "", "yes", [], object()])
def test_anything_else_is_refused_at_construction(shared):
    memory = ctypes.c_uint32(1)
    with pytest.raises(TypeError, match="shared must be True or False, not "):
        aiopark.Word.from_buffer(memory, shared=shared)
    with pytest.raises(TypeError, match="shared must be True or False, not "):
        aiopark.Word.from_address(ctypes.addressof(memory), shared=shared)
    assert aiopark.Word.from_buffer(memory, shared=False).load() == 1  # nothing stays behind


@pytest.mark.skipif(not default_backend().supports_shared, reason="reaches no other process")
@pytest.mark.parametrize("first", [True, False])
def test_words_at_one_address_that_differ(first):
    memory = ctypes.c_uint32(1)
    word = aiopark.Word.from_buffer(memory, shared=first)
    for make in (
        lambda: aiopark.Word.from_buffer(memory, shared=not first),
        lambda: aiopark.Word.from_address(ctypes.addressof(memory), shared=not first),
    ):
        with pytest.raises(ValueError, match=f"with shared={first}: all words at one address must say the same"):
            make()
    assert aiopark.Word.from_buffer(memory, shared=first).shared is first
    del word
    assert aiopark.Word.from_buffer(memory, shared=not first).shared is not first
