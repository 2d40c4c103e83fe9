"""The one door to solvers: HiGHS fed with arrays, every status checked, every answer re-evaluated.

HiGHS can answer wrongly without an error (a NaN cost gives `optimal`, options stay from one call to the next, a model
that was refused leaves the one before it). So every number is checked before it goes in (`LinearProgram`), every
option is set at every call, every return status is read, and every point that comes out is evaluated here.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

import highspy
import numpy as np
from highspy import HighsModelStatus, HighsStatus

from aigc_opt.control import Control
from aigc_opt.errors import InputError, SolverError
from aigc_opt.program import LinearProgram
from aigc_opt.result import Limit

GRACE_S = 1.5
"""How long a solver may go on after the time limit or Ctrl-C before it is left behind in its thread."""

LARGE = 10_000
"""Columns from which on a linear program without a basis to start from is solved by interior points."""

FEASIBILITY = 1e-5
"""Largest violation (relative to the row's or bound's size) of a point that is taken from a solver at all."""


Options = Mapping[str, bool | float | str]
"""HiGHS's options by name."""

_making = threading.Lock()
_banner_printed = False


def _silent_highs() -> highspy.Highs:
    """Make a HiGHS object that prints nothing.

    HiGHS 1.16.0 prints its name to standard output as a process makes its first object, before there is anything to
    set an option of. That would stand in front of the JSON, so that the first one is made with the output elsewhere.
    """
    global _banner_printed
    with _making:
        try:
            output = None if _banner_printed else os.dup(1)
        except OSError:  # closed by whoever started us
            output = None
        if output is None:
            highs = highspy.Highs()
        else:
            try:
                with open(os.devnull, "wb") as nowhere:
                    os.dup2(nowhere.fileno(), 1)
                highs = highspy.Highs()
            finally:
                os.dup2(output, 1)
                os.close(output)
        _banner_printed = True
    if highs.setOptionValue("output_flag", False) == HighsStatus.kError:
        raise SolverError("HiGHS could not set an option")
    return highs


def end_threads() -> None:
    """End the threads that HiGHS keeps for this thread's next solve, which begins them again."""
    highspy.Highs.resetGlobalScheduler(True)


class Answer(StrEnum):
    """What a solver's run ended with. `STOPPED`: by a limit, with or without a point and a bound."""

    OPTIMAL = "optimal"
    STOPPED = "stopped"
    INFEASIBLE = "infeasible"
    UNBOUNDED = "unbounded"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Outcome:
    """One run of a solver.

    Attributes
    ----------
    limit : Limit or None
        What stopped it.
    x : ndarray or None
        A point within `FEASIBILITY`; `objective` is its cost as evaluated here.
    bound : float or None
        The solver's own lower bound.
    row_duals : ndarray or None
        Multipliers of an LP's rows, >= 0 on the lower side, for `LinearProgram.dual_bound`.

    """

    answer: Answer
    limit: Limit | None = None
    objective: float | None = None
    bound: float | None = None
    x: np.ndarray | None = None
    row_duals: np.ndarray | None = None


_WATCHED = (
    highspy.cb.HighsCallbackType.kCallbackMipImprovingSolution,
    highspy.cb.HighsCallbackType.kCallbackMipLogging,
    highspy.cb.HighsCallbackType.kCallbackMipInterrupt,
    highspy.cb.HighsCallbackType.kCallbackSimplexInterrupt,
    highspy.cb.HighsCallbackType.kCallbackIpmInterrupt,
)

_abandoned: list[threading.Thread] = []


def solvers_left_behind() -> bool:
    """Whether a solver that did not stop is still running in its thread (the process then should not wait for it)."""
    return any(thread.is_alive() for thread in _abandoned)


