"""The two-timescale problem: which models are cached in which frame, and what every request gets in its slot."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from aigc_opt.errors import InputError
from aigc_opt.instance.two_timescale import TwoTimescaleInstance
from aigc_opt.problems.problem import Problem
from aigc_opt.problems.two_timescale.check import check
from aigc_opt.problems.two_timescale.methods import METHODS, bound
from aigc_opt.problems.two_timescale.reports import summary
from aigc_opt.problems.two_timescale.solution import TwoTimescaleSolution

if TYPE_CHECKING:
    import pyomo.environ as pyo


def refusal(instance: TwoTimescaleInstance) -> str | None:
    """Say why a process cannot be solved as it is."""
    if instance.requests is not None:
        return None
    return "is a process, not an episode: draw one with `aigc-opt sample`, or judge policies with `aigc-opt evaluate`"


def build_global(instance: TwoTimescaleInstance) -> pyo.ConcreteModel:
    """Build the Pyomo model that SCIP gets, with the transfers as constants."""
    from aigc_opt.problems.two_timescale.monolith import build_global

    return build_global(instance)


def build_program(instance: TwoTimescaleInstance) -> NoReturn:
    """Refuse: rates and curves are not linear, so there is no linear program to write."""
    raise InputError(instance.name, ["is not a linear program: only .tex can be written of it"])


PROBLEM = Problem(
    name="two_timescale",
    terms=("delay", "quality", "switching"),
    read_solution=TwoTimescaleSolution.from_dict,
    check=check,
    methods=METHODS,
    default_method="decomposition",
    bound=bound,
    build_program=build_program,
    summary=summary,
    solvers=("highs", "scip"),
    method_of_solver={"scip": "exact"},
    refusal=refusal,
    build_global=build_global,
    baselines=("alternating", "popular", "static", "random", "cloud-only"),
)
