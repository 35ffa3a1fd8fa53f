"""aiopark.h compiles without a warning wherever it should, nowhere else, and parks and unparks without Python."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import aiopark

C = ["-std=c11", "-x", "c"]
CPP = ["-std=c++17", "-x", "c++"]
TWO_COMPILERS = pytest.mark.parametrize("compiler", ["gcc", "clang"])
GNU = ["-std=gnu11"]
SEVERE = ["-Wconversion", "-Wshadow", "-Wstrict-prototypes", "-Wundef"]
MODELS = Path(__file__).parent / "models"
INCLUDE = aiopark.get_include()

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


SYSTEMS = {
    "linux": ([], None),
    # Not macOS and not Windows: their calls over Linux' futex.
    "macos": (["-U__linux__", "-D__APPLE__", "-DULOCK_WAIT", f"-I{MODELS}"], "../os/macos_model.c"),
    "windows": (["-U__linux__", "-D_WIN32", "-DONE_PROCESS", f"-I{MODELS}"], "../os/windows_model.c"),
}


def over_model(build, system, source, *flags):
    """Compile and run a program whose aiopark.h takes this for another system."""
    macros, model = SYSTEMS[system]
    objects = [build("cc", *GNU, *macros, "-c", sources=(source,))]
    if model:
        objects.append(build("cc", *GNU, "-DULOCK_WAIT", "-c", sources=(model,)))
    done = subprocess.run([build("cc", "-pthread", *flags, sources=tuple(objects))], check=False, timeout=60)
    assert done.returncode == 0, f"modulo 250, the line of {source} after which it failed"


@needs_linux
@pytest.mark.parametrize("system", ["macos", "windows"])
def test_over_the_model(build, system):
    over_model(build, system, "self_test.c")


@needs_linux
@pytest.mark.parametrize(
    ("system", "call"), [("linux", "syscall"), ("macos", "__ulock_wake"), ("windows", "WakeByAddressAll")]
)
def test_a_coalesced_unpark_wakes_only_if_no_permit_is_in_store(build, system, call):
    over_model(build, system, "wakes.c", f"-Wl,--wrap={call}")


def test_the_documentation_shows_every_function_with_its_arguments():
    header = Path(INCLUDE, "aiopark.h").read_text("utf-8")
    functions = re.findall(r"^static inline (\w+ aiopark_(?!detail_)\w+\(.*\)) {$", header, re.MULTILINE)
    assert len(functions) == 10
    shown = Path(__file__).parents[2].joinpath("docs", "words.md").read_text("utf-8")
    assert not [function for function in functions if f"| `{function}` |" not in shown]


def errors(compiler, *flags, calls):
    """Compile the calls, each in a function with a `uint32_t *word`, and return what the compiler says."""
    found = shutil.which(compiler)
    if found is None:
        pytest.skip(f"there is no {compiler} here")
    functions = [f"void use{number}(uint32_t *word) {{ {call}; }}\n" for number, call in enumerate(calls)]
    command = [found, "-fsyntax-only", "-Wall", "-Wextra", f"-I{INCLUDE}", *flags, "-"]
    program = "".join(['#include "aiopark.h"\n', *functions])
    done = subprocess.run(command, input=program, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == (done.stderr == "")
    return done.stderr


@needs_linux
@pytest.mark.parametrize(("compiler", "flags"), [("gcc", C), ("clang", C), ("g++", CPP), ("clang++", CPP)])
@pytest.mark.parametrize("family", ["aiopark", "aiopark_shared"])
def test_arguments_that_do_not_belong_there_are_errors(compiler, flags, family):
    by_type = [*flags, "-Werror=int-conversion"] if flags is C else flags
    assert not errors(compiler, *by_type, calls=[f"{family}_park_timeout(word, 5)"])
    assert "conver" in errors(compiler, *by_type, calls=[f"{family}_park_timeout(5, word)"])
    one_more = ["prepare_park(word, 0)", "park(word, 0)", "park_timeout(word, 5, 0)", "unpark(word, 1)"]
    said = errors(compiler, *flags, calls=[f"{family}_{call}" for call in one_more])
    assert said.count("error: too many arguments") + said.count("error: no matching function") == len(one_more)


@pytest.mark.parametrize(
    ("compiler", "flags"),
    [
        pytest.param("gcc", ["-D_GNU_SOURCE", *C, *SYSTEMS["windows"][0]], marks=needs_linux),
        pytest.param("g++", [*CPP, *SYSTEMS["windows"][0]], marks=needs_linux),
        ("x86_64-w64-mingw32-gcc", C),
        ("x86_64-w64-mingw32-g++", CPP),
    ],
    ids=["model", "model C++", "mingw", "mingw C++"],
)
def test_windows_has_no_function_that_would_reach_another_process(compiler, flags):
    calls = ["prepare_park(word)", "park(word)", "park_timeout(word, 5)", "unpark(word)", "unpark_coalesced(word)"]
    assert not errors(compiler, *flags, calls=[f"aiopark_{call}" for call in calls])
    said = errors(compiler, *flags, calls=[f"aiopark_shared_{call}" for call in calls])
    assert len(re.findall(r"error: .*WaitOnAddress_reaches_no_other_process", said)) == len(calls)


@pytest.mark.skipif(sys.platform != "win32", reason="the same for Windows, cross-compiled")
@pytest.mark.parametrize("program", ["self_test.exe", "self_test-O0.exe"])
def test_threads_on_windows(cross_compiled, program):
    done = subprocess.run([cross_compiled / program], check=False, timeout=60)
    assert done.returncode == 0, "modulo 250, the line of self_test.c after which it failed"


def run_self_test(build, compiler, *flags):
    program = build(compiler, *GNU, *flags, "-pthread", sources=("self_test.c",))
    done = subprocess.run([program], check=False, timeout=60)
    assert done.returncode == 0, "modulo 250, the line of self_test.c after which it failed"
