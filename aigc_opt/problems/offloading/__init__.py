"""The offloading problem: where each user's task runs, with how many steps, and for how long it computes."""

from __future__ import annotations

from aigc_opt.problems.offloading.check import check
from aigc_opt.problems.offloading.decomposition import bound, relaxed_program
from aigc_opt.problems.offloading.methods import METHODS
from aigc_opt.problems.offloading.sensitivity import Sensitivity, sensitivity
from aigc_opt.problems.offloading.solution import OffloadingSolution
from aigc_opt.problems.offloading.summary import summary
from aigc_opt.problems.problem import Problem

__all__ = ["PROBLEM", "OffloadingSolution", "Sensitivity", "sensitivity"]


PROBLEM = Problem(
    name="offloading",
    terms=("quality", "delay", "energy", "rejection"),
    read_solution=OffloadingSolution.from_dict,
    check=check,
    methods=METHODS,
    default_method="decomposition",
    bound=bound,
    build_program=relaxed_program,
    summary=summary,
    solvers=("highs", "scip"),
    method_of_solver={"scip": "exact"},
    baselines=("alternating", "all-local", "all-best-server", "random", "fixed-steps", "greedy-deadline"),
)
