# SPDX-License-Identifier: MIT
"""Sets of independent replicas: serially, on threads, or on any executor, by the same call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor, as_completed
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_replicas(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int = 1,
    executor: Executor | None = None,
    advance: Callable[[], Any] = lambda: None,
) -> list[Result]:
    """Apply a function to every item, and return the results in the items' order.

    Parameters
    ----------
    function : callable
        Of one item; its result must not depend on the order of calls.
    items : sequence
        One for each replica.
    workers : int
        Threads (the Fortran core releases Python's lock); one runs serially.
    executor : concurrent.futures.Executor, optional
        Runs the replicas in place of threads: a process pool, or a Dask cluster's
        ``client.get_executor()``. Function and items must then be picklable.
    advance : callable
        Called after each replica.
    """
    if executor is None and workers == 1:
        results = []
        for item in items:
            results.append(function(item))
            advance()
        return results
    if executor is None:
        with ThreadPoolExecutor(workers) as pool:
            return map_replicas(function, items, executor=pool, advance=advance)
    futures = [executor.submit(function, item) for item in items]
    try:
        for future in as_completed(futures):
            future.result()
            advance()
    except BaseException:
        for future in futures:
            future.cancel()
        raise
    return [future.result() for future in futures]
