"""The backends that can run here: the real ones, and those of other systems over a model of their calls."""

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aiopark._cell import full_fence
from aiopark._os import Backend, Futex, Portable, Ulock, WaitAddress, _linux
from aiopark._os._io_uring import Ring

HERE = Path(__file__).parent

# The generations of macOS' calls, as -D flags of macos_model.c.
GENERATIONS = ("OS_SYNC", "ULOCK_WAIT2", "ULOCK_WAIT")

REAL: dict[str, type[Any]] = {
    kind.name: kind for kind in (Futex, WaitAddress, Ulock, Portable) if kind.refusal() is None
}
# The second call of a 32-bit Linux, which nobody meets where the first one works.
TIME64 = ["futex-time64"] if "futex" in REAL and ctypes.sizeof(ctypes.c_void_p) == 4 else []
# The models are written over Linux' futex.
MODELS = ["model-waitaddress", *(f"model-{generation.lower()}" for generation in GENERATIONS)]
BACKENDS = [*REAL, *TIME64, *(MODELS if sys.platform.startswith("linux") else [])]


@pytest.fixture(scope="session")
def compile_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Return a function that compiles a model, once for the same flags, and returns the path of the library."""
    if not sys.platform.startswith("linux"):
        pytest.skip("the models are written over Linux' futex")
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("the models need a C compiler, cc")
    libraries: dict[tuple[str, ...], str] = {}

    def compile_(source: str, *generations: str) -> str:
        key = (source, *generations)
        if key not in libraries:
            target = tmp_path_factory.mktemp("model") / f"{'-'.join(key)}.so"
            flags = ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
            defines = [f"-D{generation}" for generation in generations]
            unused = ["-Wno-unused-function"]  # a library with no generation calls nothing
            subprocess.run([compiler, *flags, *unused, *defines, "-o", target, HERE / source], check=True)
            libraries[key] = str(target)
        return libraries[key]

    return compile_


@pytest.fixture(scope="session")
def macos_model(compile_model: Callable[..., str]) -> Callable[..., tuple[Ulock, ctypes.CDLL]]:
    """Return a function from generations to macOS' backend over the MODEL of macOS, not macOS, and the model."""

    def load(*generations: str) -> tuple[Ulock, ctypes.CDLL]:
        path = compile_model("macos_model.c", *generations)
        backend = Ulock._load(path)
        assert isinstance(backend, Ulock), backend
        library = ctypes.CDLL(path)
        library.model_last_timeout.restype = ctypes.c_uint64
        return backend, library

    return load


@pytest.fixture(scope="session")
def windows_model(compile_model: Callable[..., str]) -> WaitAddress:
    """Return Windows' backend over the MODEL of Windows, not Windows."""
    library = ctypes.CDLL(compile_model("windows_model.c"), use_errno=True)
    return WaitAddress(library["WaitOnAddress"], library["WakeByAddressSingle"], library["WakeByAddressAll"])


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Return each backend that can run here. The names of the models, which are not the systems, say so."""
    name: str = request.param
    if name in REAL:
        return REAL[name].create()
    if name == "futex-time64":
        return Futex(_linux._FUTEX_TIME64, _linux.Timespec64)
    if name == "model-waitaddress":
        return request.getfixturevalue("windows_model")
    return request.getfixturevalue("macos_model")(name.removeprefix("model-").upper())[0]


@pytest.fixture
def futex() -> Futex:
    futex = Futex.create()
    if futex is None:
        pytest.skip(str(Futex.refusal()))
    return futex


@pytest.fixture
def eventfd() -> Iterator[int]:
    fileno = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    yield fileno
    os.close(fileno)


@pytest.fixture
def ring(eventfd: int) -> Iterator[Ring]:
    ring = Ring(eventfd, full_fence)
    yield ring
    ring.close()
