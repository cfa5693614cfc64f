# SPDX-License-Identifier: MIT
"""What a compiler needs to link pybridge from Fortran, C and C++: the command `pybridge-config`.

Imports nothing but the standard library, so that a Makefile may call it as often as it likes.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from pybridge import __version__

__all__ = ["main"]

_EXAMPLES = """\
examples:
  gfortran model.f90 $(pybridge-config --fflags --libs)
  cc model.c $(pybridge-config --cflags --libs)
  ifx model.f90 $(pybridge-config --interface) $(pybridge-config --libs)
  PKG_CONFIG_PATH=$(pybridge-config --pkgconfigdir) pkg-config --cflags --libs pybridge
"""


def _installed(*parts: str) -> Path:
    """Return the path of an installed file, in an editable install wherever it was built.

    Raises
    ------
    FileNotFoundError
        The installation lacks the file.
    """
    found = files("pybridge").joinpath(*parts)
    if not (isinstance(found, Path) and found.is_file()):
        raise FileNotFoundError(f"{'/'.join(parts)} is missing from this installation of pybridge")
    return found


def _runtime() -> list[str]:
    """Return the libraries of the Fortran compiler, which C and other compilers must name."""
    prefix = "runtime="
    for line in _installed("lib", "pkgconfig", "pybridge.pc").read_text().splitlines():
        if line.startswith(prefix):
            return line.removeprefix(prefix).split()
    return []


def _flags(options: argparse.Namespace) -> list[str]:
    flags = []
    if options.fflags:
        flags += [f"-I{_installed('modules', 'pybridge.mod').parent}"]
    if options.cflags:
        flags += [f"-I{_installed('include', 'pybridge.h').parent}"]
    if options.interface:
        flags += [str(_installed("include", "pybridge_interface.f90"))]
    if options.libs and options.shared:
        suffix = "dylib" if sys.platform == "darwin" else "so"
        directory = _installed("lib", f"libpybridge.{suffix}").parent
        flags += [f"-L{directory}", "-lpybridge", f"-Wl,-rpath,{directory}"]
    elif options.libs:
        # By its path: -lpybridge would prefer the shared library beside it
        flags += [str(_installed("lib", "libpybridge.a")), *_runtime()]
    if options.pkgconfigdir:
        flags += [str(_installed("lib", "pkgconfig", "pybridge.pc").parent)]
    return flags


def main(arguments: Sequence[str] | None = None) -> int:
    """Print compiler options, quoted for a shell; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="pybridge-config",
        description="Print what a compiler needs to use pybridge's library.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--fflags", action="store_true", help="options to compile Fortran (module files)")
    add("--cflags", action="store_true", help="options to compile C and C++ (pybridge.h)")
    add("--libs", action="store_true", help="options to link, by any compiler")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--static", action="store_true", help="the static library (default)")
    kind.add_argument("--shared", action="store_true", help="the shared library, and its path")
    add(
        "--interface",
        action="store_true",
        help="Fortran source of the interfaces, to compile "
        "with a compiler that cannot read gfortran's module files",
    )
    add("--pkgconfigdir", action="store_true", help="directory of pybridge.pc")
    add("--version", action="version", version=__version__)
    options = parser.parse_args(arguments)
    try:
        flags = _flags(options)
    except FileNotFoundError as error:
        print(f"pybridge-config: {error}", file=sys.stderr)
        return 1
    if not flags:
        parser.print_usage(sys.stderr)
        return 2
    print(shlex.join(flags))
    return 0


if __name__ == "__main__":
    sys.exit(main())
