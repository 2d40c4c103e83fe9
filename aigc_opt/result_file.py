"""Reading a result file: what is wrong with it, the `Result` that it holds, and what a check finds in its claims."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from aigc_opt.errors import Fault, InputError
from aigc_opt.instance.base import Instance
from aigc_opt.instance.fields import describe, is_real, path_of, quote
from aigc_opt.result import (
    CONTRADICTION,
    POINTLESS,
    RESULT_FORMAT,
    RESULT_KEYS,
    RESULT_VERSION,
    ROUNDING,
    Check,
    Limit,
    Proof,
    Result,
    Solution,
    Status,
    TraceRow,
    Violation,
    contradicts,
    gap_of,
)


def is_result(data: dict[str, Any]) -> bool:
    """Whether a parsed file is a result rather than a bare solution."""
    return data.get("format") == RESULT_FORMAT


def result_faults(data: dict[str, Any], instance: Instance) -> Iterable[Fault]:
    """Faults of the parts of a result file that a check, or a reader, needs."""
    for key in data:
        if key not in RESULT_KEYS:
            yield Fault(path_of((key,)), "unknown key")
    version = data.get("version")
    if isinstance(version, bool) or version != RESULT_VERSION:
        yield Fault("version", f"must be {RESULT_VERSION}, got {describe(version)}")
    head = data.get("instance")
    if not isinstance(head, dict) or not isinstance(head.get("sha256"), str):
        yield Fault("instance.sha256", "is required, but missing")
    elif head["sha256"] != instance.sha256:
        name = head.get("name")
        yield Fault(
            "instance.sha256",
            f"this is the result of another instance ({describe(name)}, {quote(head['sha256'][:12])}...), "
            f"not of {instance.name!r} ({instance.sha256[:12]}...)",
        )
    yield from _type_faults(data)
    if data.get("solution") is None:
        status = data.get("status")
        claim = f" (status {status})" if status in POINTLESS else ""
        if status == Status.INFEASIBLE:
            claim = f": it says that no point exists{claim}"
        yield Fault("solution", f"this result has no solution to check{claim}")


def _type_faults(data: dict[str, Any]) -> Iterator[Fault]:
    """Types and ranges of a result's parts; one that is missing is no fault here."""
    for key, (good, expected) in _PARTS.items():
        if key in data and not good(data[key]):
            yield Fault(key, f"must be {expected}, got {describe(data[key])}")
    terms, certificate = data.get("terms"), data.get("certificate", {})
    if terms is not None and not (isinstance(terms, dict) and all(map(is_real, terms.values()))):
        yield Fault("terms", "must be an object of finite numbers or null")
    if not isinstance(certificate, dict) or ("certificate" in data and set(certificate) != set(_CERTIFICATE)):
        yield Fault("certificate", f"must be an object with {' and '.join(_CERTIFICATE)}, got {describe(certificate)}")
    else:
        for key, value in certificate.items():
            if not _is_one_of(value, _CERTIFICATE[key]):
                words = f"must be {' or '.join(_CERTIFICATE[key])}, got {describe(value)}"
                yield Fault(f"certificate.{key}", words)
    versions = data.get("versions", {})
    if not isinstance(versions, dict) or not all(isinstance(value, str) for value in versions.values()):
        yield Fault("versions", "must be an object of texts")
    yield from _trace_faults(data.get("trace", []))


def _trace_faults(rows: Any) -> Iterator[Fault]:
    """First fault of a trace, or none."""
    if not isinstance(rows, list) or not all(isinstance(row, dict) and set(row) == set(_TRACE) for row in rows):
        yield Fault("trace", f"must be a list of objects with {', '.join(_TRACE)}")
        return
    for index, row in enumerate(rows):
        for key, (good, expected) in _TRACE.items():
            if not good(row[key]):
                yield Fault(f"trace[{index}].{key}", f"must be {expected}, got {describe(row[key])}")
                return


def _is_one_of(value: Any, words: Iterable[str]) -> bool:
    return isinstance(value, str) and value in list(words)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_real_or_null(value: Any) -> bool:
    return value is None or is_real(value)


def _is_at_least_0(value: Any) -> bool:
    return is_real(value) and value >= 0


Expected = tuple[Callable[[Any], bool], str]
"""Whether a value is good, and what is expected."""

_REAL_OR_NULL: Expected = _is_real_or_null, "a finite number or null"
_AT_LEAST_0: Expected = _is_at_least_0, "a finite number >= 0"

_PARTS: dict[str, Expected] = {
    "method": (_is_text, "a text"),
    "status": (lambda value: _is_one_of(value, Status), " or ".join(Status)),
    "limit": (lambda value: value is None or _is_one_of(value, Limit), f"{' or '.join(Limit)} or null"),
    "objective": _REAL_OR_NULL,
    "lower_bound": _REAL_OR_NULL,
    "gap": _REAL_OR_NULL,
    "gap_tolerance": _AT_LEAST_0,
    "runtime_s": _AT_LEAST_0,
    "seed": (lambda value: _is_at_least_0(value) and value == int(value), "an integer >= 0"),
}

