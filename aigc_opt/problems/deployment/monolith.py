"""The whole program handed to HiGHS with nothing of ours: what decomposition and cuts are measured against."""

from __future__ import annotations

from aigc_opt.control import require_memory
from aigc_opt.errors import SolverError
from aigc_opt.problems.deployment.arrays import DeploymentProgram, number_of_columns
from aigc_opt.problems.deployment.costs import Costs
from aigc_opt.problems.deployment.routing import complete
from aigc_opt.problems.problem import Found, Task
from aigc_opt.result import Proof
from aigc_opt.solvers import Answer, Highs

BYTES_SOLVING = 1500.0
"""What HiGHS takes for a column, presolve and all: 1,870 bytes at 1.8 million columns after a minute, more later."""


def monolith(task: Task) -> Found:
    """Hand the program to HiGHS as it is: no starting point, no cuts of ours, no decomposition.

    The bound is HiGHS's, where numbers are of sizes that it can tell apart. Its point is a placement, rounded, with its
    routing solved again exactly. Under a short limit there may be neither.
    """
    columns = number_of_columns(task.instance)
    require_memory(task.instance.name, f"HiGHS to solve {columns:,.0f} columns", BYTES_SOLVING * columns)
    built = DeploymentProgram(task.instance)
    believed = built.program.within_range()
    outcome = Highs(built.program).solve(task.gap, task.control, task.seed, report_bounds=believed)
    if outcome.answer not in (Answer.OPTIMAL, Answer.STOPPED):
        raise SolverError(f"HiGHS says {outcome.answer} of a program that has a feasible point")
    solution = None
    if outcome.x is not None:
        costs = Costs.of(task.instance)
        solution = complete(task.instance, costs, *built.placement(outcome.x))
    bound = outcome.bound if believed else None
    return Found(solution, bound, Proof.NONE if bound is None else Proof.SOLVER, outcome.limit)
