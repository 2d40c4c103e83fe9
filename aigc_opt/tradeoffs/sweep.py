"""Sweeps: the same instance with other numbers, point by point, in this process or in many."""

from __future__ import annotations

import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.context import BaseContext
from typing import TYPE_CHECKING, Any, TextIO

from aigc_opt.api import asked, judged
from aigc_opt.control import Control, end_with_parent
from aigc_opt.errors import InputError, SolverError
from aigc_opt.instance.base import Instance
from aigc_opt.instance.files import loaded
from aigc_opt.problems.problem import Problem, problem_of
from aigc_opt.result import Limit, Solution
from aigc_opt.reuse import reusing
from aigc_opt.solvers import end_threads
from aigc_opt.tradeoffs.journal import Journal, read_cell
from aigc_opt.tradeoffs.paths import Varied, grid_of

if TYPE_CHECKING:
    import pandas as pd

POLL_S = 0.2
"""Seconds between two looks whether the user wants to stop."""

FAILED = "failed"
"""Status of a point at which a solver failed."""

AHEAD = 2
"""Points that are given out for each worker: the next one waits there while this process writes rows."""

Point = tuple[float, ...]
Row = dict[str, Any]


def sweep(
    instance: Instance | str | os.PathLike[str],
    vary: Mapping[str, Iterable[float]],
    output: str | os.PathLike[str] | None = None,
    method: str | None = None,
    gap: float = 1e-4,
    time_limit: float | None = None,
    seed: int = 0,
    workers: int | Executor = 1,
    progress: Callable[[int, int, float], None] | None = None,
) -> pd.DataFrame:
    """Solve an instance at every point of a grid of its numbers.

    Parameters
    ----------
    instance : Instance or path
    vary : mapping
        Path of a number in the file (``"edge.steps_per_slot"``, ``"servers[2].storage_gb"``, ``"weights.delay"``) ->
        the values that it takes; several paths make a grid.
    output : path, optional
        CSV file that each row is appended to as it comes. Where it holds rows of the same sweep already, only the
        others are computed.
    method, gap, time_limit, seed
        As for `solve`, for each point.
    workers : int or Executor
        1 = this process; more = a pool of so many processes (a script needs its ``if __name__ == "__main__":``); or any
        executor of the standard interface, such as Dask's ``client.get_executor()`` or mpi4py's, which is left open.
    progress : callable, optional
        Called with points done, points in all, and seconds so far; `ProgressBar()` shows it on standard error.

    Returns
    -------
    DataFrame
        One row a point, in the order of the grid: a column for each path, then ``objective``, ``lower_bound``,
        ``gap``, ``status``, one ``term_...`` a term, ``runtime_s``; NaN where there is no number. On Ctrl-C the rows
        that are done. A point at which a solver failed has the status `FAILED`, and a warning says how.

    Raises
    ------
    InputError
        If a path leads to no number, a point is no valid instance, or `output` is the file of another sweep.
    SolverError
        If a worker died; the rows written stay, and the same call goes on with the others.

    Notes
    -----
    A point begins from the solution of the nearest point that is done, where the method can use one
    (`Problem.starts`); the checker accepts or refuses it first, so that only the time depends on it. Lower bounds are
    not carried over: each is proved at its own point.

    """
    import pandas as pd

    columns, rows = sweep_rows(instance, vary, output, method, gap, time_limit, seed, workers, progress)
    table = pd.DataFrame(rows, columns=columns)
    return table.astype({column: float for column in columns if column != "status"})


def sweep_rows(
    instance: Instance | str | os.PathLike[str],
    vary: Mapping[str, Iterable[float]],
    output: str | os.PathLike[str] | None,
    method: str | None,
    gap: float,
    time_limit: float | None,
    seed: int,
    workers: int | Executor,
    progress: Callable[[int, int, float], None] | None,
) -> tuple[list[str], list[Row]]:
    """Do what `sweep` does, for whoever needs no table; return its columns and rows."""
    instance = loaded(instance)
    problem = problem_of(instance)
    if not isinstance(workers, Executor) and not (type(workers) is int and workers >= 1):
        raise InputError("workers", [f"must be an integer >= 1 or an executor, got {workers!r}"])
    varied = Varied(instance, grid_of(instance, vary))
    options: dict[str, Any] = {"method": method, "gap": gap, "time_limit": time_limit, "seed": seed}
    asked(instance, **options)
    for values in varied.points():  # every fault is told before hours are spent, and before a file is begun
        varied.at(values)
    columns = [*varied.grid, "objective", "lower_bound", "gap", "status"]
    columns += [*(f"term_{name}" for name in problem.terms), "runtime_s"]
    journal = None
    if output is not None:
        settings = {"instance": instance.identity, "vary": dict(varied.grid), **options}
        journal = Journal(output, columns, len(varied.grid), settings)
    try:
        return columns, _Sweep(varied, columns, options, journal, problem).run(workers, progress)
    finally:
        if journal is not None:
            journal.close()