_CERTIFICATE: dict[str, Iterable[str]] = {"point": ("none", "checked"), "bound": Proof}

_TRACE: dict[str, Expected] = {
    "elapsed_s": _AT_LEAST_0,
    "objective": _REAL_OR_NULL,
    "lower_bound": _REAL_OR_NULL,
    "event": (_is_text, "a text"),
}


def result_from_dict(data: dict[str, Any], instance: Instance, solution: Solution, origin: str) -> Result:
    """Build the `Result` of a parsed file that has none of `result_faults`, and whose `solution` was read already.

    Raises
    ------
    InputError
        If a part is missing.

    """
    if found := _missing(data):
        raise InputError(origin, found)
    return Result(
        instance=dict(data["instance"]),
        method=data["method"],
        status=Status(data["status"]),
        limit=None if data["limit"] is None else Limit(data["limit"]),
        objective=data["objective"],
        lower_bound=data["lower_bound"],
        gap_tolerance=float(data["gap_tolerance"]),
        proof=Proof(data["certificate"]["bound"]),
        terms=data["terms"],
        trace=tuple(TraceRow(**row) for row in data["trace"]),
        runtime_s=float(data["runtime_s"]),
        seed=int(data["seed"]),
        versions=dict(data["versions"]),
        solution=solution,
        checked=data["certificate"]["point"] == "checked",
    )


def _missing(data: dict[str, Any]) -> list[Fault]:
    return [Fault(path_of((key,)), "is required, but missing") for key in RESULT_KEYS if key not in data]


def record_violations(data: dict[str, Any], check: Check) -> list[Violation]:
    """Where a result's own numbers contradict what the checker recomputed (tolerance 1e-6 relative), or each other.

    Its gap must be that of its objective and its bound, and its status what these and the solution make of it. A status
    that claims less than it could (``feasible`` where the gap is small) is no contradiction, nor is what is not there.
    """
    found = []

    def differs(recorded: float | None, computed: float | None, scale: float) -> float:
        if recorded is None or computed is None:
            return 0.0 if recorded is computed else math.inf
        return 0.0 if abs(recorded - computed) <= 1e-6 * scale else abs(recorded - computed)

    def note(where: str, amount: float) -> None:
        # JSON has no infinity: a side that is missing counts as 1.
        found.append(Violation("record", where, amount if math.isfinite(amount) else 1.0))

    objective = check.objective
    scale = max(abs(objective), 1e-9) if objective is not None else 1.0
    if amount := differs(data.get("objective"), objective, scale):
        note("objective", amount)
    recorded = data.get("terms") or {}
    computed = check.terms or {}
    for key in sorted(set(recorded) | set(computed)):
        term = computed.get(key)
        # A term may be tiny beside the objective; what counts is what it moves.
        if amount := differs(recorded.get(key), term, max(scale, abs(term or 0.0))):
            note(f"terms.{key}", amount)
    bound = data.get("lower_bound")
    if bound is not None and objective is not None and contradicts(bound, objective):
        note("lower_bound", bound - objective)
    gap = gap_of(data.get("objective"), bound)
    if "gap" in data and (amount := differs(data["gap"], gap, 1.0)):
        note("gap", amount)
    status, tolerance = data.get("status"), data.get("gap_tolerance")
    if status in POINTLESS:
        note("status", math.inf)  # there is a solution
    elif status == Status.OPTIMAL:
        excess = math.inf if gap is None else gap - (gap if tolerance is None else tolerance)
        if excess > ROUNDING:
            note("status", excess)
    if status in (Status.OPTIMAL, Status.FEASIBLE) and data.get("certificate", {}).get("point") == "none":
        note("certificate.point", math.inf)  # both of them mean a checked point
    return found


def slight_excess(data: dict[str, Any], check: Check) -> str | None:
    """Say that a result's bound is above its point, though by no more than the tolerance of points may explain.

    A point may break each constraint by a little, and so be a little better than any that breaks none. That is no
    violation, but somebody may want to know: the other explanation is a bound that is none.
    """
    bound, objective = data.get("lower_bound"), check.objective
    if bound is None or objective is None or contradicts(bound, objective):
        return None
    if not contradicts(bound, objective, ROUNDING):
        return None
    return (
        f"lower_bound: {bound!r} is above the recomputed objective {objective!r}, by no more than the tolerance of "
        f"points ({CONTRADICTION:g} relative) may explain"
    )


def shape_faults(data: dict[str, Any]) -> list[Fault]:
    """Faults of a parsed result file as far as they can be told without its instance: keys, types, the trace."""
    if found := _missing(data):
        return found
    head = data["instance"]
    if not isinstance(head, dict) or not all(isinstance(head.get(key), str) for key in ("name", "problem", "sha256")):
        found.append(Fault("instance", "must be an object with name, problem and sha256"))
    return [*found, *_type_faults(data)]
