"""How Sphinx builds this documentation. No build needs the network."""

from __future__ import annotations

import importlib.metadata
import inspect
from pathlib import Path
from typing import TYPE_CHECKING

import aiopark
import aiopark.lowlevel

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

project = "aiopark"
author = "The aiopark authors"
project_copyright = author
release = importlib.metadata.version("aiopark")
version = release

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.doctest", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"aiopark {release}"

default_role = "code"  # docstrings put names into single backticks
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # the attributes that a class docstring lists are no separate entries
autodoc_member_order = "bysource"
myst_heading_anchors = 3

# intersphinx would need the network: what belongs to the standard library stays unlinked.
nitpick_ignore = [
    ("py:class", "collections.abc.Callable"),  # standard library
    ("py:class", "TracebackType"),  # standard library, types
]

# Examples that need an optional loop are skipped where it is not installed. README's programs run as well.
doctest_global_setup = f"""
import importlib.util, pathlib

README = pathlib.Path({str(Path(__file__).parent.parent / "README.md")!r})

def missing(*packages):
    return any(importlib.util.find_spec(package) is None for package in packages)
"""

PUBLIC = {f"{module.__name__}.{name}" for module in (aiopark, aiopark.lowlevel) for name in module.__all__}
# Users never call these classes: aiopark makes the objects, or `create()` does.
NOT_CALLED = {"Backend", "Futex", "Portable", "Statistics", "Ulock", "UnparkHandle", "WaitAddress"}

# Signatures name a public class as users import it, not by the file that it lies in.
for _path in PUBLIC:
    _module, _, _name = _path.rpartition(".")
    _thing = getattr(aiopark.lowlevel if _module == "aiopark.lowlevel" else aiopark, _name)
    if inspect.isclass(_thing):
        _thing.__module__ = _module


def hide_constructor(
    _app: Sphinx, what: str, name: str, _thing: object, _options: object, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Leave the signature out where nobody calls the class."""
    if what == "class" and name.rpartition(".")[2] in NOT_CALLED:
        return "", None
    return signature, returns


def nothing_is_missing(_app: Sphinx, env: BuildEnvironment) -> None:
    """Fail the build if the reference lacks a public name."""
    absent = PUBLIC - set(env.get_domain("py").objects)  # type: ignore[attr-defined]
    if absent:
        raise RuntimeError(f"docs/api.md documents no {', '.join(sorted(absent))}")


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-signature", hide_constructor)
    app.connect("env-check-consistency", nothing_is_missing)
