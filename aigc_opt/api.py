"""What users call: load, solve, bound, check, export. Data flows one way, from file to instance to result to check."""

from __future__ import annotations

import math
import os
import platform
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from aigc_opt.control import Control, Progress
from aigc_opt.errors import Fault, InputError, SolverError
from aigc_opt.instance.base import FORMAT, Instance
from aigc_opt.instance.fields import describe, is_real
from aigc_opt.instance.files import SOLUTION_BYTES, loaded, read_json, write_text
from aigc_opt.problems.problem import Found, Problem, Task, problem_of
from aigc_opt.result import (
    Check,
    Proof,
    Result,
    Solution,
    Status,
    TraceRow,
    contradicts,
    gap_of,
    status_of,
)
from aigc_opt.result_file import is_result, record_violations, result_faults, result_from_dict, slight_excess

PACKAGES_OF_SOLVER = {"scip": ("pyomo", "pyscipopt")}
"""Packages that a solver's numbers depend on, beyond those of every result."""


def solve(
    instance: Instance | str | os.PathLike[str],
    method: str | None = None,
    solver: str | None = None,
    gap: float = 1e-4,
    time_limit: float | None = None,
    seed: int = 0,
    bound: bool = True,
    progress: Progress | None = None,
    start: Solution | None = None,
) -> Result:
    """Solve an instance and return a certified interval.

    Parameters
    ----------
    instance : Instance or path
    method : str, optional
        One of the problem's methods; the problem's exact one by default.
    solver : str, optional
        Solver of a method that uses one.
    gap : float
        Relative gap at which a point counts as optimal.
    time_limit : float, optional
        Wall seconds. When they are over, or on Ctrl-C, the best interval so far is returned.
    seed : int
    bound : bool
        Whether a heuristic's point gets a lower bound beside it.
    progress : callable, optional
        Called with a `TraceRow` as the solve goes on; `ProgressLine()` shows it on standard error.
    start : Solution, optional
        A point to begin from, such as the solution of a neighbouring instance; it is checked before it is used.
        Deployment's ``exact`` and ``lagrangian`` use one.

    Returns
    -------
    Result
        Its point was accepted by the independent checker.

    Raises
    ------
    InputError
        If an argument or the file is not what it must be.
    SolverError
        If the method's point is refused by the checker, or its bound contradicts it.

    """
    instance = loaded(instance)
    _ = instance.sha256  # a part of reading, which takes seconds for long episodes: before the clock runs
    problem, name, task = asked(instance, method, solver, gap, time_limit, seed, bound, progress, start)
    with task.control.catching_interrupts():
        return _result(problem, task, name, problem.methods[name](task))


def asked(
    instance: Instance,
    method: str | None = None,
    solver: str | None = None,
    gap: float = 1e-4,
    time_limit: float | None = None,
    seed: int = 0,
    bound: bool = True,
    progress: Progress | None = None,
    start: Solution | None = None,
) -> tuple[Problem, str, Task]:
    """Check the arguments of `solve`; return the problem, the method's name and what it is asked, its clock running.

    Raises
    ------
    InputError
        If an argument is not what it must be.

    """
    problem = problem_of(instance)
    name = method or problem.method_of_solver.get(solver or "", problem.default_method)
    faults = []
    if name not in problem.methods:
        faults.append(f"method must be one of {', '.join(problem.methods)}, got {name!r}")
    if solver is not None and solver not in problem.solvers:
        faults.append(f"solver must be one of {', '.join(problem.solvers)} for {problem.name}, got {solver!r}")
    only = problem.method_of_solver.get(solver or "")
    if only is not None and name != only:
        faults.append(f"solver {solver} is for method {only} only, not for {name}")
    if not (is_real(gap) and gap >= 0):
        faults.append(f"gap must be a finite number >= 0, got {gap}")
    faults += _faults_of_limits(time_limit, seed)
    if start is not None and name not in problem.starts:
        usable = " or ".join(problem.starts) or "none"
        faults.append(f"a start can be given to method {usable} of {problem.name}, not to {name}")
    if faults:
        raise InputError(problem.name, faults)
    control = Control(time_limit, progress)
    task = Task(
        instance, control, gap, seed, solver or problem.solvers[0], bound,
        check=_remembered(lambda solution: problem.check(instance, solution)), start=start,
    )  # fmt: skip
    return problem, name, task


def _remembered(check: Callable[[Solution], Check]) -> Callable[[Solution], Check]:
    """Make a checker that knows what it said of the last point, and of the best one, which is what a method gives."""
    known: list[tuple[Solution, Check]] = []

    def checked(solution: Solution) -> Check:
        said = next((said for of, said in known if of is solution), None)
        if said is None:
            said = check(solution)
            known.append((solution, said))
            best = min(known, key=_value_of)
            known[:] = [pair for pair in known if pair is best or pair is known[-1]]
        return said

    return checked


