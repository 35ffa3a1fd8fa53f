"""Any sequence of verbs, against a model of two booleans: is a permit stored, is it closed?"""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

import aiopark


class OneParker(RuleBasedStateMachine):
    handles = Bundle("handles")

    def __init__(self):
        super().__init__()
        self.runner = asyncio.Runner()
        self.parker = aiopark.Parker()
        self.stored = self.closed = False

    @rule()
    def unpark(self):
        self.parker.unpark()
        self.stored = True

    @rule(target=handles)
    def unpark_lock(self):
        self.stored = True
        return self.parker.unpark_lock()

    @rule(handle=handles)
    def wake(self, handle):
        handle.unpark()

    @rule()
    def prepare_park(self):
        self.parker.prepare_park()
        self.stored = False

    @rule()
    def close(self):
        self.parker.close()
        self.closed = True

    @rule(timeout=st.sampled_from([0, -1, 1e-6, float("-inf")]))
    def park_timeout(self, timeout):
        if self.closed and not self.stored:
            with pytest.raises(aiopark.ClosedError):
                self.runner.run(self.parker.park_timeout(timeout))
        else:
            assert self.runner.run(self.parker.park_timeout(timeout)) is self.stored
        self.stored = False

    @rule()
    def cancelled_park(self):
        async def main():
            task = asyncio.create_task(self.parker.park())
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            return task.cancelled()

        if not self.closed:
            assert self.runner.run(main()) is True

    @rule()
    def park_that_is_woken(self):
        async def main():
            asyncio.get_running_loop().call_soon(self.parker.unpark)
            await self.parker.park()
            await asyncio.sleep(0)  # the unpark may come after a park that found a permit

        if not self.closed:
            self.runner.run(main())
            self.runner.run(asyncio.sleep(0))
            self.stored = not self.parker.timed_out()

    @invariant()
    def agrees(self):
        assert self.parker.timed_out() is not self.stored
        assert "owner" not in self.parker._cell

    def teardown(self):
        self.runner.close()


class OneThreadParker(RuleBasedStateMachine):
    handles = Bundle("handles")

    @initialize(on_word=st.booleans())
    def begin(self, on_word):
        self.parker = aiopark.ThreadParker(aiopark.Word() if on_word else None)
        self.stored = self.closed = False

    @rule()
    def unpark(self):
        self.parker.unpark()
        self.stored = True

    @rule(target=handles)
    def unpark_lock(self):
        self.stored = True
        return self.parker.unpark_lock()

    @rule(handle=handles)
    def wake(self, handle):
        handle.unpark()

    @rule()
    def close(self):
        self.parker.close()
        self.closed = True

    @rule()
    def prepare_park(self):
        if not self.closed:  # the word may be another's by then, and keeps its permit
            self.parker.prepare_park()
            self.stored = False

    @rule(timeout=st.sampled_from([0, -1, 1e-6, float("-inf")]))
    def park_timeout(self, timeout):
        if self.closed and not self.stored:
            with pytest.raises(aiopark.ClosedError):
                self.parker.park_timeout(timeout)
        else:
            assert self.parker.park_timeout(timeout) is self.stored
        self.stored = False

    @invariant()
    def agrees(self):
        if hasattr(self, "parker"):
            assert self.parker.timed_out() is not self.stored
            assert "owner" not in self.parker._cell


OneParker.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestOneParker = OneParker.TestCase
OneThreadParker.TestCase.settings = OneParker.TestCase.settings
TestOneThreadParker = OneThreadParker.TestCase
