"""Every public name has an example, and every example runs."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import re

import pytest

import aiopark
import aiopark.lowlevel

MODULES = [
    "aiopark",
    *(name for _, name, _ in pkgutil.walk_packages(aiopark.__path__, "aiopark.") if "__main__" not in name),
]


def examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    for name in MODULES:
        try:
            module = importlib.import_module(name)
        except ImportError:  # trio's module where trio is not installed
            continue
        yield from (found for found in finder.find(module) if found.examples)


EXAMPLES = {found.name: found for found in examples()}


@pytest.mark.parametrize("name", EXAMPLES)
def test_example(name):
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(EXAMPLES[name])
    assert result.attempted > 0
    assert result.failed == 0


def public():
    for module in (aiopark, aiopark.lowlevel):
        for name in module.__all__:
            thing = getattr(module, name)
            yield name, thing
            if inspect.isclass(thing) and not getattr(thing, "_is_protocol", False):
                for attribute, value in vars(thing).items():
                    if not attribute.startswith("_") and (inspect.isfunction(value) or isinstance(value, classmethod)):
                        yield f"{name}.{attribute}", value


PUBLIC = dict(public())
# What a backend's methods do is told once, in Backend.
SAME_AS_BACKEND = re.compile(r"(Futex|WaitAddress|Ulock|Portable)\.(wait|wake_one|wake_all|create|refusal)")


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_are_documented(name):
    text = inspect.getdoc(PUBLIC[name]) or ""
    assert text.splitlines()[0].endswith((".", "?"))
    if name == "Backend" or SAME_AS_BACKEND.fullmatch(name):
        return
    assert "Example:" in text
    if not inspect.isclass(PUBLIC[name]):
        kind, _, method = name.rpartition(".")  # of a class, the table of the class says it for all methods
        table = (inspect.getdoc(PUBLIC[kind]) or "") if kind else ""
        assert "block" in (text + table).lower(), "says whether it blocks"
        assert not kind or method in table or method in {"from_buffer", "from_address"}, "stands in the table"


def test_there_are_examples():
    assert len(EXAMPLES) >= 30
