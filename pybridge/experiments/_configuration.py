# SPDX-License-Identifier: MIT
"""Experiment files: TOML, checked against the experiment's own configuration class."""

from __future__ import annotations

import importlib
import os
import tomllib
from pathlib import Path
from typing import Any

import pydantic

from pybridge import errors

# Where each experiment's configuration class is: module and name. Imported on demand, since an
# experiment's module may load TensorFlow.
_EXPERIMENTS = {
    "lorenz": ("pybridge.experiments.lorenz_configuration", "LorenzConfiguration"),
    "elnino": ("pybridge.experiments.elnino_configuration", "ElNinoConfiguration"),
}


class Configuration(pydantic.BaseModel):
    """Base of all parts of an experiment file: unknown keys are errors, values are fixed."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def load_configuration(path: str | os.PathLike[str]) -> Configuration:
    """Read and check an experiment file.

    Raises
    ------
    FileAccessError
        The file cannot be read.
    ConfigurationError
        It is not TOML, or a key is unknown, missing or wrong; the message names the key.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise errors.FileAccessError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise errors.ConfigurationError(f"{path}: not a text in UTF-8: {error}") from None
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise errors.ConfigurationError(f"{path}: not valid TOML: {error}") from None
    return parse_configuration(values, str(path))


def parse_configuration(values: dict[str, Any], source: str) -> Configuration:
    """Check the values of an experiment file; `source` names it in messages."""
    kind = values.get("experiment")
    if kind not in _EXPERIMENTS:
        known = ", ".join(f'"{name}"' for name in _EXPERIMENTS)
        raise errors.ConfigurationError(f"{source}: experiment: expected {known}, got {kind!r}")
    module, name = _EXPERIMENTS[kind]
    configuration: type[Configuration] = getattr(importlib.import_module(module), name)
    try:
        return configuration.model_validate(values)
    except pydantic.ValidationError as error:
        problems = []
        for problem in error.errors():
            key = ".".join(str(part) for part in problem["loc"]) or "file"
            got = "" if problem["type"] == "missing" else f", got {problem['input']!r}"
            problems.append(f"  {key}: {problem['msg']}{got}")
        raise errors.ConfigurationError("\n".join([f"{source}:", *problems])) from None
