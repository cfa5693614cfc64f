# SPDX-License-Identifier: MIT
"""The life of objects of the Fortran core that Python owns."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any


def freed_with(
    owner: object, free: Callable[[int], Any], handle: int
) -> weakref.finalize[Any, Any]:
    """Have a handle freed when its owner is collected.

    Not when Python ends: threads may be inside the core still, and the system frees all memory.
    """
    finalizer = weakref.finalize(owner, free, handle)
    finalizer.atexit = False
    return finalizer