def _value_of(known: tuple[Solution, Check]) -> float:
    """Objective of a checked point; inf where it has none or breaks a constraint."""
    check = known[1]
    return math.inf if check.objective is None or not check.feasible else check.objective


def bound(
    instance: Instance | str | os.PathLike[str],
    time_limit: float | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Result:
    """Compute only a lower bound: a number that no feasible point is below.

    Returns
    -------
    Result
        With status `bound_only`, or `unknown` if the time was too short for any.

    Raises
    ------
    InputError
        If an argument or the file is not what it must be.

    """
    instance = loaded(instance)
    problem = problem_of(instance)
    if faults := _faults_of_limits(time_limit, seed):
        raise InputError(problem.name, faults)
    control = Control(time_limit, progress)
    task = Task(instance, control, 0.0, seed, problem.solvers[0], True, check=lambda s: problem.check(instance, s))
    with control.catching_interrupts():
        return _result(problem, task, "bound", problem.bound(task))


def check(instance: Instance | str | os.PathLike[str], solution: Solution | Result | str | os.PathLike[str]) -> Check:
    """Check a point, from wherever it came, against an instance.

    Parameters
    ----------
    instance : Instance or path
    solution : solution, Result or path
        A file may hold a bare solution (JSON, or an npz) or a result; a result's own numbers are checked too
        (violation ``record``).

    Raises
    ------
    InputError
        If a file is malformed, or a result is of another instance or has no solution.

    """
    instance = loaded(instance)
    problem = problem_of(instance)
    data: dict[str, Any] | None
    if isinstance(solution, Result):
        data = solution.to_dict()
        faults = list(result_faults(data, instance))
        if solution.solution is None or faults:
            raise InputError("result", faults)
        point = solution.solution
    elif isinstance(solution, str | os.PathLike):
        point, data = _read_solution(solution, instance, problem)
    elif hasattr(solution, "to_dict"):
        point, data = solution, None
    else:
        raise InputError("solution", [f"must be a solution, a result or a path, got {type(solution).__name__}"])
    checked = problem.check(instance, point)
    if data is None:
        return checked
    if (words := slight_excess(data, checked)) is not None:
        warnings.warn(words, stacklevel=2)
    return Check(checked.objective, checked.terms, checked.violations + tuple(record_violations(data, checked)))


def load_result(path: str | os.PathLike[str], instance: Instance | str | os.PathLike[str]) -> Result:
    """Read a result file, with its solution, for the instance that it belongs to.

    Raises
    ------
    InputError
        If it is malformed or of another instance.

    """
    instance = loaded(instance)
    point, data = _read_solution(path, instance, problem_of(instance))
    if data is None:
        raise InputError(str(path), ["is a bare solution, expected a result"])
    return result_from_dict(data, instance, point, str(path))


def load_solution(path: str | os.PathLike[str], instance: Instance | str | os.PathLike[str]) -> Solution:
    """Read the solution of a file: a bare solution (JSON, or an npz), or a result.

    Raises
    ------
    InputError
        If it is malformed or of another instance.

    """
    instance = loaded(instance)
    return _read_solution(path, instance, problem_of(instance))[0]


def export(instance: Instance | str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Write the formulation of an instance, by the path's ending: ``.lp`` or ``.mps`` (the program), ``.tex``.

    The LaTeX is printed from the Pyomo model itself.

    Raises
    ------
    InputError
        If the ending is another one, or the file cannot be written.

    """
    instance = loaded(instance)
    problem = problem_of(instance)
    ending = Path(path).suffix
    if ending not in (".lp", ".mps", ".tex"):
        raise InputError(str(path), ["must end in .lp, .mps or .tex"])
    if ending == ".tex":
        from aigc_opt.latex import latex_of

        write_text(path, latex_of(problem.build_model(instance)))
    else:
        from aigc_opt.solvers import write_program

        write_program(problem.build_program(instance), path)


# --------------------------------------------------------------------------------------------------------- parts


def _faults_of_limits(time_limit: float | None, seed: int) -> list[str]:
    faults = []
    if time_limit is not None and not (is_real(time_limit) and time_limit > 0):
        faults.append(f"time limit must be a finite number of seconds > 0, got {time_limit!r}")
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        faults.append(f"seed must be an integer >= 0, got {seed!r}")
    return faults


def _is_bare_npz(path: str | os.PathLike[str], instance: Instance) -> bool:
    """Whether a file of decisions is an npz by its ending.

    Raises
    ------
    InputError
        If it is, but not there, or the instance is of a problem whose solutions are no arrays.

    """
    if Path(path).suffix != ".npz":
        return False
    if instance.problem != "two_timescale":
        raise InputError(str(path), [f"is an npz, but decisions of {instance.problem} are a JSON file"])
    if not Path(path).exists():
        raise InputError(str(path), ["there is no such file"])
    return True


def _read_solution(
    path: str | os.PathLike[str], instance: Instance, problem: Problem
) -> tuple[Solution, dict[str, Any] | None]:
    """Return the solution of a file and, where the file is a result, its parsed JSON.

    An npz alone means what a JSON beside it would that names it.
    """
    data: dict[str, Any] = {"npz": Path(path).name} if _is_bare_npz(path, instance) else read_json(path, SOLUTION_BYTES)
    if not is_result(data):
        if (kind := data.get("format")) is not None:
            what = "an instance" if kind == FORMAT else f"of format {describe(kind)}"
            raise InputError(str(path), [f"is {what}, expected a solution (decisions) or a result"])
        return problem.read_solution(data, instance, str(path)), None
    faults = list(result_faults(data, instance))
    point = None
    if data.get("solution") is not None:
        try:
            point = problem.read_solution(data["solution"], instance, str(path))
        except InputError as error:  # told together with the others, by its place in this file
            faults += [
                Fault(f"solution.{fault.path}" if fault.path else "solution", fault.message) for fault in error.faults
            ]
    if point is None or faults:
        raise InputError(str(path), faults)
    return point, data


@dataclass(frozen=True)
class Judged:
    """What a method found is worth: the interval after the checker's word, and why its bound holds."""

    status: Status
    objective: float | None
    lower_bound: float | None
    gap: float | None
    proof: Proof
    terms: dict[str, float] | None


def judged(problem: Problem, task: Task, method: str, found: Found) -> Judged:
    """Check what a method found, and say what it is worth.

    Raises
    ------
    SolverError
        If the checker refuses the point, or a bound that was proven here contradicts it.

    """
    objective = terms = None
    lower_bound, proof = found.lower_bound, found.proof
    if found.solution is not None:
        checked = task.check(found.solution)
        if not checked.feasible or checked.objective is None:
            first = checked.violations[0] if checked.violations else "no value"
            raise SolverError(f"the checker refuses the point of method {method}: {first}")
        objective, terms = checked.objective, checked.terms
    if lower_bound is not None and not math.isfinite(lower_bound):
        lower_bound = None
    if lower_bound is not None and objective is not None and lower_bound > objective:
        if not contradicts(lower_bound, objective):
            lower_bound = objective  # rounding: a bound that is lowered stays a bound
        else:
            words = f"method {method} has a bound of {lower_bound} above its checked point of {objective}"
            if proof is not Proof.SOLVER:
                raise SolverError(words)
            # A solver's word against the checker's: the point is there, the word proves nothing.
            warnings.warn(f"{words}; the bound, which a solver says, is left out", stacklevel=2)
            lower_bound = None
    if lower_bound is None and not found.infeasible:
        proof = Proof.NONE
    gap = gap_of(objective, lower_bound)
    status = Status.INFEASIBLE if found.infeasible else status_of(objective, lower_bound, task.gap)
    task.control.report("infeasible" if found.infeasible else "done", objective, lower_bound)
    return Judged(status, objective, lower_bound, gap, proof, terms)


def _result(problem: Problem, task: Task, method: str, found: Found) -> Result:
    """Return what a method found as a result."""
    worth = judged(problem, task, method, found)
    return Result(
        instance=task.instance.identity,
        method=method,
        status=worth.status,
        limit=found.limit,
        objective=worth.objective,
        lower_bound=worth.lower_bound,
        gap_tolerance=task.gap,
        proof=worth.proof,
        terms=worth.terms,
        trace=tuple(task.control.trace) if found.infeasible else _proven(task.control.trace, worth.lower_bound),
        runtime_s=round(task.control.elapsed_s, 6),
        seed=task.seed,
        versions=versions(task.solver),
        solution=found.solution,
        checked=found.solution is not None,
        reasons=found.infeasible,
    )


def _proven(trace: list[TraceRow], lower_bound: float | None) -> tuple[TraceRow, ...]:
    """Return a trace without bounds above the last one: a solver had said them, and a checked point refuted it."""
    return tuple(
        replace(row, lower_bound=lower_bound)
        if row.lower_bound is not None and (lower_bound is None or row.lower_bound > lower_bound)
        else row
        for row in trace
    )


def versions(solver: str = "highs") -> dict[str, str]:
    """Versions of this package and of what its numbers depend on."""
    found = {"python": platform.python_version()}
    for name in ("aigc_opt", "highspy", "numpy", "scipy", *PACKAGES_OF_SOLVER.get(solver, ())):
        try:
            found[name] = _version_of(name)
        except PackageNotFoundError:
            warnings.warn(f"{name} is imported from a folder, not installed: its version is unknown", stacklevel=2)
            found[name] = "unknown"
    return found


@cache
def _version_of(name: str) -> str:
    return version(name)
