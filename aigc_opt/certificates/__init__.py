"""Lower bounds evaluated in exact rational arithmetic, as files that anybody can check.

`certify` takes multipliers from the solving modules and evaluates the dual function at them in rational numbers, from
the instance alone; `check_certificate` does the second half again for a file. What the two share, `certificate` and the
three evaluations, uses no floating-point arithmetic and nothing of the code that made the multipliers.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from aigc_opt.certificates.certificate import EVALUATIONS, KINDS, Certificate, certified, from_dict, is_certificate
from aigc_opt.certificates.rationals import double_below
from aigc_opt.control import Control, Progress
from aigc_opt.errors import InputError, SolverError
from aigc_opt.instance.base import Instance
from aigc_opt.instance.files import SOLUTION_BYTES, loaded, read_json
from aigc_opt.result import Proof, Result, contradicts, status_of

__all__ = [
    "Certificate", "Verdict", "adopted", "certify", "check_certificate", "is_certificate", "kind_of_method",
]  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """What rational arithmetic says of a certificate.

    Attributes
    ----------
    certificate : Certificate
        With the claim as its file has it.
    value : Fraction or None
        What the multipliers prove; None = nothing, some user has no option at all.
    reason : str or None
        Why it is refused; None = accepted.

    """

    certificate: Certificate
    value: Fraction | None
    reason: str | None

    @property
    def accepted(self) -> bool:
        """Whether the multipliers prove both claims, the rational number and the double."""
        return self.reason is None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of ``aigc-opt check --json``."""
        proved = None if self.value is None else double_below(self.value)
        return {"accepted": self.accepted, "kind": self.certificate.kind, "proved": proved, "reason": self.reason}


def certify(
    instance: Instance | str | os.PathLike[str],
    kind: str | None = None,
    time_limit: float | None = None,
    progress: Progress | None = None,
) -> Certificate | None:
    """Compute multipliers and evaluate their bound in exact rational arithmetic.

    Parameters
    ----------
    instance : Instance or path
    kind : str, optional
        ``relaxation``, ``lagrangian`` or ``benders`` for deployment, ``lagrangian`` for offloading, ``lagrangian`` or
        ``benders`` for two timescales. The default is the first, but ``lagrangian`` for large deployments.
    time_limit : float, optional
        Wall seconds for the multipliers; their evaluation takes its time beside that.
    progress : callable, optional

    Returns
    -------
    Certificate or None
        None where there was no time for multipliers, or where an offloading instance is infeasible because some user
        has no option at all: `solve` proves that, and says why. Where each user has one, but not all together, the
        certificate is a valid bound that says nothing of that.

    Raises
    ------
    InputError
        If the file or the kind is not what it must be.

    """
    from aigc_opt.certificates.multipliers import FINDERS, default_kind
    from aigc_opt.problems.problem import problem_of

    instance = loaded(instance)
    problem_of(instance)  # says so where an instance cannot be solved as it is
    kinds = KINDS[instance.problem]
    if kind is not None and kind not in kinds:
        raise InputError(instance.problem, [f"kind of certificate must be {' or '.join(kinds)}, got {kind!r}"])
    kind = kind or default_kind(instance)
    control = Control(time_limit, progress)
    with control.catching_interrupts():
        multipliers = FINDERS[instance.problem][kind](instance, control)
        return None if multipliers is None else certified(instance, kind, multipliers)


def kind_of_method(instance: Instance, method: str) -> str | None:
    """Return the kind of bound that belongs to a method of solving; None = the problem's default."""
    kind = "benders" if method == "exact" and instance.problem == "two_timescale" else method
    return kind if kind in KINDS[instance.problem] else None


def adopted(result: Result, certificate: Certificate) -> Result:
    """Return the result with the certified bound if that is the better one.

    A result's bound that is above the certified one stays, with its own proof: it may come from other multipliers, from
    branching or from a solver, of which the certificate says nothing.

    Raises
    ------
    SolverError
        If the certified bound contradicts the result's checked point.

    """
    bound, objective = certificate.lower_bound, result.objective
    if objective is not None and bound > objective:
        if contradicts(bound, objective):
            raise SolverError(f"the certified bound of {bound} is above the checked point of {objective}")
        bound = objective
    if result.lower_bound is not None and result.lower_bound >= bound:
        return result
    return replace(
        result, lower_bound=bound, proof=Proof.DUAL, status=status_of(objective, bound, result.gap_tolerance)
    )


def check_certificate(instance: Instance | str | os.PathLike[str], path: str | os.PathLike[str]) -> Verdict:
    """Evaluate the multipliers of a certificate file again, and judge its claims by that.

    Raises
    ------
    InputError
        If a file is malformed, the certificate is of another instance, or its multipliers are none of the instance's.

    """
    instance = loaded(instance)
    certificate, claimed = from_dict(read_json(path, SOLUTION_BYTES), instance, str(path))
    value = EVALUATIONS[instance.problem].evaluate(instance.to_dict(), certificate.multipliers)
    reason = None
    if value is None:
        reason = "some user has no option at all: there is no bound to certify"
    elif certificate.bound > value:
        shown = f"{double_below(value)!r}, not {double_below(certificate.bound)!r}"
        reason = f"its multipliers prove {shown} (exactly, the claim is too high by {_size(certificate.bound - value)})"
    elif Fraction(claimed) > certificate.bound:
        reason = f"its lower_bound {claimed!r} is above its own bound, {double_below(certificate.bound)!r} rounded down"
    return Verdict(certificate, value, reason)


def _size(value: Fraction) -> str:
    return f"{float(value):.3g}"
