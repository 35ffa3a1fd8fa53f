"""The command line: `python -m aiopark`, also installed as `aiopark`."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from aiopark._cli._demo import demo
from aiopark._cli._doctor import doctor
from aiopark._cli._found import version
from aiopark._cli._report import show

if TYPE_CHECKING:
    from collections.abc import Sequence

_COMMANDS = {
    "demo": (demo, "show what aiopark does, in steps that are measured here and now"),
    "doctor": (doctor, "tell what aiopark found on this machine, and test that it works"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and print its report on stdout.

    Args:
        argv: the arguments after the program's name; those of this process if None.

    Returns:
        The exit code: 0 if everything holds, 1 if something does not.

    Raises:
        SystemExit: code 2 and the usage on stderr if the arguments are wrong; code 0 after --help and --version.

    Example:
        >>> from aiopark._cli import main
        >>> main(["--version"])
        Traceback (most recent call last):
            ...
        SystemExit: 0
    """
    parser = argparse.ArgumentParser(
        prog="aiopark",
        description="Park asyncio and trio tasks until a thread, native code or another process unparks them.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"aiopark {version('aiopark')}")
    commands = parser.add_subparsers(dest="command", metavar="command", required=True, title="commands")
    for name, (_, summary) in _COMMANDS.items():
        commands.add_parser(name, help=summary, description=f"{summary.capitalize()}.", allow_abbrev=False)
    run, _ = _COMMANDS[parser.parse_args(argv).command]
    try:
        return 0 if show(run()) else 1
    except BrokenPipeError:  # as in `aiopark doctor | head`
        # Python flushes stdout at exit, and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
