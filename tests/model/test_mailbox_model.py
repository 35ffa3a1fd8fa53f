"""The real Mailbox: every interleaving, with few preemptions, of posters and a loop that drains when it is rung."""

from __future__ import annotations

import pytest

from aiopark._loops._mailbox import Mailbox
from model.explore import LostError, SteppedDeque, explore, step, wait_for

pytestmark = pytest.mark.explored


def stepped(name):
    """A field each access of which is a step."""
    slot = Mailbox.__dict__[name]

    def read(self):
        step()
        return slot.__get__(self)

    def write(self, value):
        step()
        slot.__set__(self, value)

    return property(read, write)


class Loop(Mailbox):
    _drains = stepped("_drains")
    _rung = stepped("_rung")

    def __init__(self):
        super().__init__()
        self._box = SteppedDeque()
        self.rung, self.rings = False, 0

    def _ring(self):
        step()
        self.rung = True
        self.rings += 1

    def run(self, sleepers):
        """Answer the bell until everyone was resumed."""
        while not all(sleeper.resumed for sleeper in sleepers):
            wait_for(lambda: self.rung)
            step()
            self.rung = False  # the descriptor is read
            self.drain()


class Sleeper:
    resumed = 0

    def resume(self):
        self.resumed += 1


def world(kind, posters, each):
    def make():
        loop = kind()
        sleepers = [[Sleeper() for _ in range(each)] for _ in range(posters)]
        everyone = [sleeper for mine in sleepers for sleeper in mine]

        waiting = list(sleepers)

        def poster():
            for sleeper in waiting.pop():
                loop.post(sleeper)

        def check():
            assert [sleeper.resumed for sleeper in everyone] == [1] * len(everyone)

        return [lambda: loop.run(everyone), *[poster] * posters], check

    return make


@pytest.mark.parametrize(("posters", "each", "preemptions"), [(1, 1, 99), (1, 3, 3), (2, 1, 3), (2, 2, 2), (3, 1, 2)])
def test_no_post_is_lost(posters, each, preemptions):
    assert explore(world(Loop, posters, each), preemptions) > 20


def test_if_the_ring_were_noted_before_it_was_made_for_a_number_read_later_a_post_would_be_lost():
    """The number of drains is read before the ring, not after: else a drain in between counts as announced."""

    class NotesTooMuch(Loop):
        def post(self, sleeper):
            self._box.append(sleeper)
            if self._rung != self._drains:
                self._ring()
                self._rung = self._drains

    with pytest.raises(LostError):
        explore(world(NotesTooMuch, 2, 2), 3)


def test_if_a_drain_were_counted_after_its_mark_a_post_would_be_lost():
    class CountsTooLate(Loop):
        def drain(self):
            from aiopark._loops._mailbox import _Mark

            mark = _Mark()
            self._box.append(mark)
            while not mark.passed:
                self._box.popleft().resume()
            self._drains += 1

    with pytest.raises(LostError):
        explore(world(CountsTooLate, 2, 2), 2)


def test_if_a_post_rang_before_it_was_in_the_box_it_would_be_lost():
    class RingsTooEarly(Loop):
        def post(self, sleeper):
            drains = self._drains
            if self._rung != drains:
                self._ring()
                self._rung = drains
            self._box.append(sleeper)

    with pytest.raises(LostError):
        explore(world(RingsTooEarly, 1, 1))


def interrupted(kind):
    """The first ring is interrupted by a signal handler that raises; whoever posts next makes up for it."""

    class Interrupted(kind):
        def _ring(self):
            if self.rings == 0:
                self.rings = 1
                raise KeyboardInterrupt
            super()._ring()

    def make():
        loop = Interrupted()
        sleepers = [Sleeper(), Sleeper()]

        def poster():
            for sleeper in sleepers:
                try:
                    loop.post(sleeper)
                except KeyboardInterrupt:
                    pass

        return [lambda: loop.run(sleepers), poster], lambda: None

    return make


def test_a_ring_that_was_interrupted_is_made_up_for():
    assert explore(interrupted(Loop), 2) > 1


def test_if_a_ring_were_noted_before_it_was_made_one_that_was_interrupted_would_deafen_the_loop():
    class NotesFirst(Loop):
        def post(self, sleeper):
            self._box.append(sleeper)
            drains = self._drains
            if self._rung != drains:
                self._rung = drains
                self._ring()

    with pytest.raises(LostError):
        explore(interrupted(NotesFirst), 2)
