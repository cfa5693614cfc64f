# SPDX-License-Identifier: MIT
"""The command ``pybridge``."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pybridge import errors


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        status: int = options.function(options)
    except errors.ConfigurationError as error:
        print(f"pybridge: {error}", file=sys.stderr)
        return 2
    except errors.PybridgeError as error:
        print(f"pybridge: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "pybridge":
            raise
        print(
            f'pybridge: this command needs the package "{error.name}": '
            'pip install "pybridge[experiments]"',
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("pybridge: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pybridge",
        description="Fortran forecast models, 4D-Var and Keras networks in one circle.",
    )
    parser.add_argument("--version", action="version", version=f"pybridge {_version()}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    run = commands.add_parser(
        "run",
        help="run an experiment, or go on with an interrupted one",
        description="Run the experiment of a TOML file and write its table, pictures and netCDF. "
        "A run that was interrupted goes on where it was: at most ten cycles are made again.",
    )
    run.add_argument("file", type=Path, metavar="FILE.toml", help="the experiment")
    run.add_argument(
        "--output", type=Path, metavar="DIR", help="where results go (default: runs/FILE)"
    )
    run.add_argument(
        "--overwrite", action="store_true", help="delete results of another configuration in DIR"
    )
    run.add_argument("--quiet", action="store_true", help="write the result alone")
    run.set_defaults(function=_run)

    convert = commands.add_parser(
        "convert",
        help="write a Keras model as a network file for Fortran",
        description="Write a Keras model as a network file, which the Fortran library loads.",
    )
    convert.add_argument("model", type=Path, metavar="MODEL.keras")
    convert.add_argument("output", type=Path, metavar="OUT.pbn")
    convert.set_defaults(function=_convert)

    verify = commands.add_parser(
        "verify",
        help="compare a network file with its Keras model",
        description="Compare outputs, Jacobian-vector and vector-Jacobian products of a network "
        "file in Fortran with those of its Keras model in TensorFlow.",
    )
    verify.add_argument("network", type=Path, metavar="FILE.pbn")
    verify.add_argument("model", type=Path, metavar="MODEL.keras")
    verify.set_defaults(function=_verify)

    inspect = commands.add_parser("inspect", help="show what a network file holds")
    inspect.add_argument("network", type=Path, metavar="FILE.pbn")
    inspect.set_defaults(function=_inspect)
    return parser


def _version() -> str:
    from pybridge import __version__

    return __version__


def _run(options: argparse.Namespace) -> int:
    from pybridge import experiments

    configuration = experiments.load_configuration(options.file)
    _load_tensorflow()
    directory = options.output or Path("runs") / options.file.stem
    experiments.run(configuration, directory, overwrite=options.overwrite, quiet=options.quiet)
    return 0


def _convert(options: argparse.Namespace) -> int:
    from pybridge.network import Network

    network = Network.from_keras(_keras_model(options.model))
    network.save(options.output)
    print(f"{options.output}: {network!r}")
    return 0


def _verify(options: argparse.Namespace) -> int:
    from pybridge.network import Network

    report = Network.load(options.network).verify(_keras_model(options.model))
    print(report)
    return 0 if report.passed else 1


def _inspect(options: argparse.Namespace) -> int:
    from pybridge.network import Network

    print(Network.load(options.network).summary())
    return 0


def _keras_model(path: Path) -> object:
    _load_tensorflow()
    import keras

    import pybridge.keras  # noqa: F401  (registers our layers)

    if not path.is_file():
        raise errors.FileAccessError(f"{path}: no such file")
    try:
        return keras.saving.load_model(path, compile=False)
    except (ValueError, TypeError, OSError, KeyError) as error:
        raise errors.FileFormatError(f"{path}: not a readable Keras model: {error}") from None


def _load_tensorflow() -> None:
    """Import TensorFlow without its notes about the machine, which no setting of its own stops.

    They are shown where the import fails.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as notes:
        os.dup2(notes.fileno(), 2)
        try:
            import tensorflow

            # The search for accelerators has notes as well
            tensorflow.config.list_physical_devices()
        except BaseException:
            notes.seek(0)
            os.write(stderr, notes.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


if __name__ == "__main__":
    sys.exit(main())
