"""A command line that nothing in the environment steers."""

import pytest

# What would make rich take a pipe for a terminal, or Python talk on stderr.
STEERING = ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS", "PYTHONWARNINGS")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in STEERING:
        monkeypatch.delenv(variable, raising=False)
