"""Event loops, clocks and permit cells whose operations are steps: what the models share."""

from __future__ import annotations

import asyncio
import math
import time
from types import SimpleNamespace
from typing import ClassVar

from greenlet import getcurrent

from aiopark import ClosedError, _parker, _thread_parker, _thread_waiter
from aiopark._permit import PermitCell
from model.explore import SteppedDict, SteppedLock, step, wait_for

DEADLINE = 1.0


class SteppedPermitCell(SteppedDict, PermitCell):
    """A permit cell each of whose operations is a step."""


class ScriptedLoop:
    """The loop of one task, which is one actor; and the clock of everybody."""

    running: ClassVar[dict[object, ScriptedLoop]] = {}  # by actor

    def __init__(self):
        self.now = 0.0
        self.cancelled = False
        self.kept = set()

    def time(self):
        step()
        return self.now

    def waiter(self):
        return ScriptedWaiter(self)

    def checkpoint(self):
        return ScriptedWaiter(self, woken=True)

    def source(self, make):
        raise AssertionError("nothing is watched here")

    def run(self, coroutine):
        """Run it to its end; it never yields, since its waiters wait as actors do."""
        self.running[getcurrent()] = self
        try:
            coroutine.send(None)
        except StopIteration as stop:
            return stop.value
        except (asyncio.CancelledError, ClosedError) as error:
            return type(error).__name__
        finally:
            self.running.pop(getcurrent(), None)
        raise AssertionError("the scripted loop never yields")


class ScriptedWaiter:
    """Sleeps until woken, timed out or cancelled. What the mailbox does in between is another model."""

    since = 0.0

    def __init__(self, loop, woken=False):
        self.loop, self.woken, self.deadline, self.actor = loop, woken, math.inf, getcurrent()

    def wake_at(self, deadline):
        self.deadline = deadline

    def __await__(self):
        loop = self.loop
        wait_for(lambda: self.woken or loop.now >= self.deadline or loop.cancelled)
        if loop.cancelled:
            loop.cancelled = False
            raise asyncio.CancelledError
        return iter(())

    def wake(self):
        step()
        self.woken = True

    def coroutine_closed(self):
        pass  # an actor that is unwound, after somebody was lost

    def never_wakes(self):
        return False

    def who(self):
        return "an actor"


def script(monkeypatch):
    """Have Parker and ThreadParker run on actors. Return the clock of the threads."""
    monkeypatch.setattr(_parker, "running_loop", lambda: ScriptedLoop.running[getcurrent()])
    clock = SimpleNamespace(now=0.0)

    def monotonic():
        step()
        return clock.now

    for module in (_thread_parker, _thread_waiter):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=monotonic))
    locks = SimpleNamespace(
        allocate_lock=lambda: SteppedLock(lambda: clock.now), get_ident=lambda: id(getcurrent()), sleep=time.sleep
    )
    monkeypatch.setattr(_thread_waiter, "_thread", locks)
    return clock