Solved = tuple[dict[str, Any], Solution | None]
"""Numbers of a point's row, and its solution where it is kept."""


def solve_point(instance: Instance, options: dict[str, Any], start: Solution | None, keep: bool) -> Solved | None:
    """Solve one point, wherever this runs: the numbers of its row, and its solution if `keep`; None if interrupted."""
    # As `solve` does, without what a result file holds beyond these numbers: to hash the instance takes longer than to
    # solve a small one.
    problem, name, task = asked(instance, start=start, **options)
    with task.control.catching_interrupts(), reusing():
        try:
            found = problem.methods[name](task)
            worth = judged(problem, task, name, found)
        except SolverError as error:
            nothing = dict.fromkeys(("objective", "lower_bound", "gap"))
            seconds = round(task.control.elapsed_s, 6)
            return nothing | {"status": FAILED, "terms": {}, "runtime_s": seconds, "failure": str(error)}, None
    if found.limit is Limit.INTERRUPT:
        return None
    numbers = {
        "objective": worth.objective, "lower_bound": worth.lower_bound, "gap": worth.gap,
        "status": str(worth.status), "terms": worth.terms or {}, "runtime_s": round(task.control.elapsed_s, 6),
        "failure": None,
    }  # fmt: skip
    return numbers, found.solution if keep else None


def _solve_at(varied: Varied | None, point: Point, *how: Any) -> Solved | None:
    """`solve_point` where this runs; None = the sweep that this process was begun for."""
    of = _begun_for if varied is None else varied
    assert of is not None  # a pool of our own begins with `_start_worker`
    return solve_point(of.at(point), *how)


_begun_for: Varied | None = None


def _start_worker(varied: Varied) -> None:
    """Keep what is swept, which is not sent with every point; a copy of the parent has its instances already."""
    global _begun_for
    _begun_for = varied
    end_with_parent()


