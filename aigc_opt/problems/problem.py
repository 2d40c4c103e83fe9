"""What a problem has to bring so that everything else works on it: one class, the same for all three."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from aigc_opt.control import Control
from aigc_opt.errors import InputError
from aigc_opt.instance.base import Instance
from aigc_opt.result import Check, Limit, Proof, Solution, gap_of

if TYPE_CHECKING:
    import pyomo.environ as pyo


@dataclass(frozen=True)
class Task:
    """What a method is asked to do.

    Attributes
    ----------
    instance : Instance
    control : Control
        Clock, stop signals, progress.
    gap : float
        Relative gap at which the method may end.
    seed : int
    solver : str
        Name of the solver, where the method uses one.
    bound : bool
        Whether a method that makes only points also computes a lower bound.
    check : callable
        The problem's independent checker, for points found on the way.
    start : Solution or None
        A point of a neighbouring instance to begin from, for the methods named in `Problem.starts`; nothing is
        promised about it, so a method checks it first.

    """

    instance: Any
    control: Control
    gap: float
    seed: int
    solver: str
    bound: bool
    check: Callable[[Any], Check]
    start: Solution | None = None


class Incumbent:
    """The best point of a solve that its checker accepts.

    Attributes
    ----------
    objective : float
        inf until there is a point.
    solution : Solution or None

    """

    def __init__(self, task: Task):
        self.objective = math.inf
        self.solution: Any = None
        self._task = task

    def offer(self, solution: Solution | None, event: str) -> bool:
        """Take a point that is feasible and better by more than rounding, and report it; return whether it is."""
        if solution is None:
            return False
        checked = self._task.check(solution)
        if not checked.feasible or checked.objective is None:
            return False
        if self.solution is not None and checked.objective >= self.objective - 1e-9 * abs(self.objective):
            return False
        self.objective, self.solution = checked.objective, solution
        self._task.control.report(event, objective=self.objective)
        return True

    def gap(self, lower_bound: float) -> float | None:
        """Return the relative gap to a lower bound."""
        return gap_of(self.objective, lower_bound)


@dataclass(frozen=True)
class Found:
    """What a method has when it ends: a point, a bound, both or neither, or a proof that there is no point.

    Attributes
    ----------
    solution : Solution or None
    lower_bound : float or None
        Valid for every feasible point, for the reason `proof` gives.
    limit : Limit or None
        What stopped the method; None = it ended by itself.
    infeasible : tuple of str
        Where the problem is proved infeasible: why, a line each.

    """

    solution: Solution | None = None
    lower_bound: float | None = None
    proof: Proof = Proof.NONE
    limit: Limit | None = None
    infeasible: tuple[str, ...] = ()


@dataclass(frozen=True)
class Problem:
    """One of the problems, as the rest of the package sees it.

    Attributes
    ----------
    name : str
    terms : tuple of str
        Names of the objective's terms, as in a result.
    read_solution : callable
        (parsed JSON, instance, origin) -> solution.
    check : callable
        (instance, solution) -> Check; shares no arithmetic with the formulations.
    methods : mapping
        Name -> callable(Task) -> Found.
    default_method : str
    bound : callable
        Task -> Found with a lower bound only.
    build_program : callable
        Instance -> the formulation as a `LinearProgram`.
    build_global : callable or None
        Instance -> the equivalent formulation in Pyomo that a global solver gets; None = that of `build_model`.
    solvers : tuple of str
        Names that `solver` may have, the default first.
    method_of_solver : mapping
        Solver -> the only method that uses it, for a solver that is not the default; meant where no method is named.
    refusal : callable
        Instance -> why it cannot be solved as it is, or None.
    starts : tuple of str
        Methods that gain from `Task.start`.
    monolith : tuple of (str, str)
        Method and solver that hand the whole formulation to a solver, to measure the others against.
    baselines : tuple of str
        Methods that only make points, from the literature or simple.

    """

    name: str
    terms: tuple[str, ...]
    read_solution: Callable[[dict[str, Any], Any, str], Solution]
    check: Callable[[Any, Any], Check]
    methods: Mapping[str, Callable[[Task], Found]]
    default_method: str
    bound: Callable[[Task], Found]
    build_program: Callable[[Any], Any]
    summary: Callable[[Any, Any], str]
    solvers: tuple[str, ...] = field(default=("highs",))
    method_of_solver: Mapping[str, str] = field(default_factory=dict)
    refusal: Callable[[Any], str | None] = field(default=lambda instance: None)
    build_global: Callable[[Any], Any] | None = None
    starts: tuple[str, ...] = ()
    monolith: tuple[str, str] = ("exact", "scip")
    baselines: tuple[str, ...] = ()

    def build_model(self, instance: Instance) -> pyo.ConcreteModel:
        """Build the formulation in Pyomo, which is imported here only, because it takes seconds."""
        return import_module(f"aigc_opt.problems.{self.name}.model").build_model(instance)


SOLVED = ("deployment", "offloading", "two_timescale")
"""Problems that have a folder here, with its `Problem` under the name PROBLEM and a `model.py`; imported when used."""


def problem_of(instance: Instance) -> Problem:
    """Return the problem that an instance belongs to.

    Raises
    ------
    InputError
        If this version cannot solve that problem, or the instance has to become another one first.

    """
    if instance.problem not in SOLVED:
        raise InputError(
            instance.name, [f"this version reads {instance.problem} instances, but does not solve them yet"]
        )
    problem = import_module(f"aigc_opt.problems.{instance.problem}").PROBLEM
    refusal = problem.refusal(instance)
    if refusal is not None:
        raise InputError(instance.name, [refusal])
    return problem
