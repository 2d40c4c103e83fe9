"""Time, memory and gap of two-timescale episodes by size; every row is a process of its own.

    python benchmarks/two_timescale.py                    the examples, the paper's size, 100 and 1,000 slots
    python benchmarks/two_timescale.py --long             10,000 and 100,000 slots too (a quarter of an hour)
    python benchmarks/two_timescale.py --output table.md --plot growth.png

Times are wall seconds of reading or sampling, solving and checking. Seconds of the processor stand beside them,
because a busy machine stretches the first and not the second.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import aigc_opt
from aigc_opt.instance.generate import generate_two_timescale

EXAMPLES = Path(__file__).resolve().parent.parent / "instances" / "examples"
HEAD = "| episode | gap asked | objective | lower bound | gap | status | proof | wall s | processor s | MB | slots |"


def example(name: str, gap: float, method: str | None = None, solver: str | None = None) -> dict:
    by = method or ("SCIP, whole" if solver else "")
    row = {"file": name, "gap": gap, "method": method, "solver": solver, "limit": 20}
    return {"case": f"{name}{', ' if by else ''}{by}", **row}


def drawn(frames: int, slots: int, family: str, gap: float, limit: float, users: int = 20, models: int = 20) -> dict:
    case = f"{frames} x {slots} slots, {users} users, {models} models, {family}"
    sizes = {"frames": frames, "slots": slots, "users": users, "models": models, "family": family}
    return {"case": case, "sizes": sizes, "gap": gap, "limit": limit, "method": None, "solver": None}


def cases(long: bool) -> list[dict]:
    rows = [example(f"two-timescale-{name}", 1e-6) for name in ("small", "switching", "smooth")]
    rows += [example(f"two-timescale-{name}", 1e-6, solver="scip") for name in ("small", "switching", "smooth")]
    rows += [example("two-timescale-process", 1e-6), example("two-timescale-process", 1e-6, solver="scip")]
    rows += [example("two-timescale-process", 1e-6, method) for method in ("benders", "lagrangian", "alternating")]
    rows += [drawn(1, 100, family, 1e-3, 30) for family in ("paper", "choice", "roomy")]
    rows += [drawn(10, 100, family, 1e-3, 30) for family in ("paper", "choice", "roomy")]
    rows += [drawn(10, 100, "switching", 5e-3, 60)]
    rows += [drawn(10, 100, family, 1e-3, 60, models=200) for family in ("paper", "switching")]
    if long:
        rows += [drawn(100, 100, family, 1e-3, 30) for family in ("paper", "choice", "roomy")]
        rows += [drawn(100, 100, "switching", 5e-3, 60)]
        rows += [drawn(1000, 100, family, 1e-3, 300) for family in ("paper", "choice", "roomy")]
    return rows


def run_row(row: dict) -> dict:
    """Solve one episode in this process and measure it."""
    began = time.perf_counter()
    if "file" in row:
        instance = aigc_opt.load(EXAMPLES / f"{row['file']}.json")
        instance = aigc_opt.sample(instance, 0) if instance.requests is None else instance
    else:
        instance = aigc_opt.sample(generate_two_timescale(**row["sizes"], seed=1), 1)
    result = aigc_opt.solve(
        instance, method=row["method"], solver=row["solver"], gap=row["gap"], time_limit=row["limit"]
    )
    frames, slots, _ = instance.requests.model.shape
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {
        "objective": result.objective, "lower_bound": result.lower_bound, "gap": result.gap, "status": result.status,
        "proof": result.proof, "wall_s": time.perf_counter() - began,
        "processor_s": sum(of.ru_utime + of.ru_stime for of in usage),
        "mb": max(of.ru_maxrss for of in usage) / 1024, "slots": frames * slots,
    }  # fmt: skip


def measure(row: dict) -> dict:
    """Run a row in a process of its own, on one thread."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--row", json.dumps(row)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def number(value: float | None, form: str) -> str:
    return "?" if value is None else format(value, form)


def line(row: dict, found: dict) -> str:
    ends = [number(found["objective"], ".10g"), number(found["lower_bound"], ".10g"), number(found["gap"], ".2e")]
    said = [row["case"], f"{row['gap']:.0e}", *ends, found["status"], found["proof"]]
    cost = [f"{found['wall_s']:.1f}", f"{found['processor_s']:.1f}", f"{found['mb']:.0f}", str(found["slots"])]
    return f"| {' | '.join(said + cost)} |"


def plot(measured: list[tuple[dict, dict]], path: str) -> None:
    """Draw processor seconds over the number of slots, a line for each family, and what is linear."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    _, axes = plt.subplots()
    families = sorted({row["sizes"]["family"] for row, _ in measured if "sizes" in row})
    for family in families:
        own = [
            (found["slots"], found["processor_s"])
            for row, found in measured
            if row.get("sizes", {}).get("family") == family and row["sizes"]["models"] == 20
        ]
        axes.loglog(*zip(*sorted(own), strict=True), marker="o", label=family)
    most = np.array([100, max(found["slots"] for row, found in measured if "sizes" in row)])
    axes.loglog(most, 1e-3 * most, color="grey", linestyle=":", label="1 ms a slot")
    axes.set(xlabel="slots", ylabel="processor seconds")
    axes.legend()
    axes.figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--only", help="rows whose name holds this")
    parser.add_argument("--output", help="Markdown table")
    parser.add_argument("--plot", help="picture of the growth")
    parser.add_argument("--stretch", type=float, default=1, help="factor of the limits, where others work beside it")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row:
        print(json.dumps(run_row(json.loads(arguments.row))))
        return
    lines, measured = [HEAD, "|---" * 11 + "|"], []
    for row in cases(arguments.long):
        if arguments.only and arguments.only not in row["case"]:
            continue
        measured.append((row, measure({**row, "limit": arguments.stretch * row["limit"]})))
        lines.append(line(*measured[-1]))
        print(lines[-1], flush=True)
    if arguments.output:
        Path(arguments.output).write_text("\n".join(lines) + "\n")
    if arguments.plot:
        plot(measured, arguments.plot)


if __name__ == "__main__":
    main()
