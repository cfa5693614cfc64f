# SPDX-License-Identifier: MIT
"""4D-Var from window to window."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from numpy.typing import ArrayLike

from pybridge.assimilation._fourdvar import Analysis, FourDVar
from pybridge.assimilation._observations import Observations


def cycle(
    fourdvar: FourDVar,
    background: ArrayLike,
    observations: Iterable[Observations],
    *,
    start: int = 0,
    parameters: ArrayLike | None = None,
    trajectory: bool = False,
) -> Iterator[Analysis]:
    """Analyse adjoining windows, each from the end of the one before.

    Parameters
    ----------
    fourdvar : FourDVar
        Analyses each window.
    background : array_like, shape (n,)
        Background of the first window.
    observations : iterable of Observations
        The observations of each window.
    start : int
        Number of the first window's first step.
    parameters : array_like, shape (n_parameters,), optional
        Background parameters of the first window; the analysed ones are the next window's.
    trajectory : bool
        Whether the analyses hold their trajectories.

    Yields
    ------
    Analysis
        One for each window. A run that is to be resumed goes on from the last one's `final` and
        `parameters`, with `start` advanced by ``fourdvar.steps`` for each window done.

    Examples
    --------
    >>> for analysis in cycle(fourdvar, x_b, windows):  # doctest: +SKIP
    ...     print(analysis.increment.std())
    """
    for window in observations:
        analysis = fourdvar.analyse(
            background, window, start=start, parameters=parameters, trajectory=trajectory
        )
        yield analysis
        background = analysis.final
        if fourdvar.parameter_sigma.any():
            parameters = analysis.parameters
        start += fourdvar.steps