class _Sweep:
    """One sweep: which points are done, which are under way, and which comes next."""

    def __init__(
        self, varied: Varied, columns: list[str], options: dict[str, Any], journal: Journal | None, problem: Problem
    ):
        self.varied, self.columns, self.options, self.journal = varied, columns, options, journal
        self.points = list(varied.points())
        self.rows: dict[Point, Row] = {}
        if journal is not None:
            self.rows = {
                key: {column: read_cell(column, text) for column, text in row.items()}
                for key, row in journal.rows.items()
            }
        self.starts = (options["method"] or problem.default_method) in problem.starts
        self.solutions: dict[Point, Solution] = {}
        ranks = [{value: k for k, value in enumerate(values)} for values in varied.grid.values()]
        self.rank = {
            point: tuple(r[v] for r, v in zip(ranks, point, strict=True)) for point in self.points
        }  # place in the grid: steps of different numbers cannot be compared in their own units

    def run(self, workers: int | Executor, progress: Callable[[int, int, float], None] | None) -> list[Row]:
        control = Control()
        missing = [point for point in self.points if point not in self.rows]

        def tell() -> None:
            if progress is not None:
                progress(len(self.rows), len(self.points), control.elapsed_s)

        tell()
        with control.catching_interrupts():
            done = self._here(missing) if workers == 1 else self._elsewhere(missing, workers, control)
            for point, found in done:
                if found is not None:
                    self._keep(point, *found)
                    tell()
                if control.interrupted or found is None:
                    break
        return [self.rows[point] for point in self.points if point in self.rows]

    def _here(self, missing: list[Point]) -> Iterator[tuple[Point, Solved | None]]:
        for point in missing:
            yield point, solve_point(self.varied.at(point), self.options, self._start(point), self.starts)

    def _elsewhere(
        self, missing: list[Point], workers: int | Executor, control: Control
    ) -> Iterator[tuple[Point, Solved | None]]:
        """Give points out, a few ahead of what is done, and yield them as they come."""
        own: ProcessPoolExecutor | None = None
        if isinstance(workers, Executor):
            pool, width = workers, _width(workers)
        else:
            number = min(workers, max(1, len(missing)))
            pool = own = ProcessPoolExecutor(number, _context(), _start_worker, (self.varied,))
            width = workers
        ahead = AHEAD * width
        waiting, running = iter(missing), dict[Future[Solved | None], Point]()
        try:
            while True:
                while len(running) < ahead and (point := next(waiting, None)) is not None:
                    task = (
                        None if own is not None else self.varied,
                        point,
                        self.options,
                        self._start(point),
                        self.starts,
                    )
                    running[pool.submit(_solve_at, *task)] = point
                if not running or control.interrupted:
                    return
                done = wait(running, POLL_S, FIRST_COMPLETED).done
                for future in sorted(done, key=lambda future: future.exception() is not None):  # rows before errors
                    yield running.pop(future), future.result()
        except BrokenExecutor:
            lost = (
                f"a process of the pool died (out of memory?) with {len(self.rows)} of {len(self.points)} points done"
            )
            raise SolverError(lost) from None
        finally:
            for future in running:
                future.cancel()
            if own is not None:
                # A point under way ends in order if Ctrl-C reached its process too; nothing is waited for otherwise.
                for process in list((own._processes or {}).values()) if control.interrupted else []:
                    process.terminate()
                own.shutdown(wait=True, cancel_futures=True)

    def _start(self, point: Point) -> Solution | None:
        """Return the solution of the nearest point that is done."""
        if not self.solutions:
            return None
        here = self.rank[point]

        def steps(other: Point) -> int:
            return sum(abs(a - b) for a, b in zip(self.rank[other], here, strict=True))

        return self.solutions[min(self.solutions, key=steps)]

    def _keep(self, point: Point, numbers: dict[str, Any], solution: Solution | None) -> None:
        terms, failure = numbers.pop("terms"), numbers.pop("failure")
        if failure is not None:
            where = ", ".join(f"{path}={value:g}" for path, value in zip(self.varied.grid, point, strict=True))
            warnings.warn(f"{where}: {failure}", stacklevel=2)
        row = {path: value for path, value in zip(self.varied.grid, point, strict=True)} | numbers
        row |= {column: terms.get(column.removeprefix("term_")) for column in self.columns if column not in row}
        if self.journal is not None:
            self.journal.add(row)
        self.rows[point] = row
        if solution is not None:
            self.solutions[point] = solution


def _context() -> BaseContext:
    """How the pool's processes begin: as copies of this one where that is safe, afresh otherwise.

    Starting Python takes longer than solving a small point. A copy is not safe where other threads run; HiGHS's, which
    wait for the next solve, are ended first.
    """
    if threading.active_count() > 1 or "fork" not in get_all_start_methods():
        return get_context("spawn")
    end_threads()
    return get_context("fork")


def _width(executor: Executor) -> int:
    """How many tasks an executor runs at once, as far as it says; a Dask client's cores are asked for."""
    client = getattr(executor, "_client", None)
    if client is not None and hasattr(client, "ncores"):
        return max(1, sum(client.ncores().values()))
    return max(1, getattr(executor, "_max_workers", None) or os.cpu_count() or 1)


class ProgressBar:
    """Progress for people: a bar that updates on a terminal, plain lines every few seconds otherwise."""

    def __init__(self, stream: TextIO | None = None, width: int = 30):
        self._stream, self._width = stream or sys.stderr, width
        self._live = self._stream is not None and self._stream.isatty()
        self._first: int | None = None
        self._shown_s = -float("inf")

    def __call__(self, done: int, total: int, elapsed_s: float) -> None:
        """Show how far a sweep is."""
        self._first = done if self._first is None else self._first
        now = time.perf_counter()
        if self._stream is None or (not self._live and now - self._shown_s < 2 and done < total):
            return
        self._shown_s = now
        filled = self._width * done // total
        fresh = done - self._first
        left = f", {elapsed_s / fresh * (total - done):.0f} s left" if fresh else ""
        line = f"[{'#' * filled}{'.' * (self._width - filled)}] {done} of {total} points, {elapsed_s:.1f} s{left}"
        try:
            self._stream.write(f"\r{line:<79}" if self._live else f"{line}\n")
            if self._live and done == total:
                self._stream.write("\n")
            self._stream.flush()
        except (OSError, ValueError):
            self._stream = None  # whoever looked has gone; the sweep goes on
