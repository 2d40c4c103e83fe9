"""The report of an evaluation: statistics over episodes, as JSON, as a table, and as a picture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from aigc_opt.envs.optimal import SLOT_RELATIVE
from aigc_opt.errors import InputError
from aigc_opt.evaluation.statistics import Estimate
from aigc_opt.instance.files import dump_json, write_text

FORMAT, VERSION = "aigc-opt/report", 1

MEANING = (
    "What any policy that knows only the present can reach lies between lower and upper. A policy below lower by more "
    "than chance used what it could not know (the future of the episode), or its costs are not of these episodes."
)


@dataclass(frozen=True)
class Report:
    """A report; `data` is the JSON object of the format page."""

    data: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object."""
        return self.data

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the JSON file."""
        write_text(path, dump_json(self.data))

    def save_picture(self, path: str | os.PathLike[str]) -> None:
        """Write the picture, an SVG file.

        Raises
        ------
        InputError
            If the path has another ending, or cannot be written.

        """
        from aigc_opt.evaluation.drawing import drawing

        check_picture(path)
        write_text(path, drawing(self.data))

    def table(self) -> str:
        """Return what a person wants to know, as text."""
        data, percent = self.data, 100 * self.data["confidence"]
        lines = [
            f"{data['instance']['name']} ({data['instance']['problem']}): {data['episodes']} episodes from seed "
            f"{data['seed']}, intervals of {percent:g}%"
        ]
        names = [policy["name"] for policy in data["policies"]]
        width = max([len(name) for name in names] + [24])
        head = f"{'cost':>28}  {'gap to hindsight':>26}  caching  allocation  feasible  s/decision"
        lines.append(f"{'':<{width}}  {head}")
        for name, bound in _bounds(data):
            lines.append(f"{name:<{width}}  {_pair(bound):>28}")
        for policy in sorted(data["policies"], key=lambda p: np.inf if p["cost"] is None else p["cost"]["mean"]):
            parts = policy["attribution"] or {}
            cells = [f"{parts[key]['mean']:.4g}" if parts.get(key) else "-" for key in ("caching", "allocation")]
            seconds = policy["seconds_per_decision"]
            lines.append(
                f"{policy['name']:<{width}}  {_pair(policy['cost']):>28}  {_pair(policy['gap'], 100, '%'):>26}  "
                f"{cells[0]:>7}  {cells[1]:>10}  {policy['feasible_episodes']:>8}  "
                f"{'-' if seconds is None else f'{seconds:.2g}':>10}"
            )
        for policy in data["policies"]:
            for v in policy.get("violations", [])[:3]:
                place = f"episode {v['episode']}, {v['where']}"
                lines.append(f"{policy['name']}: refused: {v['constraint']} at {place}, by {v['amount']:.4g}")
        bounded = bounded_episodes(data)
        if bounded < data["episodes"]:
            lines.append(
                f"Hindsight has a bound in {bounded} of {data['episodes']} episodes (for the others the time limit was "
                "too short): its mean, gaps and attribution are of those alone, costs of all that were accepted."
            )
        reachable = data["bounds"]["nonanticipative"]
        if reachable is not None:
            lines.append(reachable["note"])
        return "\n".join(lines)


def check_picture(path: str | os.PathLike[str] | None) -> None:
    """Refuse a place for a picture whose ending promises another format than the one that is written."""
    if path is not None and Path(path).suffix != ".svg":
        words = "must end in .svg; aigc-opt plot draws a report's gaps as .png or .pdf"
        raise InputError(str(path), [words])


def _bounds(data: dict[str, Any]) -> list[tuple[str, dict[str, Any] | None]]:
    found = [("[hindsight bound]", data["bounds"]["hindsight"])]
    reachable = data["bounds"]["nonanticipative"]
    if reachable is not None:
        found += [("[non-anticipative lower]", reachable["lower"]), ("[non-anticipative upper]", reachable["upper"])]
    return found


def _pair(value: dict[str, Any] | None, factor: float = 1.0, unit: str = "") -> str:
    if value is None:
        return "-"
    text = f"{factor * value['mean']:.5g}{unit}"
    return text if value["ci"] is None else f"{text} [{factor * value['ci'][0]:.5g}, {factor * value['ci'][1]:.5g}]"


def make_report(
    instance: dict[str, Any],
    records: Sequence[dict[str, Any]],
    names: Sequence[str],
    seed: int,
    confidence: float,
    gaps: np.ndarray | None,
    way: str,
) -> Report:
    """Make the report of episodes.

    Parameters
    ----------
    instance : dict
        Name, problem and sha256.
    records : sequence of dict
        What `Episodes.play` returned.
    names : sequence of str
        Policies, in the order of the report.
    gaps : ndarray, shape (R,), or None
        Replications of `Nonanticipative`; None where that was out of reach.
    way : str
        How the non-anticipative bounds were found, in words.

    """
    hindsight = [r["hindsight"] for r in records if r["hindsight"] is not None]
    bounds = {"hindsight": _estimate(hindsight, confidence), "nonanticipative": None}
    policies = [_policy(name, records, confidence) for name in names]
    if gaps is not None and records:
        bounds["nonanticipative"] = _sampled(records, names, gaps, way, confidence)
    elif records and all(r["relaxed"] is not None for r in records):
        bounds["nonanticipative"] = _relaxed(records, policies, way, confidence)
    data = {
        "format": FORMAT, "version": VERSION, "instance": instance, "episodes": len(records), "seed": seed,
        "confidence": confidence, "bounds": bounds, "policies": policies,
    }  # fmt: skip
    return Report(data)


def _estimate(values: list[float], confidence: float) -> dict[str, Any] | None:
    """Mean, interval and number of episodes, of those that have the value; None where none has."""
    return {**Estimate.of(values).to_dict(confidence), "episodes": len(values)} if values else None


def bounded_episodes(data: dict[str, Any]) -> int:
    """Number of a report's episodes that have a hindsight bound: its mean, gaps and attribution are of those alone."""
    hindsight = data["bounds"]["hindsight"]
    return 0 if hindsight is None else hindsight["episodes"]


