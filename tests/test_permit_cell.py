"""The slot of a permit cell: one of those who try stands in it, and the dead make room."""

from __future__ import annotations

import os
import sys
import threading

import pytest
from support import in_a_fork, switch_interval

from aiopark._permit import OWNER, PermitCell


class Somebody:
    def __init__(self, dead=False, name="somebody"):
        self.dead, self.name = dead, name

    def never_wakes(self):
        return self.dead

    def who(self):
        return self.name


def new_cell(owner=None, name=None):
    cell = PermitCell("Thing", name)
    if owner is not None:
        cell[OWNER] = owner
    return cell


def test_one_owner():
    cell, first, second = new_cell(name="inbox"), Somebody(name="task 'first'"), Somebody()
    cell.claim(first)
    with pytest.raises(RuntimeError, match=r"task 'first' is already parked on aiopark.Thing 'inbox': .* own Thing"):
        cell.claim(second)
    assert cell.owner() is first
    del cell[OWNER]
    cell.claim(second)
    assert cell.owner() is second


def test_the_dead_make_room():
    cell, dead, heir = new_cell(), Somebody(), Somebody()
    cell.claim(dead)
    dead.dead = True
    assert cell.owner() is None
    cell.claim(heir)
    assert cell == {OWNER: heir}


def test_a_claim_that_was_interrupted_leaves_the_slot_to_the_next():
    """Interrupted wherever CPython runs a signal handler, while it takes the slot of a dead one over."""
    number, interrupted = 0, True
    while interrupted:
        number += 1
        cell, heir, count, interrupted = new_cell(Somebody(dead=True)), Somebody(), [0], False

        def profile(frame, event, _, count=count, number=number):
            if frame.f_code.co_name == "claim" and event in {"call", "c_return"}:
                count[0] += 1
                if count[0] == number:
                    sys.setprofile(None)
                    raise KeyboardInterrupt

        sys.setprofile(profile)
        try:
            cell.claim(heir)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            sys.setprofile(None)
        if cell.get(OWNER) is heir:  # whoever calls it takes the waiter out, also if it raises
            del cell[OWNER]
        another = Somebody()
        cell.claim(another)
        assert cell == {OWNER: another}, f"interrupted at {number}"
    assert number > 3


@pytest.mark.parametrize("occupied", [False, True])
def test_of_many_that_try_one_wins(occupied):
    with switch_interval(1e-6):
        for _ in range(100):
            cell = new_cell(Somebody(dead=True) if occupied else None)
            start, won = threading.Barrier(4), []

            def attempt(cell=cell, start=start, won=won):
                me = Somebody()
                start.wait()
                try:
                    cell.claim(me)
                except RuntimeError:
                    return
                won.append(me)

            threads = [threading.Thread(target=attempt) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert won == [cell[OWNER]]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_finishes_what_a_thread_of_the_parent_began():
    """The fork comes when another thread is about to take the slot over; that thread is not there in the child."""

    class Forks(PermitCell):
        def get(self, key, default=None):
            if not forked:
                forked.append(True)
                in_a_fork(child)
            return super().get(key, default)

    def child():
        heir = Somebody()
        cell.claim(heir)
        assert cell.owner() is heir

    forked = []
    cell = Forks("Thing", None)
    cell[OWNER] = Somebody(dead=True)
    heir = Somebody()
    cell.claim(heir)
    assert forked
    assert cell == {OWNER: heir}
