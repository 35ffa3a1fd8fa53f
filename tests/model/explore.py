"""Run real code over every interleaving of its steps (the idea of Rust's loom), or all with few preemptions.

Actors are greenlets. Instrumented objects call `step()` before each operation on shared state; there the explorer
may go on with another actor. An actor that waits calls `wait_for(condition)`. If everybody waits, somebody was lost.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


pytest.importorskip("greenlet")  # and with it whoever imports this module
from greenlet import getcurrent, greenlet


class LostError(AssertionError):
    """Every actor waits for a condition that nobody will bring about."""


class _Actor(greenlet):
    condition: Callable[[], object] = staticmethod(lambda: True)
    switches = 0  # of all actors
    own = 0
    seen = -1  # how often the others had been switched to, when this one had its last nap

    def __init__(self, function: Callable[[], None]) -> None:
        super().__init__(function)
        self.function = function


def step() -> None:
    actor = getcurrent()
    if isinstance(actor, _Actor):
        actor.parent.switch()


def wait_for(condition: Callable[[], object]) -> None:
    actor = getcurrent()
    if condition() and not isinstance(actor, _Actor):
        return
    assert isinstance(actor, _Actor)
    actor.condition = condition
    while not condition():
        actor.parent.switch()
    actor.condition = _Actor.condition


def nap() -> None:
    """Go on if another actor has since the last nap: for one that would go round in circles."""
    actor = getcurrent()
    wait_for(lambda: _Actor.switches - actor.own > actor.seen)
    actor.seen = _Actor.switches - actor.own


def _run(actors: Sequence[Callable[[], None]], choices: list[int], preemptions: int) -> list[tuple[int, int]]:
    """Run once; follow the choices, then the first possibility. Return (choice, possibilities) of each step."""
    alive = [_Actor(actor) for actor in actors]
    taken: list[tuple[int, int]] = []
    current: _Actor | None = None
    while alive:
        enabled = [actor for actor in alive if actor.condition()]
        if not enabled:
            for actor in alive:
                actor.throw()  # unwinds it, as GreenletExit
            raise LostError(f"schedule {[choice for choice, _ in taken]}")
        fresh = [actor for actor in enabled if not actor]  # not begun yet
        for position, actor in enumerate(fresh):
            if any(actor.function == other.function for other in fresh[:position]):  # which of the two is all the same
                enabled.remove(actor)
        if current in enabled:  # going on with the same actor comes first; anything else is a preemption
            enabled.remove(current)
            enabled.insert(0, current)
            if preemptions == 0:
                del enabled[1:]
        position = len(taken)
        choice = choices[position] if position < len(choices) else 0
        taken.append((choice, len(enabled)))
        if current in enabled and choice > 0:
            preemptions -= 1
        current = enabled[choice]
        _Actor.switches += 1
        current.own += 1
        current.switch()
        if current.dead:
            alive.remove(current)
            current = None
    return taken


def explore(make: Callable[[], tuple[Sequence[Callable[[], None]], Callable[[], None]]], preemptions: int = 99) -> int:
    """Run every schedule with at most so many preemptions; check after each. Return how many there were.

    Args:
        make: builds a fresh world: its actors, and the check at the end. Which of two actors that are the same
            function begins first makes no difference, so that only one order is run.
        preemptions: how often an actor that could go on is interrupted.
    """
    choices: list[int] | None = []
    count = 0
    while choices is not None:
        actors, check = make()
        taken = _run(actors, choices, preemptions)
        try:
            check()
        except AssertionError as error:
            error.add_note(f"schedule {[choice for choice, _ in taken]}")
            raise
        count += 1
        choices = None
        for position in reversed(range(len(taken))):
            choice, possibilities = taken[position]
            if choice + 1 < possibilities:
                choices = [*(before for before, _ in taken[:position]), choice + 1]
                break
    return count


class SteppedDict(dict[str, Any]):
    """A dict each of whose operations is a step."""

    def __contains__(self, key: object) -> bool:
        step()
        return super().__contains__(key)

    def __getitem__(self, key: str) -> Any:
        step()
        return super().__getitem__(key)

    def __setitem__(self, key: str, value: Any) -> None:
        step()
        super().__setitem__(key, value)

    def __delitem__(self, key: str) -> None:
        step()
        super().__delitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        step()
        return super().get(key, default)

    def pop(self, key: str, *default: Any) -> Any:
        step()
        return super().pop(key, *default)

    def setdefault(self, key: str, default: Any = None) -> Any:
        step()
        return super().setdefault(key, default)


class SteppedLock:
    """A lock of threads, each of whose operations is a step."""

    def __init__(self, clock: Callable[[], float] = lambda: 0.0) -> None:
        self.locked, self.clock = False, clock

    def acquire(self, timeout: float = -1) -> bool:
        step()
        end = self.clock() + timeout
        wait_for(lambda: not self.locked or (timeout >= 0 and self.clock() >= end))
        if self.locked:
            return False
        self.locked = True
        return True

    def release(self) -> None:
        step()
        if not self.locked:
            raise RuntimeError("release unlocked lock")
        self.locked = False


class SteppedDeque(deque[Any]):
    """A deque each of whose operations is a step."""

    def __getitem__(self, index: Any) -> Any:
        step()
        return super().__getitem__(index)

    def append(self, item: Any) -> None:
        step()
        super().append(item)

    def popleft(self) -> Any:
        step()
        return super().popleft()
