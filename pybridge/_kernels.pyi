"""The C ABI, as f2py makes it from `_kernels.pyf`; its callers check what it returns."""

from typing import Any

def __getattr__(name: str) -> Any: ...
