"""The ThreadParker of these tests parks on a word, with each backend that works here."""

import pytest

from aiopark import ThreadParker, Word
from aiopark._os import Backend


@pytest.fixture
def parker(backend: Backend) -> ThreadParker:
    return ThreadParker(Word())
