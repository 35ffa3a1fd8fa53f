"""Mailbox: posts from any thread, one ring for many, none lost."""

from __future__ import annotations

import gc
import threading
import weakref
from collections import deque

import pytest
from support import block_until, in_thread, switch_interval

from aiopark._loops._mailbox import Mailbox, mailboxes, parked_tasks


class Bell(Mailbox):
    """A loop that drains only when the test says so."""

    __slots__ = ("rings",)

    def __init__(self):
        super().__init__()
        self.rings = 0
        self.publish(id(self))

    def _ring(self):
        self.rings += 1


class Note:
    """A sleeper that writes down that it was resumed. As real ones, it wakes up once."""

    def __init__(self, log, then=None):
        self.log, self.then, self.asleep = log, then, True

    def resume(self):
        if self.asleep:
            self.asleep = False
            self.log.append(self)
            if self.then is not None:
                self.then()


def test_one_ring_for_many_posts():
    bell, log = Bell(), []
    notes = [Note(log) for _ in range(100)]
    for note in notes:
        bell.post(note)
    assert bell.rings == 1
    bell.drain()
    assert log == notes
    bell.post(notes[0])
    assert bell.rings == 2


def test_only_what_was_there_when_the_drain_began_is_drained():
    bell, log = Bell(), []

    def post_again():
        bell.post(Note(log, post_again))

    post_again()
    for count in range(1, 5):
        bell.drain()
        assert len(log) == count
        assert bell.rings == count + 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_exception_out_of_one_loses_none_of_the_others(error):
    bell, log = Bell(), []

    def fail():
        raise error

    for then in (None, fail, None, fail, None):
        bell.post(Note(log, then))
    rings = bell.rings
    for drained in (2, 4):
        with pytest.raises(error):
            bell.drain()
        assert len(log) == drained
        rings += 1
        assert bell.rings == rings  # the loop will come back
    bell.drain()
    assert len(log) == 5
    bell.post(Note(log))
    bell.drain()
    assert len(log) == 6


def test_a_drain_inside_a_drain():
    """What a nested loop does."""
    bell, log = Bell(), []
    bell.post(Note(log, bell.drain))
    bell.post(Note(log, lambda: bell.post(Note(log))))
    bell.post(Note(log))
    bell.drain()
    assert len(log) == 3
    bell.drain()
    assert len(log) == 4


def test_an_interrupted_ring_is_made_up_for_by_the_next_post():
    class Broken(Bell):
        def _ring(self):
            super()._ring()
            if self.rings == 1:
                raise KeyboardInterrupt

    bell, log = Broken(), []
    with pytest.raises(KeyboardInterrupt):
        bell.post(Note(log))
    bell.post(Note(log))
    assert bell.rings == 2
    bell.drain()
    assert len(log) == 2


def test_many_threads_post_while_one_drains():
    """Each ring is answered by one drain, as a loop would: in the end nothing lies in the box."""

    class Loop(Bell):
        __slots__ = ("bell",)

        def __init__(self):
            super().__init__()
            self.bell = threading.Semaphore(0)

        def _ring(self):
            self.bell.release()

    loop, log, producers, each = Loop(), deque(), 4, 2000

    def produce():
        for _ in range(each):
            loop.post(Note(log))

    with switch_interval(1e-6):
        threads = [threading.Thread(target=produce) for _ in range(producers)]
        for thread in threads:
            thread.start()
        while len(log) < producers * each:
            assert loop.bell.acquire(timeout=30), "posts lie in the box, and nobody rang"
            loop.drain()
        for thread in threads:
            thread.join()
    assert len(log) == producers * each


def test_a_mailbox_is_registered_as_long_as_it_lives():
    bell = Bell()
    reference = weakref.ref(bell)
    assert mailboxes[id(bell)]() is bell
    bell.parked = 3
    assert parked_tasks() == 3
    gc.disable()
    try:
        del bell
        assert reference() is None
    finally:
        gc.enable()
    assert parked_tasks() == 0


def test_a_mailbox_of_the_parent_is_never_rung():
    bell, log = Bell(), []
    bell.post(Note(log))
    bell.parked = 1
    bell.forget_after_fork()
    for _ in range(3):
        bell.post(Note(log))
    assert bell.rings == 1
    assert parked_tasks() == 0


def test_posting_does_not_wait_for_a_drain_under_way():
    bell, log, inside, go_on = Bell(), [], threading.Event(), threading.Event()

    def block():
        inside.set()
        assert go_on.wait(30)

    bell.post(Note(log, block))
    with in_thread(bell.drain):
        assert inside.wait(30)
        bell.post(Note(log))
        assert bell.rings == 2
        go_on.set()
    block_until(lambda: len(log) == 1)
    bell.drain()
    assert len(log) == 2
