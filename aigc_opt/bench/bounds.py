"""``bounds.json``: the best interval known of each instance, where each end came from and when.

An interval that contradicts a known one is an error: a point below a bound, or a bound above a point, means that one
of the two is wrong.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aigc_opt.bench.rows import Row
from aigc_opt.errors import Fault, InputError
from aigc_opt.instance.fields import describe
from aigc_opt.instance.files import read_json, write_text
from aigc_opt.result import contradicts

BETTER = 1e-9
"""Relative: an end that is better by less is rounding."""

FORMAT, VERSION = "aigc-opt/bounds", 1


@dataclass(frozen=True)
class End:
    """One end of an interval, and where it came from: the command, the version of the package, the day."""

    value: float
    command: str
    version: str
    date: str


@dataclass(frozen=True)
class Known:
    """The best interval known of an instance.

    Attributes
    ----------
    sha256 : str
        Of the instance, as in results.
    lower_bound, objective : End or None
    infeasible : End or None
        Where it is proved that there is no point; the value is 0 and means nothing.

    """

    problem: str
    sha256: str
    lower_bound: End | None = None
    objective: End | None = None
    infeasible: End | None = None


def read_bounds(path: str | os.PathLike[str]) -> dict[str, Known]:
    """Read known intervals by problem and name of the instance, ``problem/name``.

    Raises
    ------
    InputError
        If the file is not what it must be, or an interval contradicts itself.

    """
    data = read_json(path)
    faults: list[Fault | str] = []
    if data.get("format") != FORMAT or data.get("version") != VERSION:
        raise InputError(str(path), [f"must have format {FORMAT!r} and version {VERSION}"])
    if not isinstance(data.get("instances"), dict):
        raise InputError(str(path), [Fault("instances", f"must be an object, got {describe(data.get('instances'))}")])
    found = {}
    for name, entry in data["instances"].items():
        try:
            ends = {key: None if entry[key] is None else End(**entry[key]) for key in _ENDS}
            known = Known(str(entry["problem"]), str(entry["sha256"]), **ends)
            values = [end.value for end in ends.values() if end is not None]
            if not all(math.isfinite(value) for value in values):
                raise ValueError("a value that is not finite")
        except (KeyError, TypeError, ValueError) as error:
            faults.append(Fault(f"instances.{name}", f"is not an interval: {type(error).__name__}: {error}"))
            continue
        if known.objective and known.lower_bound and contradicts(known.lower_bound.value, known.objective.value):
            faults.append(Fault(f"instances.{name}", "has a lower bound above its objective"))
        found[name] = known
    if faults:
        raise InputError(str(path), faults)
    return found


_ENDS = ("lower_bound", "objective", "infeasible")


def write_bounds(path: str | os.PathLike[str], bounds: Mapping[str, Known]) -> None:
    """Write known intervals, an instance in every line, sorted by name."""

    def entry(known: Known) -> dict[str, Any]:
        ends = {key: getattr(known, key) for key in _ENDS}
        head: dict[str, Any] = {"problem": known.problem, "sha256": known.sha256}
        return head | {key: None if end is None else vars(end) for key, end in ends.items()}

    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(entry(bounds[name]))}" for name in sorted(bounds))
    head = f' "format": {json.dumps(FORMAT)},\n "version": {VERSION},\n'
    write_text(path, f'{{\n{head} "instances": {{\n{lines}\n }}\n}}\n')


def contradictions(rows: Iterable[Row], bounds: Mapping[str, Known]) -> list[str]:
    """Return a line for each row that contradicts the known interval of its instance, or another row.

    What counts is `contradicts`: the checkers' own tolerance.
    """
    lines = []
    lowest: dict[tuple[str, str], tuple[float, Row]] = {}
    highest: dict[tuple[str, str], tuple[float, Row]] = {}
    infeasible: dict[tuple[str, str], Row] = {}
    for row in rows:
        at = row.place, row.sha256
        if row.status == "infeasible":
            infeasible.setdefault(at, row)
        if row.objective is not None and row.checked and (at not in lowest or row.objective < lowest[at][0]):
            lowest[at] = row.objective, row
        if row.lower_bound is not None and (at not in highest or row.lower_bound > highest[at][0]):
            highest[at] = row.lower_bound, row
        known = bounds.get(row.place)
        if known is not None:
            lines += [f"{row.place}, {row.label}: {words}" for words in _against(row, known)]
    for at in lowest.keys() & highest.keys():
        (objective, point), (lower_bound, bound) = lowest[at], highest[at]
        if contradicts(lower_bound, objective):
            lines.append(
                f"{at[0]}: the bound {lower_bound:.10g} of {bound.label} is above the checked point "
                f"{objective:.10g} of {point.label}"
            )
    lines += [
        f"{at[0]}: {infeasible[at].label} says that there is no point, {lowest[at][1].label} has one"
        for at in infeasible.keys() & lowest.keys()
    ]
    return lines


def _against(row: Row, known: Known) -> list[str]:
    """Say what a row contradicts in what is known."""
    if row.sha256 != known.sha256:
        return [f"the known interval is of another instance of this name, {known.sha256[:12]}, not {row.sha256[:12]}"]
    lines = []
    if known.objective is not None:
        if row.status == "infeasible":
            lines.append(f"is called infeasible, but has a point of {known.objective.value:.10g}")
        if row.lower_bound is not None and contradicts(row.lower_bound, known.objective.value):
            lines.append(f"the bound {row.lower_bound:.10g} is above the known point {known.objective.value:.10g}")
    if row.objective is not None and row.checked:
        if known.infeasible is not None:
            lines.append(f"has a point of {row.objective:.10g}, but is known to be infeasible")
        if known.lower_bound is not None and contradicts(known.lower_bound.value, row.objective):
            lines.append(f"the point {row.objective:.10g} is below the known bound {known.lower_bound.value:.10g}")
    return lines


def improved(
    bounds: Mapping[str, Known], rows: Iterable[Row], commands: Mapping[tuple[str, str], str], version: str, date: str
) -> tuple[dict[str, Known], list[str]]:
    """Return known intervals with every end that a row has better, and a line for each of them.

    Parameters
    ----------
    rows : iterable of Row
        Rows that contradict nothing; only checked points count.
    commands : mapping
        The command line behind a row, by its key.

    """
    found, lines = dict(bounds), []
    for row in rows:
        known = found.get(row.place)
        if known is None or known.sha256 != row.sha256:
            known = Known(row.problem, row.sha256)
        ends: dict[str, End | None] = {key: getattr(known, key) for key in _ENDS}

        def take(key: str, value: float, row: Row = row, ends: dict[str, End | None] = ends) -> None:
            ends[key] = End(value, commands[row.key], version, date)
            lines.append(f"{row.place}: {key} {value:.12g} by {row.label}")

        best, least = known.objective, known.lower_bound
        if row.status == "infeasible" and known.infeasible is None:
            take("infeasible", 0.0)
        if row.objective is not None and row.checked and (best is None or _better(best.value, row.objective)):
            take("objective", row.objective)
        if row.lower_bound is not None and (least is None or _better(row.lower_bound, least.value)):
            take("lower_bound", row.lower_bound)
        found[row.place] = Known(known.problem, known.sha256, **ends)
    return found, lines


def _better(higher: float, lower: float) -> bool:
    return higher - lower > BETTER * max(1e-9, abs(lower))