class Highs:
    """HiGHS on one program.

    Parameters
    ----------
    program : LinearProgram

    Raises
    ------
    SolverError
        If HiGHS refuses the program.

    """

    def __init__(self, program: LinearProgram):
        self.program = program
        self._scaled, self._row_scale, self._cost_scale = _scaled(program)
        self._renew()

    def _renew(self) -> None:
        """Make a solver that holds the program."""
        self._highs = _silent_highs()
        if self.program.cost.size:
            _pass(self._highs, self._scaled)

    @staticmethod
    def _check(status: HighsStatus, what: str) -> None:
        if status == HighsStatus.kError:
            raise SolverError(f"HiGHS could not {what}")

    def set_column_bounds(self, columns: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> None:
        """Change bounds of some columns for the next `solve`; the program itself stays as it is."""
        status = self._highs.changeColsBounds(
            len(columns), columns.astype(np.int32), lower.astype(float), upper.astype(float)
        )
        self._check(status, "change bounds")

    def set_costs(self, cost: np.ndarray) -> None:
        """Change all costs for the next `solve`, whose `Outcome` is then about them."""
        self.program = dataclasses.replace(self.program, cost=cost)
        columns = np.arange(cost.size, dtype=np.int32)
        self._check(self._highs.changeColsCost(cost.size, columns, cost * self._cost_scale), "change costs")

    def add_rows(self, program: LinearProgram) -> None:
        """Go on with `program`, which is the present one with more rows at its end; the basis is kept.

        Raises
        ------
        SolverError
            If HiGHS refuses the rows.

        """
        before = self.program.row_upper.size
        self._scaled, self._row_scale, self._cost_scale = _scaled(program)
        self.program = program
        added = self._scaled.matrix.tocsr()[before:]
        status = self._highs.addRows(
            added.shape[0], self._scaled.row_lower[before:], self._scaled.row_upper[before:],
            added.nnz, added.indptr, added.indices, added.data,
        )  # fmt: skip
        self._check(status, "take more rows")

    def solve(
        self,
        gap: float = 0.0,
        control: Control | None = None,
        seed: int = 0,
        start: np.ndarray | None = None,
        on_point: Callable[[np.ndarray], object] | None = None,
        report_bounds: bool = False,
        options: Options | None = None,
    ) -> Outcome:
        """Minimise the program.

        Parameters
        ----------
        gap : float
            Relative gap at which a mixed-integer solve may end.
        control : Control, optional
            Clock and stop signals; progress is reported to it.
        start : ndarray, optional
            A feasible point to start from.
        on_point : callable, optional
            Called with each better point that is found, in the caller's thread.
        report_bounds : bool
            Whether HiGHS's bound is reported to `control` as a proven bound of the whole problem.
        options : mapping, optional
            Further options of HiGHS by name, for this call only.

        Returns
        -------
        Outcome

        Raises
        ------
        SolverError
            If HiGHS fails, or its point or its numbers are not what it says they are.

        """
        if not self.program.cost.size:
            return _solve_empty(self.program)
        highs = self._highs
        self._set_options(gap, control, seed, options or {})
        free = "solver" not in (options or {}) and not highs.getBasis().valid
        if free and not self.program.integer.any() and self.program.cost.size > LARGE:
            self._check(highs.setOptionValue("solver", "ipm"), "choose interior points")
        if start is not None:
            solution = highspy.HighsSolution()
            solution.col_value = np.asarray(start, float).tolist()
            self._check(highs.setSolution(solution), "take a starting point")
        watch = _Watch(self.program, control, report_bounds, self._cost_scale)
        if control is None:
            for kind in _WATCHED:  # one of an earlier call would still say stop
                self._check(highs.stopCallback(kind), "stop a callback")
            status = highs.run()
        else:
            status, finished = self._run_watched(watch, control, on_point)
            if not finished:
                return watch.outcome(control.stop)
        if status == HighsStatus.kError:  # the basis of the call before may be what it fails at
            self._check(highs.clearSolver(), "forget a basis")
            status = highs.run()
        if status == HighsStatus.kError:
            raise SolverError(f"HiGHS failed: {highs.modelStatusToString(highs.getModelStatus())}")
        if highs.getModelStatus() == HighsModelStatus.kUnboundedOrInfeasible:
            self._check(highs.setOptionValue("presolve", "off"), "set an option")
            self._check(highs.run(), "run without presolve")
        outcome = self._outcome(control)
        if start is not None and outcome.answer is Answer.OPTIMAL and self._claims_better_than(outcome.objective):
            # HiGHS 1.16.0 may give the starting point back where presolve made a better one of it.
            self._check(highs.clearSolver(), "forget a starting point")
            return self.solve(gap, control, seed, None, on_point, report_bounds, options)
        return outcome

    def _claims_better_than(self, objective: float | None) -> bool:
        """Whether HiGHS says that its point costs less than that point does."""
        if objective is None:
            return False
        claimed = self._highs.getInfo().objective_function_value / self._cost_scale
        return objective - claimed > 1e-6 * max(1.0, abs(objective))

    def _set_options(
        self,
        gap: float,
        control: Control | None,
        seed: int,
        options: Mapping[str, bool | float | str] = MappingProxyType({}),
    ) -> None:
        highs = self._highs
        self._check(highs.resetOptions(), "reset its options")
        remaining = math.inf if control is None else control.remaining_s
        if not self.program.integer.any():
            remaining += highs.getRunTime()  # an LP's clock goes on from call to call, a MIP's starts anew
        for name, value in (
            ("output_flag", False),
            ("mip_rel_gap", float(gap)),
            ("mip_abs_gap", 0.0),
            ("time_limit", remaining),
            ("random_seed", int(seed) % 2**31),
            *options.items(),
        ):
            self._check(highs.setOptionValue(name, value), f"take the option {name} = {value}")

    def _run_watched(
        self, watch: _Watch, control: Control, on_point: Callable[[np.ndarray], object] | None
    ) -> tuple[HighsStatus, bool]:
        """Run in a thread, so that Ctrl-C and the clock are obeyed even where HiGHS does not look at them."""
        highs = self._highs
        self._check(highs.setCallback(watch, None), "take a callback")
        for kind in _WATCHED:
            self._check(highs.startCallback(kind), "start a callback")
        status: list[HighsStatus] = []
        thread = threading.Thread(target=lambda: status.append(highs.run()), daemon=True)
        thread.start()
        stopped_at = None
        while thread.is_alive():
            thread.join(0.05)
            while on_point is not None and watch.points and control.stop is None:
                on_point(watch.points.popleft())
            if control.stop is not None:
                stopped_at = stopped_at or time.perf_counter()
                if time.perf_counter() - stopped_at > GRACE_S:
                    _abandoned.append(thread)
                    # The thread still uses this object: it gets a new one for what comes next.
                    self._renew()
                    return HighsStatus.kWarning, False
        if watch.error is not None:
            raise watch.error
        return status[0], True

    def _outcome(self, control: Control | None) -> Outcome:
        highs, program = self._highs, self.program
        status = highs.getModelStatus()
        info = highs.getInfo()
        if status == HighsModelStatus.kInfeasible:
            return Outcome(Answer.INFEASIBLE)
        if status == HighsModelStatus.kUnbounded:
            return Outcome(Answer.UNBOUNDED)
        limits = {
            HighsModelStatus.kTimeLimit: Limit.TIME,
            HighsModelStatus.kInterrupt: (control.stop if control else None) or Limit.INTERRUPT,
            HighsModelStatus.kIterationLimit: Limit.ITERATIONS,
        }
        if status != HighsModelStatus.kOptimal and status not in limits:
            return Outcome(Answer.UNKNOWN)
        limit = limits.get(status)
        mixed = bool(program.integer.any())
        x = objective = bound = row_duals = None
        solution = highs.getSolution()
        if info.primal_solution_status == 2 and solution.value_valid:  # 2 = feasible
            x = np.array(solution.col_value)
            objective = _evaluate(program, x)
        if mixed:
            bound = info.mip_dual_bound / self._cost_scale
        elif status == HighsModelStatus.kOptimal:
            bound = info.objective_function_value / self._cost_scale
        if solution.dual_valid and not mixed:
            row_duals = np.array(solution.row_dual) * self._row_scale / self._cost_scale
        if status == HighsModelStatus.kOptimal and objective is None:
            raise SolverError("HiGHS says optimal, but its point breaks the program or has no finite value")
        return Outcome(
            Answer.OPTIMAL if limit is None else Answer.STOPPED,
            limit, objective, bound if bound is not None and math.isfinite(bound) else None, x, row_duals,
        )  # fmt: skip


class _Watch:
    """HiGHS's callback: passes points and bounds on, and says stop. Runs in the solver's thread."""

    def __init__(self, program: LinearProgram, control: Control | None, report_bounds: bool, cost_scale: float):
        self._program = program
        self._cost_scale = cost_scale
        self._control = control
        self._report_bounds = report_bounds
        self._last_s = -math.inf
        self._x: np.ndarray | None = None
        self.points: deque[np.ndarray] = deque(maxlen=1)  # the newest is the best
        self._bound: float | None = None
        self.error: BaseException | None = None

    def __call__(self, kind: object, message: str, data_out: Any, data_in: Any, user_data: object) -> None:
        try:
            self._handle(kind, data_out, data_in)
        except BaseException as error:  # an exception must not cross C++; it is raised again by the caller
            self.error = error
            if data_in is not None:
                data_in.user_interrupt = True

    def _handle(self, kind: object, data_out: Any, data_in: Any) -> None:
        kinds = highspy.cb.HighsCallbackType
        if self.error is not None and data_in is not None:
            data_in.user_interrupt = True
        if self._control is None:
            return
        if kind == kinds.kCallbackMipImprovingSolution:
            self._x = np.array(data_out.mip_solution)
            self.points.append(self._x)
        mixed = kind in (
            kinds.kCallbackMipImprovingSolution,
            kinds.kCallbackMipLogging,
            kinds.kCallbackMipInterrupt,
        )
        if mixed and math.isfinite(data_out.mip_dual_bound):
            self._bound = data_out.mip_dual_bound / self._cost_scale
        now = time.perf_counter()
        if now - self._last_s > 0.1 and self._program.integer.any():
            self._last_s = now
            self._control.report("branch and bound", lower_bound=self._bound if self._report_bounds else None)
        if data_in is not None and self._control.stop is not None:
            data_in.user_interrupt = True

    def outcome(self, limit: Limit | None) -> Outcome:
        """Return what was seen of a run that was left behind."""
        objective = None if self._x is None else _evaluate(self._program, self._x)
        return Outcome(Answer.STOPPED, limit, objective, self._bound, self._x if objective is not None else None)


def _scaled(program: LinearProgram) -> tuple[LinearProgram, np.ndarray, float]:
    """Return the program with rows and costs of extreme size scaled, and the factors: powers of two, so all is exact.

    HiGHS refuses coefficients above 1e15, drops those below 1e-9, and has absolute tolerances of 1e-7 on costs.
    """
    rows = np.ones(program.row_upper.size)
    sizes = abs(program.matrix.data)
    if sizes.size and (sizes.max() > 1e6 or sizes.min() < 1e-2):  # else no row can be extreme: most programs end here
        largest = abs(program.matrix).max(axis=1).toarray().ravel()
        extreme = (largest > 0) & ((largest > 1e6) | (largest < 1e-2))
        rows[extreme] = 2.0 ** -np.round(np.log2(largest[extreme]))
    dearest = float(abs(program.cost).max(initial=0.0))
    cost = 2.0 ** (10 - round(math.log2(dearest))) if dearest > 1e8 or 0 < dearest < 1e-2 else 1.0
    if cost == 1.0 and (rows == 1.0).all():
        return program, rows, 1.0
    import scipy.sparse as sp  # here: as in `program`

    scaled = dataclasses.replace(
        program,
        cost=program.cost * cost,
        offset=program.offset * cost,
        matrix=sp.csc_array(sp.diags_array(rows) @ program.matrix),
        row_lower=program.row_lower * rows,
        row_upper=program.row_upper * rows,
    )
    return scaled, rows, cost


def _pass(highs: highspy.Highs, program: LinearProgram, names: bool = False) -> None:
    """Hand a program over; with names only where it is going to be written, because they cost time."""
    matrix = program.matrix
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = program.cost.size, program.row_upper.size
    lp.offset_ = program.offset
    if names:
        lp.col_names_ = _safe_names(program.column_names)
        lp.row_names_ = _safe_names(program.row_names)
        lp.col_cost_, lp.col_lower_, lp.col_upper_ = program.cost, program.lower, program.upper
        lp.row_lower_, lp.row_upper_ = program.row_lower, program.row_upper
        lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        lp.a_matrix_.num_col_, lp.a_matrix_.num_row_ = lp.num_col_, lp.num_row_
        lp.a_matrix_.start_, lp.a_matrix_.index_, lp.a_matrix_.value_ = (
            matrix.indptr,
            matrix.indices,
            matrix.data,
        )
        kinds = highspy.HighsVarType
        if program.integer.any():
            lp.integrality_ = [kinds.kInteger if whole else kinds.kContinuous for whole in program.integer]
        status = highs.passModel(lp)
    else:
        status = highs.passModel(
            lp.num_col_, lp.num_row_, matrix.nnz, int(highspy.MatrixFormat.kColwise),
            int(highspy.ObjSense.kMinimize), program.offset, program.cost, program.lower, program.upper,
            program.row_lower, program.row_upper, matrix.indptr, matrix.indices, matrix.data,
            program.integer.astype(np.int32),
        )  # fmt: skip
    if status == HighsStatus.kError:
        raise SolverError("HiGHS refused the program")


def _evaluate(program: LinearProgram, x: np.ndarray) -> float | None:
    """Cost of a point, or None if it is not finite or breaks the program by more than `FEASIBILITY`."""
    if x.shape != program.cost.shape or not np.isfinite(x).all():
        return None
    rows = program.matrix @ x
    for value, low, high in ((x, program.lower, program.upper), (rows, program.row_lower, program.row_upper)):
        below = low - value > FEASIBILITY * np.maximum(1.0, np.where(np.isfinite(low), abs(low), 1.0))
        above = value - high > FEASIBILITY * np.maximum(1.0, np.where(np.isfinite(high), abs(high), 1.0))
        if below.any() or above.any():
            return None
    whole = x[program.integer]
    if (abs(whole - np.round(whole)) > FEASIBILITY).any():
        return None
    value = float(program.cost @ x) + program.offset
    return value if math.isfinite(value) else None


def _solve_empty(program: LinearProgram) -> Outcome:
    """Answer for a program without variables, which HiGHS does not."""
    if (program.row_lower > FEASIBILITY).any() or (program.row_upper < -FEASIBILITY).any():
        return Outcome(Answer.INFEASIBLE)
    return Outcome(Answer.OPTIMAL, None, program.offset, program.offset, np.zeros(0), np.zeros(program.row_upper.size))


# ------------------------------------------------------------------------------------------------------- export


def _safe_names(names: list[str]) -> list[str]:
    """Names that LP and MPS files can hold: other characters become ``_``, what then repeats gets its position."""
    safe = [re.sub(r"[^A-Za-z0-9_.(),]", "_", name.replace("[", "(").replace("]", ")"))[:200] for name in names]
    counts: dict[str, int] = {}
    for name in safe:
        counts[name] = counts.get(name, 0) + 1
    return [name if counts[name] == 1 else f"{name}__{index}" for index, name in enumerate(safe)]


def write_program(program: LinearProgram, path: str | os.PathLike[str]) -> None:
    """Write a program as an LP or MPS file, by the path's ending.

    Raises
    ------
    InputError
        If the ending is another one, or the file cannot be written.

    """
    target = Path(path)
    if target.suffix not in (".lp", ".mps"):
        raise InputError(str(path), ["must end in .lp or .mps"])
    highs = _silent_highs()
    _pass(highs, program, names=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".export", dir=target.parent) as folder:
            written = Path(folder) / target.name
            if highs.writeModel(str(written)) == HighsStatus.kError:
                raise SolverError("HiGHS could not write the program")
            written.replace(target)
    except OSError as error:
        raise InputError(str(path), [f"cannot be written: {error.strerror or error}"]) from None
