# SPDX-License-Identifier: MIT
"""The C ABI is written down in three places, which must say the same."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pybridge.config import _installed

API = Path(__file__).parents[1] / "fortran" / "api"
HEADER = API / "pybridge.h"
INTERFACE = API / "pybridge_interface.f90"
# What `bind(c)` makes of each Fortran declaration, without `const`
C_TYPES = {
    "integer(c_int)": "int",
    "integer(c_int8_t)": "int8_t",
    "integer(c_int64_t)": "int64_t",
    "real(c_double)": "double",
    "type(c_ptr)": "void*",
    "type(c_funptr)": "void*",
    "character(kind=c_char)": "char",
}


def logical_lines(path):
    """Yield Fortran statements without comments and continuation."""
    statement = ""
    for line in path.read_text().splitlines():
        text = line.split("!")[0].strip().removeprefix("& ")
        if text.endswith("&"):
            statement += text[:-1]
        elif text:
            yield statement + text
            statement = ""


def fortran_procedures(path):
    """Return, for each bound procedure, its C type and those of its arguments with their names."""
    procedures = {}
    head = re.compile(
        r"(function|subroutine) (\w+)\((.*?)\)\s*(?:result\((\w+)\))?\s*bind\(c(.*)\)"
    )
    found = None
    abstract = False
    for line in logical_lines(path):
        abstract = (abstract or line == "abstract interface") and line != "end interface"
        match = head.fullmatch(line)
        if match and not abstract:
            kind, name, arguments, result, binding = match.groups()
            label = re.search(r'name="(\w+)"', binding)
            found = label[1] if label else name
            names = [a.strip() for a in arguments.split(",")]
            types = {}
        elif found and line.startswith("end "):
            returned = types[result] if kind == "function" else "void"
            procedures[found] = (returned, [(types[a], a) for a in names])
            found = None
        elif found and "::" in line:
            attributes, variables = line.split("::")
            base, *options = [a.strip() for a in attributes.split(", ")]
            for variable in re.findall(r"(\w+)(\(.*?\))?", variables):
                # The function's result and what is passed by value are plain values
                plain = "value" in options or variable[0] == result
                types.setdefault(variable[0], C_TYPES.get(base, "?") + ("" if plain else "*"))
        # The body's own variables come later and are not asked for
    return procedures


def header_procedures():
    text = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.S)
    procedures = {}
    for returned, name, arguments in re.findall(
        r"^(int|int64_t|void) (\w+)\((.*?)\);", text, re.S | re.M
    ):
        parsed = []
        for argument in arguments.split(","):
            argument = re.sub(r"\bconst\b", "", argument)
            kind, argument_name = re.fullmatch(
                r"\s*(.*?)(\w+(?:\[\d+\])?)\s*", argument, re.S
            ).groups()
            pointers = kind.count("*") + argument_name.count("[")
            base = kind.replace("*", "").strip()
            # An opaque type, a procedure's type, or void itself
            if base.startswith("pybridge_") or base == "void":
                base, pointers = "void*", pointers - 1
            parsed.append((base + "*" * pointers, argument_name.split("[")[0]))
        procedures[name] = (returned, parsed)
    return procedures


@pytest.fixture(scope="module")
def implemented():
    procedures = {}
    for path in sorted(API.glob("pybridge_*_api.f90")):
        procedures |= fortran_procedures(path)
    return procedures


def test_the_parser_sees_the_whole_abi(implemented):
    written = sum(
        path.read_text().count('bind(c, name="pybridge_') for path in API.glob("*_api.f90")
    )
    assert len(implemented) == written >= 48
    assert implemented["pybridge_model_lorenz96"] == (
        "int",
        [("int", "n"), ("double", "dt"), ("double", "forcing"), ("void**", "handle")],
    )


def test_the_header_describes_what_is_implemented(implemented):
    assert header_procedures() == implemented


def test_the_interface_source_describes_what_is_implemented(implemented):
    assert fortran_procedures(INTERFACE) == implemented


def test_c_programs_call_every_function(implemented):
    programs = "".join(path.read_text() for path in (API.parents[1] / "tests").rglob("*.c"))
    assert [name for name in implemented if f"{name}(" not in programs] == []


def test_header_interface_and_core_agree_on_constants():
    def constants(path, pattern):
        return {n.lower(): int(v) for n, v in re.findall(pattern, path.read_text(), re.M)}

    header = constants(HEADER, r"^ +PYBRIDGE_(\w+) = (\d+)")
    interface = constants(INTERFACE, r"parameter :: pybridge_(\w+) = (\d+)")
    status = constants(API.parent / "core" / "pybridge_status.f90", r":: status_(\w+) = (\d+)")
    trajectory = constants(
        API.parent / "core" / "pybridge_trajectory.f90", r":: (workspace_\w+) = (\d+)"
    )
    modes = constants(API / "pybridge_hybrid_api.f90", r":: mode_(\w+) = (\d+)")
    core = status | trajectory | {f"correct_{name}": value for name, value in modes.items()}
    assert len(status) == 16
    assert header == interface == core


@pytest.mark.skipif(not shutil.which("nm"), reason="needs nm, which comes with a compiler")
def test_the_library_exports_the_header_and_the_fortran_77_door(implemented):
    printed = subprocess.run(
        ["nm", "--defined-only", "--extern-only", _installed("lib", "libpybridge.a")],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    symbols = {line.split()[-1] for line in printed.splitlines() if " T " in line}
    door = (API / "pybridge_f77.f90").read_text()
    documented = {f"{name.lower()}_" for name in re.findall(r"^!> +CALL (\w+)\(", door, re.M)}
    assert documented == set(re.findall(r'name="(\w+_)"', door))
    # Beside these, only names that belong to a module: two underscores, module, _MOD_, procedure
    public = {name for name in symbols if not name.startswith("__pybridge_")}
    assert public == set(implemented) | documented


@pytest.mark.skipif(not shutil.which("nm"), reason="needs nm")
def test_the_library_holds_no_variables_that_threads_would_share():
    library = _installed("lib", "libpybridge.a")
    symbols = subprocess.run(["nm", library], capture_output=True, text=True, check=True).stdout
    writable = [
        fields[-1]
        for fields in map(str.split, symbols.splitlines())
        if len(fields) == 3 and fields[1] in "bBdDC"
    ]
    # Tables of type-bound procedures and default values, which the compiler writes and nobody after
    assert any("__vtab_" in name for name in writable)
    constant = re.compile(r"__\w+_MOD___(vtab|def_init|copy|final)_\w+|jumptable\.[\d.]+|_gfort\w+")
    assert [name for name in writable if not constant.fullmatch(name)] == []
