"""No copy and no pickle of what somebody is woken by: each says what to do instead."""

from __future__ import annotations

import copy
import pickle

import pytest

import aiopark

KINDS = {
    "Parker": aiopark.Parker,
    "ThreadParker": aiopark.ThreadParker,
    "Parker on a word": lambda: aiopark.Parker(aiopark.Word()),
    "ThreadParker on a word": lambda: aiopark.ThreadParker(aiopark.Word()),
    "Word": aiopark.Word,
    "Worker": aiopark.Worker,
    "WorkerPool": lambda: aiopark.WorkerPool(2),
    "UnparkHandle": lambda: aiopark.Parker().unpark_lock(),
    "UnparkHandle of a word": lambda: aiopark.Word().unpark_lock(),
}
INSTEAD = {
    "Parker": r"shared memory .* Word\.from_buffer",
    "ThreadParker": r"shared memory .* Word\.from_buffer",
    "Word": r"`address` .* shared memory .* attach there",
    "Worker": "one of its own in each process",
    "WorkerPool": "one of its own in each process",
    "UnparkHandle": r"call its unpark\(\) in this process",
}
WAYS = {"copy": copy.copy, "deepcopy": copy.deepcopy, "in a list": lambda thing: copy.deepcopy([thing])}
WAYS |= {
    f"pickle {protocol}": lambda thing, protocol=protocol: pickle.dumps(thing, protocol)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_refused(kind, way):
    thing = KINDS[kind]()
    name = type(thing).__name__
    with pytest.raises(TypeError, match=f"cannot copy or pickle '{name}': .* nobody wakes; .*{INSTEAD[name]}"):
        WAYS[way](thing)


def test_a_subclass_is_named():
    class Inbox(aiopark.Parker):
        pass

    with pytest.raises(TypeError, match="cannot copy or pickle 'Inbox': a copy would be another Inbox"):
        copy.copy(Inbox())


def test_what_was_refused_works_on():
    parker = aiopark.ThreadParker()
    parker.unpark()
    with pytest.raises(TypeError):
        copy.copy(parker)
    assert parker.park_timeout(0) is True
