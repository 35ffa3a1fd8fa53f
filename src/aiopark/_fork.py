"""Which process are we? What was parked in the parent is a ghost in the child.

`epoch` is replaced in the child of every fork, so an object that remembers the epoch it was made in knows
whether its thread, task or loop still exists. Only the child's one thread writes it, before any other starts.
"""

import os

epoch: int = 0


def _after_fork_in_child() -> None:
    global epoch  # noqa: PLW0603  # the one thing this module is for
    epoch += 1


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_after_fork_in_child)
