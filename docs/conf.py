"""How Sphinx builds this documentation. No build needs the network."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import TYPE_CHECKING

import aiopark
import aiopark.lowlevel

if TYPE_CHECKING:
    from docutils import nodes
    from docutils.nodes import TextElement
    from sphinx.addnodes import pending_xref
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
napoleon_use_rtype = False  # "True: unparked" in a Returns section explains a value, it names no type
autodoc_member_order = "bysource"
myst_heading_anchors = 3

# intersphinx would need the network: what belongs to the standard library stays unlinked.
nitpick_ignore = [
    ("py:class", "Buffer"),  # collections.abc.Buffer, which is new in Python 3.12
    ("py:class", "collections.abc.Callable"),  # standard library
    ("py:class", "TracebackType"),  # standard library, types
    ("py:class", "Future"),  # standard library, concurrent.futures
    ("py:exc", "queue.Full"),  # standard library
    ("py:class", "_Result"),  # what a Worker's function returns
    ("py:class", "Seconds"),  # any real number
]

# What the examples may use: conditions of skipif, and how to run what stands on a page in another language, or must be
# a program of its own.
doctest_global_setup = f"""
import importlib.util, os, pathlib, re, shutil, subprocess, sys, tempfile
import aiopark, aiopark.lowlevel

DOCS = pathlib.Path({str(Path(__file__).parent)!r})
README = DOCS.parent / "README.md"

def missing(*packages):
    return any(importlib.util.find_spec(package) is None for package in packages)

def no_compiler():
    return shutil.which("cc") is None or not aiopark.lowlevel.default_backend().supports_native_wake

def alone():
    return not aiopark.lowlevel.default_backend().supports_shared

def forced_uring():
    return os.environ.get("AIOPARK_WATCHER") == "uring"

def blocks(path, language):
    return re.findall(rf"^```{{language}}\\n(.*?)^```", path.read_text("utf-8"), re.DOTALL | re.MULTILINE)

def run_program(text):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "program.py")
        path.write_text(text, "utf-8")
        run = subprocess.run([sys.executable, path], capture_output=True, encoding="utf-8", timeout=60)
    return run.stdout + run.stderr

def compiled(text):
    path = pathlib.Path(tempfile.mkdtemp(), "library.so")
    command = ["cc", "-shared", "-fPIC", "-pthread", "-Wall", "-Werror", "-I", aiopark.get_include()]
    subprocess.run([*command, "-x", "c", "-", "-o", path], input=text, encoding="utf-8", check=True)
    return str(path)
"""

PUBLIC = {f"{module.__name__}.{name}" for module in (aiopark, aiopark.lowlevel) for name in module.__all__}
# Users never call these classes: aiopark makes the objects, or `create()` does.
NOT_CALLED = {"Backend", "Futex", "Portable", "Statistics", "Ulock", "UnparkHandle", "WaitAddress", "WorkerStatistics"}


def where_users_import_it(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: TextElement
) -> nodes.Element | None:
    """Link a type in a signature, which names the file that a public class lies in."""
    module, _, name = node.get("reftarget", "").rpartition(".")
    for path in (f"aiopark.{name}", f"aiopark.lowlevel.{name}"):
        if module.startswith("aiopark._") and path in PUBLIC:
            python = env.get_domain("py")
            return python.resolve_xref(env, node["refdoc"], app.builder, "class", path, node, content)
    return None


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
    app.connect("missing-reference", where_users_import_it)
    app.connect("env-check-consistency", nothing_is_missing)
