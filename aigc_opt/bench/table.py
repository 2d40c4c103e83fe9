"""The benchmark's rows as Markdown, with the machine and the versions that they were measured with."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from aigc_opt.bench.rows import Row
from aigc_opt.doctor import processor

PACKAGES = ("aigc_opt", "highspy", "numpy", "scipy", "pyomo", "pyscipopt")


def machine(packages: Iterable[str] = PACKAGES) -> dict[str, Any]:
    """Return what numbers of seconds depend on: hardware, system, versions of installed packages, load now."""
    versions = {"python": platform.python_version()}
    for name in packages:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    memory: float | None
    load: float | None
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
        load = round(os.getloadavg()[0], 1)
    except (ValueError, OSError, AttributeError):
        memory = load = None
    return {
        "processor": processor(), "cores": os.cpu_count(), "memory_gb": None if memory is None else round(memory, 1),
        "system": f"{platform.system()} {platform.machine()}", "versions": versions, "load_average": load,
    }  # fmt: skip


def described(about: dict[str, Any]) -> str:
    """Return a sentence of `machine`."""
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    memory = "" if about["memory_gb"] is None else f", {about['memory_gb']:g} GB"
    load = "" if about["load_average"] is None else f"; load average at the start {about['load_average']:g}"
    return f"{about['cores']} cores, {about['processor']}{memory}; {about['system']}; {versions}{load}."


def tables(rows: Sequence[Row], baselines: Iterable[str]) -> str:
    """Return a table of certified intervals, and one of baselines for each problem."""
    baselines = set(baselines)
    certified = [row for row in rows if row.label not in baselines]
    parts = [_certified(certified)]
    for problem in dict.fromkeys(row.problem for row in rows):
        chosen = [row for row in rows if row.problem == problem and row.label in baselines]
        if chosen:
            parts.append(_baselines(problem, chosen, certified))
    return "\n".join(parts)


def _certified(rows: Iterable[Row]) -> str:
    lines = [
        "| problem | instance | by | status | objective | lower bound | gap | bound by | limit s | wall s "
        "| processor s | MB | checked |",
        "|---|---|---|---|---:|---:|---:|---|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        solver = {"highs": "HiGHS", "scip": "SCIP"}.get(row.solver, row.solver)
        by = f"{row.label} ({solver})" if row.label == "monolith" else row.label
        checked = "yes" if row.checked else "NO" if row.fault else "no point"
        cells = [
            row.problem, row.name, by, row.status, number(row.objective), number(row.lower_bound), percent(row.gap),
            row.proof, f"{row.time_limit:g}", f"{row.wall_s:.1f}", f"{row.processor_s:.1f}", f"{row.peak_mb:.0f}",
            checked,
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _baselines(problem: str, rows: Sequence[Row], certified: Iterable[Row]) -> str:
    """Return how far above the best lower bound of the run each baseline's point is."""
    bounds: dict[str, float] = {}
    for row in certified:
        if row.lower_bound is not None and row.problem == problem:
            bounds[row.name] = max(row.lower_bound, bounds.get(row.name, -float("inf")))
    names = list(dict.fromkeys(row.label for row in rows))
    at = {row.key: row for row in rows}
    lines = [
        f"Baselines of {problem}: above the best lower bound in this run (and wall seconds of the process).",
        "",
        f"| instance | {' | '.join(names)} |",
        f"|---|{'---:|' * len(names)}",
    ]
    for name in dict.fromkeys(row.name for row in rows):
        cells = []
        for label in names:
            found = at.get((f"{problem}/{name}", label))
            if found is None or found.objective is None:
                cells.append("" if found is None else found.status)
            elif name not in bounds or bounds[name] <= 0:
                cells.append(f"{number(found.objective)} ({found.wall_s:.1f} s)")
            else:
                cells.append(f"{100 * (found.objective / bounds[name] - 1):.2f}% ({found.wall_s:.1f} s)")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def number(value: float | None) -> str:
    """Return an end of an interval."""
    return "-" if value is None else f"{value:.8g}"


def percent(gap: float | None) -> str:
    """Return a relative gap."""
    return "-" if gap is None else f"{100 * gap:.3g}%"
