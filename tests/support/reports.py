"""What the reports of the command line hold here, and how to read them."""

from __future__ import annotations

import re
import sys

from aiopark._cli import _found
from aiopark._watch import WATCHERS, refused_watchers, watcher
from aiopark.lowlevel import default_backend

STEPS = ["thread unparks task", "task unparks thread", "no thread a task", "task deadline", "thread deadline"]
STEPS += ["cancellation", "thread unparks trio", "process unparks task"]
SHARES = default_backend().supports_shared
# What cannot be done here is left out.
LEFT_OUT = {STEPS[6]: not _found.version("trio"), STEPS[7]: not SHARES}
DONE = [step for step in STEPS if not LEFT_OUT.get(step)]
FACTS = ["aiopark", "system", "Python", "backend", "memory fence", "watcher", "doorbell", "asyncio", "trio", "anyio"]
OTHER_WATCHERS = [name for name in WATCHERS if name != watcher() and name not in refused_watchers()]
SELF_TESTS = ["thread wake", "thread deadline"]
SELF_TESTS += [f"{loop} {what}" for loop in _found.loops() for what in ("wake", "deadline", "word")]
SELF_TESTS += [f"words, {name}" for name in OTHER_WATCHERS]
ESCAPE = "\x1b"
TABLE = "┌" if sys.platform == "win32" else "╭"  # the corner of rich's; it takes no chances on a console of Windows


def cells(output: str) -> dict[str, tuple[str, str]]:
    """Read a report: from the name of a line to its status and text, whichever way it was printed."""
    found = {}
    for line in output.splitlines():
        if line.startswith(("│", "|")):
            parts = [part.strip() for part in re.split(r"[│|]", line)[1:-1]]
        elif line.startswith("  "):
            parts = [part.strip() for part in re.split(r" {2,}", line.strip(), maxsplit=2)]
        else:
            continue
        status = parts.pop(0) if parts[0] in {"", "ok", "FAILED"} else ""
        found[parts[0]] = (status, "  ".join(parts[1:]))
    return found
