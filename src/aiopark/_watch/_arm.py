"""An arm: one wait of a ring on one word. Who writes what, and when: see `_loop_ring`."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import ctypes

    from aiopark._watch._protocol import Hint
    from aiopark._word import Word

# 0: woken. EAGAIN: the word held something else. ECANCELED: the ring's thread has ended. EINTR: look again.
EXPECTED: Final = frozenset({0, -errno.EAGAIN, -errno.ECANCELED, -errno.EINTR})


class Arm:
    """A wait in the kernel. The owner of the word waits through it again, if it sleeps again before it is done."""

    __slots__ = ("again", "done", "early", "failure", "hint", "memory", "token", "word")

    def __init__(self, token: object, word: Word, hint: Hint) -> None:
        self.token: Final = token  # of its ring; no reference to that, which is the loop's alone
        self.word: Final = word
        self.hint: Final = hint
        # The kernel reads it when a wait is submitted. None: taken off.
        self.memory: ctypes.c_uint32 | None = word._cell
        self.failure: OSError | None = None
        self.done = False
        self.early = False  # hinted, and not reaped yet
        self.again: int | None = None  # what the word held when the owner went to sleep after an early hint

    def complete(self, result: int) -> None:
        """Take note that the kernel waits no more."""
        if result not in EXPECTED:
            text = f"io_uring's FUTEX_WAIT on the word at {self.word.address:#x}: {os.strerror(-result)}"
            self.failure = OSError(-result, text)
        self.done = True
        self.memory = None
        self.hint()

    def take_off(self) -> None:
        """Have the kernel wait no longer, if it does. From any thread."""
        memory, self.memory = self.memory, None
        if memory is not None:  # else the word may be closed by now
            self.word._wake_all()
