"""The compilers that are here, and where their output goes."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from ctypes import POINTER, c_int, c_int64, c_long, c_uint, c_void_p
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import aiopark
from aiopark.lowlevel import default_backend

if TYPE_CHECKING:
    from collections.abc import Callable

WINDOWS = sys.platform == "win32"
HERE = Path(__file__).parent
INCLUDE = Path(aiopark.__file__).parent / "include"


@pytest.fixture(scope="session")
def cross_compiled() -> Path:
    """Give the folder of what `.ci/windows` compiled for Windows from the sources in this one."""
    folder = os.environ.get("AIOPARK_CROSS_COMPILED")
    if not folder:
        pytest.skip("AIOPARK_CROSS_COMPILED names no folder with programs for Windows, see .ci/windows")
    return Path(folder)


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Give a function that compiles sources of this folder with no warning, and gives the path of the output."""

    def build_(
        compiler: str, *arguments: str, sources: tuple[str | Path, ...], libraries: tuple[str, ...] = ()
    ) -> Path:
        found = shutil.which(compiler)
        if found is None:
            pytest.skip(f"there is no {compiler} here")
        target = tmp_path_factory.mktemp("native") / "output"
        strict = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]
        places = [HERE / source for source in sources]
        command = [found, *strict, f"-I{INCLUDE}", *arguments, *places, *libraries, "-o", target]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stderr}"
        return target

    return build_


@pytest.fixture(scope="session")
def m32(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], None]:
    """Give a function that skips the test unless the compiler links 32-bit programs."""

    def m32_(compiler: str) -> None:
        found = shutil.which(compiler)
        target = tmp_path_factory.mktemp("m32") / "output"
        # Without the kernel's headers for 32 bits gcc compiles C, but no system call: Debian's gcc-multilib has them.
        program = "#include <sys/syscall.h>\nint main(void) { return SYS_exit != 1; }\n"
        command = [str(found), "-m32", "-x", "c", "-", "-o", str(target)]
        options = {"input": program, "capture_output": True, "text": True}
        if found is None or subprocess.run(command, check=False, **options).returncode != 0:
            pytest.skip(f"{compiler} does not link 32-bit programs here")

    return m32_


@pytest.fixture(scope="session")
def partner(request: pytest.FixtureRequest) -> ctypes.CDLL:
    """Give the library made of partner.c, whose calls give up the GIL."""
    if sys.platform not in {"linux", "win32"}:
        pytest.skip("partner.c is written for Linux and mingw")
    if not default_backend().supports_native_wake:
        pytest.skip("native code cannot wake this backend")
    if WINDOWS:
        path = request.getfixturevalue("cross_compiled") / "partner.dll"
    else:
        build = request.getfixturevalue("build")
        path = build("cc", "-std=gnu11", "-O2", "-shared", "-fPIC", "-pthread", sources=("partner.c",))
    library = ctypes.CDLL(str(path))
    shared = () if WINDOWS else ("shared_park", "shared_unpark", "shared_unpark_coalesced")
    for name, result, *arguments in (
        *((name, None, c_void_p) for name in shared),
        ("start", c_void_p, c_int, c_void_p, c_void_p, c_void_p, c_void_p, c_uint, c_uint),
        ("finish", c_long, c_void_p),
        ("new_turn", c_void_p),
        ("free_turn", None, c_void_p),
        ("park", None, c_void_p),
        ("prepare_park", None, c_void_p),
        ("unpark", None, c_void_p),
        ("unpark_coalesced", None, c_void_p),
        ("unpark_each", None, c_void_p, c_uint),
        ("park_timeout", c_int, c_void_p, c_int64, POINTER(c_int64)),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
