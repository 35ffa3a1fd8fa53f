"""Which process are we? What was parked in the parent does not exist in the child of a fork.

`epoch` grows in the child of every fork, so an object that remembers the epoch it was made in knows whether its thread,
task or loop still exists. Only the child's one thread writes it, before any other starts. It is the first that this
module registers, so whatever else runs in the child finds it new.
"""

import os
from collections.abc import Callable
from typing import TypeVar

_Function = TypeVar("_Function", bound=Callable[[], object])

epoch: int = 0


def in_child(function: _Function) -> _Function:
    """Register what runs in the child of every fork, in the order of registration. Usable as a decorator.

    What one of them raises goes to `sys.unraisablehook`, and the next one runs all the same: Python sees to that.
    """
    if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
        os.register_at_fork(after_in_child=function)
    return function


@in_child
def _count() -> None:
    global epoch  # noqa: PLW0603  # the one thing this module is for
    epoch += 1
