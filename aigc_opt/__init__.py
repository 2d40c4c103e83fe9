"""Certified optimisation of AI-generated-content services at the edge.

>>> import aigc_opt
>>> instance = aigc_opt.load("instances/examples/deployment-small.json")
>>> result = aigc_opt.solve(instance)
>>> result.status, round(result.objective, 3)
(<Status.OPTIMAL: 'optimal'>, 1858.92)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aigc_opt.api import bound, check, export, load_result, load_solution, solve
    from aigc_opt.certificates import certify, check_certificate
    from aigc_opt.control import ProgressLine
    from aigc_opt.errors import AigcOptError, InputError, MissingSolverError, SolverError
    from aigc_opt.evaluation import Report, evaluate
    from aigc_opt.instance.files import load, save
    from aigc_opt.instance.fit import fit
    from aigc_opt.instance.generate import generate_deployment, generate_two_timescale
    from aigc_opt.instance.generate_offloading import generate_offloading
    from aigc_opt.instance.sample import sample
    from aigc_opt.problems.offloading import sensitivity
    from aigc_opt.result import Check, Result, Status, Violation
    from aigc_opt.tradeoffs.front import Front, front
    from aigc_opt.tradeoffs.limited import epsilon_constraint
    from aigc_opt.tradeoffs.sweep import ProgressBar, sweep
    from aigc_opt.tradeoffs.whatif import alternatives, value_of_capacity

# Where each public name lives; imported when it is first used, so that `import aigc_opt` stays quick.
_HOME = {
    "aigc_opt.api": ("solve", "bound", "check", "export", "load_result", "load_solution"),
    "aigc_opt.certificates": ("certify", "check_certificate"),
    "aigc_opt.instance.files": ("load", "save"),
    "aigc_opt.instance.fit": ("fit",),
    "aigc_opt.instance.generate": ("generate_deployment", "generate_two_timescale"),
    "aigc_opt.instance.generate_offloading": ("generate_offloading",),
    "aigc_opt.instance.sample": ("sample",),
    "aigc_opt.problems.offloading": ("sensitivity",),
    "aigc_opt.tradeoffs.front": ("Front", "front"),
    "aigc_opt.tradeoffs.limited": ("epsilon_constraint",),
    "aigc_opt.tradeoffs.sweep": ("ProgressBar", "sweep"),
    "aigc_opt.tradeoffs.whatif": ("alternatives", "value_of_capacity"),
    "aigc_opt.evaluation": ("evaluate", "Report"),
    "aigc_opt.control": ("ProgressLine",),
    "aigc_opt.result": ("Result", "Status", "Check", "Violation"),
    "aigc_opt.errors": ("AigcOptError", "InputError", "MissingSolverError", "SolverError"),
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "AigcOptError",
    "Check",
    "Front",
    "InputError",
    "MissingSolverError",
    "ProgressBar",
    "ProgressLine",
    "Report",
    "Result",
    "SolverError",
    "Status",
    "Violation",
    "alternatives",
    "bound",
    "certify",
    "check",
    "check_certificate",
    "epsilon_constraint",
    "evaluate",
    "export",
    "fit",
    "front",
    "generate_deployment",
    "generate_offloading",
    "generate_two_timescale",
    "load",
    "load_result",
    "load_solution",
    "sample",
    "save",
    "sensitivity",
    "solve",
    "sweep",
    "value_of_capacity",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module 'aigc_opt' has no attribute {name!r}")
    value = getattr(import_module(_MODULE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
