# SPDX-License-Identifier: MIT
"""Files of a run: written atomically, found again when the run is resumed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import xarray as xr

from pybridge import errors
from pybridge._files import replacing
from pybridge._validation import Array


class Store:
    """A directory with the results of one configuration, stage by stage.

    Parameters
    ----------
    directory : Path
        Made where it does not exist.
    configuration : str
        The configuration as JSON. A directory that holds results of another one is refused.
    overwrite : bool
        Whether results of another configuration are deleted instead.

    Raises
    ------
    ConfigurationError
        The directory holds results of another configuration.
    FileAccessError
        The directory cannot be made.
    """

    def __init__(self, directory: Path, configuration: str, *, overwrite: bool = False) -> None:
        self.directory = directory
        marker = directory / "configuration.json"
        try:
            (directory / "stages").mkdir(parents=True, exist_ok=True)
            if marker.exists() and json.loads(marker.read_text()) != json.loads(configuration):
                if not overwrite:
                    raise errors.ConfigurationError(
                        f"{directory} holds results of another configuration: choose another "
                        "directory with --output, or delete them with --overwrite"
                    )
                shutil.rmtree(directory / "stages")
                (directory / "stages").mkdir()
            with replacing(marker) as temporary:
                temporary.write_text(configuration)
        except OSError as error:
            raise errors.FileAccessError(f"{directory}: {error.strerror}") from None

    def path(self, name: str) -> Path:
        """Return the path of a stage's file."""
        return self.directory / "stages" / name

    def dataset(self, name: str, make: Callable[[], xr.Dataset]) -> xr.Dataset:
        """Return a stage's dataset: as stored, or made and stored now."""
        path = self.path(f"{name}.nc")
        if not path.exists():
            write_dataset(make(), path)
        return read_dataset(path)

    def arrays(self, name: str) -> dict[str, Array] | None:
        """Return arrays kept by `keep`, or None."""
        path = self.path(f"{name}.npz")
        if not path.exists():
            return None
        with np.load(path) as data:
            return {key: data[key] for key in data.files}

    def keep(self, name: str, arrays: dict[str, Array]) -> None:
        """Keep arrays until they are asked for or `drop`ped: the middle of a stage."""
        with replacing(self.path(f"{name}.npz")) as temporary:
            np.savez(temporary, **arrays)  # type: ignore[arg-type]

    def drop(self, name: str) -> None:
        """Delete what `keep` kept."""
        self.path(f"{name}.npz").unlink(missing_ok=True)


def write_dataset(dataset: xr.Dataset, path: Path) -> None:
    """Write a dataset as netCDF, atomically."""
    with replacing(path) as temporary:
        dataset.to_netcdf(temporary, engine="h5netcdf")


def read_dataset(path: Path) -> xr.Dataset:
    """Read a dataset into memory."""
    try:
        with xr.open_dataset(path, engine="h5netcdf") as dataset:
            return dataset.load()
    except OSError as error:
        raise errors.FileFormatError(
            f"{path}: not a readable netCDF file ({error}); delete it to make it again"
        ) from None
