# SPDX-License-Identifier: MIT
"""One call for every experiment."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import xarray as xr

from pybridge.experiments._configuration import Configuration, load_configuration
from pybridge.experiments._report import Report
from pybridge.experiments._store import Store


def run(
    configuration: Configuration | str | os.PathLike[str],
    directory: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    quiet: bool = False,
) -> xr.Dataset:
    """Run an experiment, or what is left of it, and write tables, pictures and netCDF.

    Parameters
    ----------
    configuration : Configuration or path-like
        The experiment, or its file.
    directory : path-like
        Where results go. A run that was interrupted goes on where it was: at most
        ten cycles are made again.
    overwrite : bool
        Whether results of another configuration in this directory are deleted.
    quiet : bool
        Whether nothing is written to standard error.

    Returns
    -------
    xarray.Dataset
        The results, as in ``results.nc``.

    Raises
    ------
    ConfigurationError
        The file is wrong, or the directory holds results of another configuration.
    """
    if not isinstance(configuration, Configuration):
        configuration = load_configuration(configuration)
    store = Store(Path(directory), configuration.model_dump_json(indent=2), overwrite=overwrite)
    report = Report(quiet=quiet)
    # The experiment's own module, which may load TensorFlow, only now
    kind: str = configuration.experiment  # type: ignore[attr-defined]
    module = importlib.import_module(f"pybridge.experiments.{kind}")
    result: xr.Dataset = module.run(configuration, store, report)
    return result
