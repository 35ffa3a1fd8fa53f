"""The owner slot: one of those who try stands in it, and the dead make room."""

from __future__ import annotations

import threading

import pytest
from support import switch_interval

from aiopark._owner import OWNER, claim


class Somebody:
    def __init__(self, gone=False):
        self.is_gone = gone

    def gone(self):
        return self.is_gone


def test_one_owner():
    slot, first, second = {}, Somebody(), Somebody()
    claim(slot, first, "thing")
    with pytest.raises(RuntimeError, match="give each of them its own thing"):
        claim(slot, second, "thing")
    assert slot[OWNER] is first
    del slot[OWNER]
    claim(slot, second, "thing")
    assert slot[OWNER] is second


def test_the_dead_make_room():
    slot, dead, heir = {}, Somebody(), Somebody()
    claim(slot, dead, "thing")
    dead.is_gone = True
    claim(slot, heir, "thing")
    assert slot[OWNER] is heir


@pytest.mark.parametrize("occupied", [False, True])
def test_of_many_that_try_one_wins(occupied):
    with switch_interval(1e-6):
        for _ in range(100):
            slot = {OWNER: Somebody(gone=True)} if occupied else {}
            start, won = threading.Barrier(4), []

            def attempt(slot=slot, start=start, won=won):
                me = Somebody()
                start.wait()
                try:
                    claim(slot, me, "thing")
                except RuntimeError:
                    return
                won.append(me)

            threads = [threading.Thread(target=attempt) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert won == [slot[OWNER]]
