# SPDX-License-Identifier: MIT
"""Experiments: configured by a TOML file, run by one call, resumed where they were interrupted."""

from pybridge.experiments._configuration import Configuration, load_configuration
from pybridge.experiments._runner import run

__all__ = ["Configuration", "load_configuration", "run"]