def _policy(name: str, records: Sequence[dict[str, Any]], confidence: float) -> dict[str, Any]:
    """Statistics of one policy over the episodes that the checker accepted."""
    played = [(r, r["policies"][name]) for r in records]
    good = [(r, p) for r, p in played if p["cost"] is not None]
    paired = [(r, p) for r, p in good if r["hindsight"] is not None]
    split = [(r, p) for r, p in paired if p["same_choices"] is not None]

    def estimate(values: list[float]) -> dict[str, Any] | None:
        return _estimate(values, confidence)

    whole = all(r["hindsight"] for r, _ in paired)  # a bound of 0 has no relative gap
    attribution = None
    if split:
        attribution = {
            "caching": estimate([p["same_choices"] - r["hindsight"] for r, p in split]),
            "allocation": estimate([p["cost"] - p["same_choices"] for _, p in split]),
        }
    decisions = sum(p["decisions"] for _, p in played)
    terms = None
    if good:
        terms = {key: float(np.mean([p["terms"][key] for _, p in good])) for key in good[0][1]["terms"]}
    return {
        "name": name,
        "cost": estimate([p["cost"] for _, p in good]),
        "terms": terms,
        "gap": estimate([(p["cost"] - r["hindsight"]) / abs(r["hindsight"]) for r, p in paired]) if whole else None,
        "attribution": attribution,
        "feasible_episodes": len(good),
        "seconds_per_decision": sum(p["seconds"] for _, p in played) / decisions if decisions else None,
        "violations": [{"episode": r["episode"], **v} for r, p in played for v in p["violations"]],
    }


@dataclass(frozen=True)
class _Compared:
    """What a policy's cost is above a lower bound, paired by episode over those that the checker accepted."""

    name: str
    above: Estimate
    accepted: int


def _compared(records: Sequence[dict[str, Any]], names: Sequence[str], least: Sequence[float]) -> list[_Compared]:
    """Compare policies with a number a record; those with fewer than two accepted episodes are left out."""
    found = []
    for name in names:
        costs = [record["policies"][name]["cost"] for record in records]
        pairs = [cost - bound for cost, bound in zip(costs, least, strict=True) if cost is not None]
        if len(pairs) > 1:
            found.append(_Compared(name, Estimate.of(pairs), len(pairs)))
    return found


def _sampled(
    records: Sequence[dict[str, Any]], names: Sequence[str], gaps: np.ndarray, way: str, confidence: float
) -> dict[str, Any]:
    """Bounds from a policy near the best and the replications of its gap (see `nonanticipative`)."""
    upper, gap = Estimate.of([r["reachable"] for r in records]), Estimate.of(gaps)
    # Its allocations are optimal only to SLOT_RELATIVE; without that its cost may be too high for a lower bound.
    played = [r["reachable"] * (1.0 - SLOT_RELATIVE) for r in records]
    lower = Estimate.of(played).plus(gap, -1.0)
    # cost - lower = (cost - upper) + gap, paired by episode: the luck of the episodes cancels.
    beside = [replace(c, above=c.above.plus(gap)) for c in _compared(records, names, played)]
    return {
        "lower": lower.to_dict(confidence),
        "upper": upper.to_dict(confidence),
        "note": _note(f"By sample average approximation: {way}.", beside, len(records), lower.mean, confidence),
    }


def _relaxed(
    records: Sequence[dict[str, Any]], policies: list[dict[str, Any]], way: str, confidence: float
) -> dict[str, Any]:
    """Bounds by information relaxation; above, what the best evaluated policy reaches that is not clairvoyant."""
    least = [r["relaxed"] for r in records]
    lower = Estimate.of(least)
    beside = _compared(records, [policy["name"] for policy in policies], least)
    caught = {c.name for c in beside if _is_below(c, confidence)}
    whole = [p for p in policies if p["feasible_episodes"] == len(records) and p["name"] not in caught | {"offline"}]
    upper = min((p["cost"] for p in whole), key=lambda cost: cost["mean"], default=None)
    way = f"By {way}; upper is the best policy of this report."
    return {
        "lower": lower.to_dict(confidence),
        "upper": upper,
        "note": _note(way, beside, len(records), lower.mean, confidence),
    }


def _is_below(compared: _Compared, confidence: float) -> bool:
    interval = compared.above.interval(confidence)
    return interval is not None and interval[1] < 0


def _note(way: str, beside: list[_Compared], episodes: int, lower: float, confidence: float) -> str:
    """Say how the bounds were found, what they mean, and which policies stand below them."""
    parts = [way, MEANING]
    for compared in beside:
        interval = compared.above.interval(confidence)
        if interval is None or interval[1] >= 0:
            continue
        scale = 100 / abs(lower) if lower else 1.0
        refused = episodes - compared.accepted
        where = f" on the {compared.accepted} of {episodes} episodes in which it was accepted" if refused else ""
        words = (
            f"BELOW: {compared.name} is {-scale * compared.above.mean:.3g}% below lower{where} "
            f"({100 * confidence:g}%: {-scale * interval[1]:.3g}% to {-scale * interval[0]:.3g}%), "
            "which no policy that knows only the present and is always feasible can be on average."
        )
        if refused:
            words += (
                f" The checker refused {refused}: a policy that is refused where others pay much may be below by that."
            )
        if compared.name == "offline":
            words += " It replays the optimum of each whole episode: clairvoyant by design."
        parts.append(words)
    return " ".join(parts)
