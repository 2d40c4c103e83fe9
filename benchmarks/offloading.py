"""Measure the offloading problem: certified intervals beside SCIP's, heuristics against the proven optimum.

    python benchmarks/offloading.py targets [PATTERN] [--no-scip]    every case in its own process, a Markdown table
    python benchmarks/offloading.py heuristics [--seeds 40]          three families, every baseline, a Markdown table

One thread each (`OMP_NUM_THREADS=1`). Instances are generated from the seeds shown, or are those in `instances/`.
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

ROOT = Path(__file__).resolve().parent.parent

TARGETS = [
    {"file": "examples/offloading-small.json", "gap": 1e-7, "limit": 20},
    {"file": "examples/offloading-medium.json", "gap": 1e-7, "limit": 20},
    {"file": "examples/offloading-infeasible.json", "gap": 1e-7, "limit": 20},
    *[
        {"family": family, "users": users, "servers": servers, "seed": 1, "gap": 1e-3, "limit": limit}
        for users, servers, limit in ((200, 8, 20), (2000, 20, 60))
        for family in ("compute-tight", "deadline-tight", "battery-tight")
    ],
    {"file": "offloading/melbourne-cbd-small.json", "gap": 1e-3, "limit": 20},
    {"file": "offloading/melbourne-cbd-medium.json", "gap": 1e-3, "limit": 60},
    {"file": "offloading/melbourne-cbd-large.json", "gap": 1e-3, "limit": 120},
]

FAMILIES = ("compute-tight", "deadline-tight", "battery-tight")
HEURISTICS = ("alternating", "greedy-deadline", "fixed-steps", "all-best-server", "random", "all-local")
USERS, SERVERS = 30, 4


def instance_of(case: dict):
    import aigc_opt
    from aigc_opt.instance.generate import generate_offloading

    if "file" in case:
        return aigc_opt.load(ROOT / "instances" / case["file"])
    return generate_offloading(case["users"], case["servers"], family=case["family"], seed=case["seed"])


def one(case: dict) -> dict:
    """Solve a case; wall seconds are the whole process's and are added by the caller."""
    import aigc_opt

    instance = instance_of(case)
    result = aigc_opt.solve(instance, solver=case["solver"], gap=case["gap"], time_limit=case["limit"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {
        "name": instance.name, "status": result.status, "objective": result.objective, "bound": result.lower_bound,
        "gap": result.gap, "proof": result.proof, "mb": max(peak) / 1024,
    }  # fmt: skip


def targets(pattern: str, scip: bool) -> None:
    print("| instance | limit | solver | status | interval | gap | bound by | wall s | peak MB |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    for case in TARGETS:
        if pattern not in json.dumps(case):
            continue
        for solver in ("highs", "scip") if scip else ("highs",):
            began = time.monotonic()
            words = [sys.executable, __file__, "one", json.dumps(case | {"solver": solver})]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            run = subprocess.run(words, capture_output=True, text=True, env=environment)
            wall = time.monotonic() - began
            label = "decomposition" if solver == "highs" else "SCIP, whole"
            if run.returncode:
                error = run.stderr.strip().splitlines()[-1][:60] if run.stderr.strip() else f"exit {run.returncode}"
                print(f"| | {case['limit']} s | {label} | {error} | | | | {wall:.1f} | |", flush=True)
                continue
            row = json.loads(run.stdout.splitlines()[-1])
            ends = ", ".join("?" if end is None else f"{end:.7g}" for end in (row["bound"], row["objective"]))
            gap = "" if row["gap"] is None else f"{100 * row['gap']:.2g}%"
            print(
                f"| {row['name']} | {case['limit']} s | {label} | {row['status']} | [{ends}] | {gap} | {row['proof']} "
                f"| {wall:.1f} | {row['mb']:.0f} |",
                flush=True,
            )


def heuristics(seeds: int) -> None:
    import numpy as np

    import aigc_opt

    print(
        f"{USERS} users, {SERVERS} servers, seeds 0 to {seeds - 1} in each family; distance above the proven optimum.\n"
    )
    print("| family | method | mean | median | worst | within 0.1% | mean s |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for family in FAMILIES:
        distance: dict[str, list[float]] = {name: [] for name in HEURISTICS}
        seconds: dict[str, list[float]] = {name: [] for name in (*HEURISTICS, "optimum")}
        gaps = []
        for seed in range(seeds):
            instance = instance_of({"family": family, "users": USERS, "servers": SERVERS, "seed": seed})
            best = aigc_opt.solve(instance, gap=1e-4, time_limit=30)
            gaps.append(best.gap)
            seconds["optimum"].append(best.runtime_s)
            for name in HEURISTICS:
                result = aigc_opt.solve(instance, method=name, seed=seed, bound=False)
                seconds[name].append(result.runtime_s)
                distance[name].append(result.objective / best.objective - 1 if result.objective else float("inf"))
        for name in HEURISTICS:
            d = np.array(distance[name])
            print(
                f"| {family} | {name} | {100 * d.mean():.2f}% | {100 * np.median(d):.2f}% | {100 * d.max():.2f}% "
                f"| {(d <= 1e-3).sum()} of {len(d)} | {np.mean(seconds[name]):.2f} |"
            )
        proven = sum(gap <= 1e-4 for gap in gaps)
        print(
            f"| {family} | decomposition | 0 | 0 | proven to {100 * max(gaps):.3f}% | gap at most 0.01% in {proven} "
            f"of {len(gaps)} | {np.mean(seconds['optimum']):.2f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("targets", "heuristics", "one"))
    parser.add_argument("pattern", nargs="?", default="")
    parser.add_argument("--no-scip", dest="scip", action="store_false")
    parser.add_argument("--seeds", type=int, default=40)
    options = parser.parse_args()
    if options.what == "one":
        print(json.dumps(one(json.loads(options.pattern))))
    elif options.what == "targets":
        targets(options.pattern, options.scip)
    else:
        heuristics(options.seeds)


if __name__ == "__main__":
    main()
