"""The certificate file: multipliers and what they prove, written and read, and judged by rational arithmetic alone."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from aigc_opt.certificates import deployment, offloading, two_timescale
from aigc_opt.certificates.rationals import double_below, floor_to
from aigc_opt.errors import Fault, InputError
from aigc_opt.instance.base import Instance, number
from aigc_opt.instance.fields import FAULTS_PER_FILE, describe, path_of, quote

CERTIFICATE_FORMAT = "aigc-opt/certificate"
CERTIFICATE_VERSION = 1
KEYS = ("format", "version", "instance", "kind", "multipliers", "bound", "lower_bound")
KINDS = {
    "deployment": ("relaxation", "lagrangian", "benders"),
    "offloading": ("lagrangian",),
    "two_timescale": ("lagrangian", "benders"),
}
EVALUATIONS = {"deployment": deployment, "offloading": offloading, "two_timescale": two_timescale}

CLAIM_BITS = 128
"""The claim is the dual value rounded down to so many bits: short, and provable again by any program that encloses the
few irrational numbers to more digits than that."""

CLAIM_DIGITS = 4000
MOST = 1e100
"""Largest size of a multiplier: larger ones prove nothing, and their digits only take time."""

LARGEST_WEIGHT = 10**9


@dataclass(frozen=True)
class Certificate:
    """Multipliers of a lower bound, and the bound that rational arithmetic makes of them.

    Attributes
    ----------
    instance : dict
        Name, problem and sha256.
    kind : str
        Where the multipliers come from: ``relaxation``, ``lagrangian`` or ``benders``.
    multipliers : dict
        Lists of doubles, see docs/certificates.md.
    bound : Fraction
        No point that keeps every constraint is below it.

    """

    instance: dict[str, str]
    kind: str
    multipliers: dict[str, Any]
    bound: Fraction

    @property
    def lower_bound(self) -> float:
        """`bound` as a double, rounded down."""
        return double_below(self.bound)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of the certificate file."""
        return {
            "format": CERTIFICATE_FORMAT,
            "version": CERTIFICATE_VERSION,
            "instance": self.instance,
            "kind": self.kind,
            "multipliers": self.multipliers,
            "bound": str(self.bound),
            "lower_bound": self.lower_bound,
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the certificate file; an old one stays until the new one is whole."""
        from aigc_opt.instance.files import dump_json, write_text

        write_text(path, dump_json(self.to_dict()))


def certified(instance: Instance, kind: str, multipliers: dict[str, Any]) -> Certificate | None:
    """Evaluate multipliers exactly; None where some user of an offloading instance has no option at all.

    Raises
    ------
    InputError
        If they are not multipliers of the instance.

    """
    data = instance.to_dict()
    if found := list(multiplier_faults(data, multipliers)):
        raise InputError("multipliers", found)
    value = EVALUATIONS[instance.problem].evaluate(data, multipliers)
    if value is None:
        return None
    return Certificate(instance.identity, kind, multipliers, floor_to(value, CLAIM_BITS))


def is_certificate(data: dict[str, Any]) -> bool:
    """Whether a parsed file is a certificate."""
    return data.get("format") == CERTIFICATE_FORMAT


def from_dict(data: dict[str, Any], instance: Instance, origin: str) -> tuple[Certificate, float]:
    """Read a parsed certificate for its instance; also the double that it claims.

    Raises
    ------
    InputError
        With everything that is wrong with it, as far as it can be told without evaluating it.

    """
    found = [Fault(path_of((key,)), "unknown key") for key in data if key not in KEYS]
    found += [Fault(key, "is required, but missing") for key in KEYS if key not in data]
    if found:
        raise InputError(origin, found)
    if not is_certificate(data):
        found.append(Fault("format", f"must be {CERTIFICATE_FORMAT!r}, got {describe(data['format'])}"))
    if isinstance(data["version"], bool) or data["version"] != CERTIFICATE_VERSION:
        found.append(Fault("version", f"must be {CERTIFICATE_VERSION}, got {describe(data['version'])}"))
    head = data["instance"]
    if not isinstance(head, dict) or not isinstance(head.get("sha256"), str):
        found.append(Fault("instance.sha256", "is required, but missing"))
    elif head["sha256"] != instance.sha256:
        words = f"this certifies another instance ({describe(head.get('name'))}, {quote(head['sha256'][:12])}...)"
        found.append(Fault("instance.sha256", f"{words}, not {instance.name!r} ({instance.sha256[:12]}...)"))
    kinds = KINDS[instance.problem]
    if data["kind"] not in kinds:
        found.append(Fault("kind", f"must be {' or '.join(kinds)}, got {describe(data['kind'])}"))
    bound = _rational(data["bound"])
    if bound is None:
        found.append(Fault("bound", f"must be a rational number as text, like '7/4', got {describe(data['bound'])}"))
    elif abs(bound) > sys.float_info.max:
        found.append(Fault("bound", f"must be at most the largest double in size, got {describe(data['bound'])}"))
    claimed = data["lower_bound"]
    if number(claimed) is None:
        found.append(Fault("lower_bound", f"must be a finite number, got {describe(claimed)}"))
    if found or bound is None:
        raise InputError(origin, found)
    found = list(multiplier_faults(instance.to_dict(), data["multipliers"]))
    if found:
        raise InputError(origin, found[:FAULTS_PER_FILE])
    return Certificate(dict(head), data["kind"], data["multipliers"], bound), float(claimed)


def multiplier_faults(data: dict[str, Any], multipliers: Any) -> Iterator[Fault]:
    """Faults of multipliers for an instance (as `to_dict` gives it): keys, shapes, sizes, signs, what they are of."""
    if not isinstance(multipliers, dict):
        yield Fault("multipliers", f"must be an object, got {describe(multipliers)}")
        return
    shapes = _shapes(data)
    lists = ("inequalities",) if data["problem"] == "deployment" else ()
    found = [Fault(path_of(("multipliers", key)), "unknown key") for key in multipliers if key not in (*shapes, *lists)]
    for key in (*shapes, *lists):
        if key not in multipliers:
            found.append(Fault(f"multipliers.{key}", "is required, but missing"))
    if not found:
        for key, (shape, low, high) in shapes.items():
            found += _array_faults(f"multipliers.{key}", multipliers[key], shape, low, high)
        if lists:
            found += _inequality_faults(data, multipliers["inequalities"])
    yield from found
    if not found:
        yield from EVALUATIONS[data["problem"]].faults(data, multipliers)


def _shapes(data: dict[str, Any]) -> dict[str, tuple[tuple[int, ...], float, float]]:
    """Shape, least and largest entry of each array of multipliers."""
    if data["problem"] == "deployment":
        slots, servers, models = len(data["arrivals"]), len(data["servers"]), len(data["models"])
        limits = dict.fromkeys(deployment.LIMITS, ((slots, servers), 0.0, MOST))
        return {"demand": ((slots, servers, models), -MOST, MOST), **limits}
    if data["problem"] == "offloading":
        return {"ghz": ((len(data["servers"]),), 0.0, MOST)}
    model = data["requests"]["model"]
    shape = len(model), len(model[0]), len(model[0][0])
    shares = dict.fromkeys(("uplink_share", "downlink_share"), (shape, 0.0, 1.0))
    return {"steps": (shape[:2], 0.0, MOST), "switches": ((shape[0], len(data["models"])), 0.0, MOST), **shares}


def _array_faults(path: str, value: Any, shape: tuple[int, ...], low: float, high: float) -> list[Fault]:
    """First fault of nested lists of doubles, or none."""
    if not shape:
        if number(value) is None:
            return [Fault(path, f"must be a finite number, got {describe(value)}")]
        if not low <= value <= high:
            limit = f">= {low:g}" if value < low else f"<= {high:g}"
            return [Fault(path, f"must be {limit}, got {value:g}")]
        return []
    if not isinstance(value, list) or len(value) != shape[0]:
        got = f"{len(value)}" if isinstance(value, list) else describe(value)
        return [Fault(path, f"must be a list of {shape[0]}, got {got}")]
    for index, item in enumerate(value):
        if found := _array_faults(f"{path}[{index}]", item, shape[1:], low, high):
            return found
    return []


def _inequality_faults(data: dict[str, Any], rows: Any) -> Iterator[Fault]:
    if not isinstance(rows, list):
        yield Fault("multipliers.inequalities", f"must be a list, got {describe(rows)}")
        return
    for index, row in enumerate(rows):
        path = f"multipliers.inequalities[{index}]"
        if not isinstance(row, dict) or set(row) != {"of", "server", "weights", "limit", "prices"}:
            yield Fault(path, "must be an object with of, server, weights, limit and prices")
            return
        if row["of"] not in tuple(deployment.SIZES):
            yield Fault(f"{path}.of", f"must be {' or '.join(deployment.SIZES)}, got {describe(row['of'])}")
        if not _is_whole(row["server"], len(data["servers"]) - 1):
            yield Fault(f"{path}.server", f"must be an index of a server, got {describe(row['server'])}")
        weights = row["weights"]
        if not isinstance(weights, list) or len(weights) != len(data["models"]):
            yield Fault(f"{path}.weights", f"must be a list of {len(data['models'])}")
        elif not all(_is_whole(weight, LARGEST_WEIGHT) for weight in weights):
            yield Fault(f"{path}.weights", f"must be integers from 0 to {LARGEST_WEIGHT}")
        if not _is_whole(row["limit"], LARGEST_WEIGHT * len(data["models"])):
            yield Fault(f"{path}.limit", f"must be an integer >= 0, got {describe(row['limit'])}")
        yield from _array_faults(f"{path}.prices", row["prices"], (len(data["arrivals"]),), 0.0, MOST)


def _is_whole(value: Any, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


def _rational(text: Any) -> Fraction | None:
    """Return the rational number that a text of the form p or p/q holds; None if it is none."""
    if not isinstance(text, str) or len(text) > CLAIM_DIGITS or not re.fullmatch(r"-?[0-9]+(/0*[1-9][0-9]*)?", text):
        return None
    return Fraction(text)
