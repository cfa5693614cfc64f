"""Copy the compiler's module files out of the library's private build directory."""

import pathlib
import shutil
import sys

source, target, *names = sys.argv[1:]
for name in names:
    shutil.copyfile(pathlib.Path(source) / name, pathlib.Path(target) / name)
