# SPDX-License-Identifier: MIT
"""What a run shows on the way: stages, progress bars, times, tables."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import rich.box
import rich.console
import rich.progress
import rich.table


class Report:
    """Writes stages and progress to standard error, and tables to standard output.

    Progress bars appear on a terminal only.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._err = rich.console.Console(stderr=True, quiet=quiet, highlight=False)
        self._out = rich.console.Console(
            highlight=False, width=None if sys.stdout.isatty() else 120
        )
        self.seconds: dict[str, float] = {}

    def say(self, text: str) -> None:
        """Write a line to standard error."""
        self._err.print(text, soft_wrap=True, markup=False)

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Callable[[], Any]]:
        """Announce a stage, give a function that advances its progress bar, and take its time."""
        begin = time.perf_counter()
        if not self._err.is_terminal:
            self.say(f"{name} ...")
        with rich.progress.Progress(
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TimeElapsedColumn(),
            console=self._err,
            transient=True,
            disable=not self._err.is_terminal or self._quiet,
        ) as progress:
            task = progress.add_task(name, total=total)
            yield lambda: progress.advance(task)
        seconds = time.perf_counter() - begin
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        self.say(f"{name}: {seconds:.1f} s")

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Write a table to standard output."""
        table = rich.table.Table(title=title, title_justify="left", box=rich.box.SIMPLE_HEAD)
        for number, column in enumerate(columns):
            table.add_column(column, justify="right" if number else "left", no_wrap=True)
        for row in rows:
            table.add_row(*row)
        self._out.print(table)

    def tell(self, text: str) -> None:
        """Write a line of the result to standard output."""
        self._out.print(text, soft_wrap=True, markup=False)
