"""A process of its own: what only another process can show, or what is chosen once a process."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from typing import TYPE_CHECKING, Final

from aiopark._cli._check import LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

    from aiopark._cli._check import Outcome

PATIENCE: Final = LIMIT * 0.8  # seconds that a process has, so that a check which uses one ends within its limit
# Not forked: aiopark starts afresh there, and threads run here.
_spawn: Final = multiprocessing.get_context("spawn")


@contextlib.contextmanager
def process(target: Callable[..., object], *arguments: object) -> Iterator[None]:
    """Run a function of a module in a new process during the block, and a second longer at most. Blocks at its end."""
    other = _spawn.Process(target=target, args=arguments, daemon=True)
    other.start()
    try:
        yield
        other.join(1.0)
    finally:
        other.kill()
        other.join()
        other.close()


def in_process(variables: dict[str, str], function: Callable[[], Outcome]) -> Outcome:
    """Return the outcome of a function that runs in a new process, where these environment variables are set.

    Args:
        variables: set before aiopark is used there.
        function: can be pickled.
    """
    receiver, sender = _spawn.Pipe(duplex=False)
    with receiver, sender, process(_run_and_tell, sender, variables, function):
        sender.close()  # so that the end of the process is seen
        if not receiver.poll(PATIENCE):
            return False, f"it hangs: not done after {PATIENCE:g} s"
        try:
            outcome: Outcome = receiver.recv()
        except EOFError:
            return False, "its process ended with no result"
        return outcome


def _run_and_tell(sender: Connection, variables: dict[str, str], function: Callable[[], Outcome]) -> None:
    os.environ.update(variables)
    try:
        outcome = function()
    except Exception as error:
        outcome = (False, f"{type(error).__name__}: {error}")
    sender.send(outcome)
