"""How far each deployment instance closes, and how good the heuristics are, in one run; prints Markdown tables.

    python benchmarks/deployment.py [--time-limit 100] [--only melbourne] [--heuristics] [--output FILE.md]
    python benchmarks/deployment.py --size 12x30x48 --method lagrangian --time-limit 120

Instances: the committed real ones, and generated ones of every family. Every interval is checked again from its result
file by the command line's own ``check``.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from pathlib import Path

import aigc_opt
from aigc_opt.api import versions
from aigc_opt.instance.generate import DEPLOYMENT_FAMILIES, generate_deployment
from aigc_opt.problems.deployment import PROBLEM

ROOT = Path(__file__).resolve().parent.parent


def instances():
    """Yield real instances, then generated ones."""
    for size in ("small", "medium", "large"):
        yield aigc_opt.load(ROOT / "instances" / "deployment" / f"melbourne-cbd-{size}.json")
    for family in DEPLOYMENT_FAMILIES:
        yield generate_deployment(4, 10, 12, family=family, seed=0)
    yield generate_deployment(4, 10, 12, load=0.5, seed=0, name="balanced-4x10x12-0-load-0.5")
    yield generate_deployment(6, 16, 24, seed=0)


def checked(instance, result) -> bool:
    """Write the result, read it again and check it with its own claims."""
    with tempfile.TemporaryDirectory() as folder:
        result.save(Path(folder) / "result.json")
        return aigc_opt.check(instance, Path(folder) / "result.json").feasible


def rows(chosen, method: str, time_limit: float):
    """Yield a table of one method."""
    yield "| instance | objective | lower bound | bound by | gap | seconds | checked |"
    yield "|---|---:|---:|---|---:|---:|---|"
    for instance in chosen:
        result = aigc_opt.solve(instance, method=method, time_limit=time_limit)
        ends = ["-" if end is None else f"{end:,.2f}" for end in (result.objective, result.lower_bound)]
        gap = "-" if result.gap is None else f"{100 * result.gap:.3f}%"
        good = "no point" if result.solution is None else "yes" if checked(instance, result) else "NO"
        cells = [instance.name, *ends, str(result.proof), gap, f"{result.runtime_s:.1f}", good]
        yield f"| {' | '.join(cells)} |"


def heuristic_rows(chosen, time_limit: float):
    """Yield a table of the heuristics' objectives, each over the best lower bound known in this run."""
    names = PROBLEM.baselines
    yield f"| instance | {' | '.join(names)} |"
    yield f"|---|{'---:|' * len(names)}"
    for instance in chosen:
        bound = aigc_opt.bound(instance, time_limit=time_limit).lower_bound
        cells = []
        for name in names:
            found = aigc_opt.solve(instance, method=name, bound=False, time_limit=time_limit)
            cells.append(f"{100 * (found.objective / bound - 1):.2f}%")
        yield f"| {instance.name} | {' | '.join(cells)} |"


def main() -> None:
    """Print, and perhaps write, the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--time-limit", type=float, default=100.0, help="seconds for each solve (default 100)")
    parser.add_argument("--only", default="", help="only instances whose name has this in it")
    parser.add_argument("--size", help="only a generated instance, servers x models x slots, such as 12x30x48")
    parser.add_argument("--method", default="exact", help="exact (default) or lagrangian")
    parser.add_argument("--heuristics", action="store_true", help="the heuristics' table instead of the exact one")
    parser.add_argument("--output", type=Path, help="also write the table here")
    arguments = parser.parse_args()
    made_here = [generate_deployment(*map(int, arguments.size.split("x")), seed=0)] if arguments.size else instances()
    chosen = [instance for instance in made_here if arguments.only in instance.name]
    used = ", ".join(f"{name} {number}" for name, number in versions().items())
    lines = [f"{os.cpu_count()} cores, {platform.machine()}; {used}; {arguments.time_limit:g} s each.", ""]
    print("\n".join(lines), flush=True)
    table = (
        heuristic_rows(chosen, arguments.time_limit)
        if arguments.heuristics
        else rows(chosen, arguments.method, arguments.time_limit)
    )
    for line in table:
        print(line, flush=True)
        lines.append(line)
    if arguments.output:
        arguments.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
