"""aiopark.h compiles without a warning wherever it should, and parks and unparks without Python."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

C = ["-std=c11", "-x", "c"]
CPP = ["-std=c++17", "-x", "c++"]
TWO_COMPILERS = pytest.mark.parametrize("compiler", ["gcc", "clang"])
GNU = ["-std=gnu11"]
SEVERE = ["-Wconversion", "-Wshadow", "-Wstrict-prototypes", "-Wundef"]
MODELS = Path(__file__).parent / "models"

needs_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="written for Linux")


@pytest.mark.parametrize(
    ("compiler", "flags"),
    [
        ("cc", C),
        ("gcc", C),
        ("gcc", [*C, *SEVERE]),
        ("gcc", ["-std=gnu11", "-D_GNU_SOURCE", "-x", "c"]),
        ("clang", C),
        ("clang", [*C, *SEVERE]),
        ("g++", CPP),
        ("clang++", CPP),
        ("x86_64-w64-mingw32-gcc", C),
        ("x86_64-w64-mingw32-g++", CPP),
        ("i686-w64-mingw32-gcc", C),
    ],
    ids=lambda value: value if isinstance(value, str) else "".join(flag for flag in value if flag[:2] in {"-s", "-W"}),
)
def test_two_translation_units_link(build, compiler, flags):
    second = build(compiler, *flags, "-c", "-DNAME=second", sources=("use.c",))
    main = ["-DMAIN", "-DNAME=first", "-DOTHER=second"]
    first = build(compiler, *flags, "-c", *main, sources=("use.c",))
    if "mingw" in compiler:
        build(compiler, sources=(first, second), libraries=("-lsynchronization",))  # there is no Windows to run it
    else:
        subprocess.run([build(compiler, sources=(first, second))], check=True, timeout=30)


@needs_linux
@TWO_COMPILERS
@pytest.mark.parametrize("bits_of_time", [[], ["-D_TIME_BITS=64", "-D_FILE_OFFSET_BITS=64"]], ids=["", "time64"])
def test_32_bit(build, m32, compiler, bits_of_time):
    m32(compiler)
    build(compiler, *C, "-m32", *bits_of_time, *SEVERE, "-c", "-DNAME=name", sources=("use.c",))
    run_self_test(build, compiler, "-m32", *bits_of_time)


@needs_linux
@TWO_COMPILERS
def test_32_bit_without_the_time32_calls(build, m32, compiler):
    """riscv32, and kernels built without COMPAT_32BIT_TIME, have the _time64 calls only."""
    m32(compiler)
    run_self_test(build, compiler, "-m32", "-include", str(MODELS / "no_time32.h"))


@needs_linux
@TWO_COMPILERS
@pytest.mark.parametrize("optimization", ["-O0", "-O2"])
def test_threads_and_processes(build, compiler, optimization):
    run_self_test(build, compiler, optimization)


@needs_linux
def test_over_the_model_of_macos(build):
    """Not macOS: its calls over Linux' futex."""
    flags = ["-DULOCK_WAIT", f"-I{MODELS}"]
    model = build("cc", *GNU, *flags, "-c", sources=("../os/macos_model.c",))
    test = build("cc", *GNU, *flags, "-U__linux__", "-D__APPLE__", "-c", sources=("self_test.c",))
    subprocess.run([build("cc", "-pthread", sources=(test, model))], check=True, timeout=30)


@needs_linux
def test_over_the_model_of_windows(build):
    """Not Windows: its calls over Linux' futex."""
    flags = [f"-I{MODELS}", "-DONE_PROCESS"]
    model = build("cc", *GNU, "-c", sources=("../os/windows_model.c",))
    test = build("cc", *GNU, *flags, "-U__linux__", "-D_WIN32", "-c", sources=("self_test.c",))
    subprocess.run([build("cc", "-pthread", sources=(test, model))], check=True, timeout=30)


@pytest.mark.skipif(sys.platform != "win32", reason="the same for Windows, cross-compiled")
@pytest.mark.parametrize("program", ["self_test.exe", "self_test-O0.exe"])
def test_threads_on_windows(cross_compiled, program):
    done = subprocess.run([cross_compiled / program], check=False, timeout=60)
    assert done.returncode == 0, "modulo 250, the line of self_test.c after which it failed"


def run_self_test(build, compiler, *flags):
    program = build(compiler, *GNU, *flags, "-pthread", sources=("self_test.c",))
    done = subprocess.run([program], check=False, timeout=60)
    assert done.returncode == 0, "modulo 250, the line of self_test.c after which it failed"
