"""What a sweep takes beside solving its points one by one: the paper-sized two-timescale episode at 3 x 20 points.

    python benchmarks/sweep.py                 prints the table of docs/trade-offs.md
    python benchmarks/sweep.py --warm          what warm starts save: melbourne-cbd-small of deployment, 8 weights
    python benchmarks/sweep.py --reuse         what points of the two-timescale episode save by sharing solved slots

Each way gets a process of its own that starts from nothing; the ways take turns, so that a busy machine slows them all.
Seconds of the processor, of all processes together, stand beside wall seconds: a busy machine stretches the latter.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

import aigc_opt

INSTANCES = Path(__file__).resolve().parent.parent / "instances"
VARY = {"weights.delay": [0.3, 0.5, 0.7], "edge.steps_per_slot": [100.0 * k for k in range(1, 21)]}

ONE_BY_ONE = """
import sys, aigc_opt
for path in sys.argv[1:]:
    result = aigc_opt.solve(path)
    print(result.objective, result.lower_bound)
"""


def timed(*words: str) -> tuple[np.ndarray, str]:
    """Wall and processor seconds of a process with its children, and what it printed."""
    began, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, *words], check=True, capture_output=True, text=True)
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    return np.array(
        [time.perf_counter() - began, now.ru_utime - used.ru_utime + now.ru_stime - used.ru_stime]
    ), done.stdout


def compare(rounds: int) -> None:
    from aigc_opt.tradeoffs.paths import Varied

    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        episode = aigc_opt.sample(aigc_opt.load(INSTANCES / "examples" / "two-timescale-process.json"), 0)
        aigc_opt.save(episode, f"{folder}/episode.json")
        varied, files = Varied(episode, VARY), []
        for number, point in enumerate(product(*VARY.values())):
            files.append(f"{folder}/{number}.json")
            aigc_opt.save(varied.at(point), files[-1])
        words = [f"--vary={path}={','.join(f'{value:g}' for value in values)}" for path, values in VARY.items()]
        seconds: dict[str, list[np.ndarray]] = {"a process a point": [], "one by one in one process": []}
        seconds |= {f"sweep --workers {workers}": [] for workers in (1, 2)}
        for turn in range(rounds):
            seconds["a process a point"].append(sum(timed("-c", ONE_BY_ONE, file)[0] for file in files))
            took, printed = timed("-c", ONE_BY_ONE, *files)
            seconds["one by one in one process"].append(took)
            cold = [[float(word) for word in line.split()] for line in printed.splitlines()]
            for workers in (1, 2):
                output = f"{folder}/{turn}-{workers}.csv"
                took, _ = timed(
                    "-m", "aigc_opt", "sweep", f"{folder}/episode.json", *words, "--workers", str(workers),
                    "--quiet", "-o", output,
                )  # fmt: skip
                seconds[f"sweep --workers {workers}"].append(took)
                table = pd.read_csv(output).sort_values(list(VARY))[["objective", "lower_bound"]].to_numpy()
                assert abs(table - cold).max() <= 1e-9 * abs(table).max(), "the intervals differ"
    middle = {way: np.median(took, axis=0) for way, took in seconds.items()}
    print("| way | wall s, median (least to most) | of a process a point | of one process | processor s |")
    print("|---|---|---|---|---|")
    for way, took in seconds.items():
        wall = np.array(took)[:, 0]
        shares = [f"{100 * middle[way][0] / middle[other][0]:.0f}%" for other in list(seconds)[:2]]
        times = f"{np.median(wall):.1f} ({wall.min():.1f} to {wall.max():.1f})"
        print(f"| {way} | {times} | {' | '.join(shares)} | {middle[way][1]:.1f} |")
    print(f"{rounds} rounds, load average {os.getloadavg()[0]:.1f}")


def warm() -> None:
    instance = aigc_opt.load(INSTANCES / "deployment" / "melbourne-cbd-small.json")
    weights = [1.0 + 0.1 * k for k in range(8)]
    began = time.perf_counter()
    table = aigc_opt.sweep(instance, {"weights.delay": weights}, gap=1e-3)
    swept = time.perf_counter() - began
    cold = 0.0
    for weight, row in zip(weights, table.itertuples(), strict=True):
        alone = aigc_opt.sweep(instance, {"weights.delay": [weight]}, gap=1e-3)
        cold += alone["runtime_s"].sum()
        assert alone["lower_bound"][0] <= row.objective and row.lower_bound <= alone["objective"][0]
    print(f"from neighbours {swept:.1f} s, each from nothing {cold:.1f} s: {100 * (1 - swept / cold):.0f}% saved")


def reuse(rounds: int) -> None:
    from aigc_opt.reuse import forget
    from aigc_opt.tradeoffs.paths import Varied
    from aigc_opt.tradeoffs.sweep import solve_point

    episode = aigc_opt.sample(aigc_opt.load(INSTANCES / "examples" / "two-timescale-process.json"), 0)
    options = {"method": None, "gap": 1e-4, "time_limit": None, "seed": 0}
    print("| second path, 20 values | processor s, each point alone | shared | saved |")
    print("|---|---|---|---|")
    for path, values in {
        "edge.steps_per_slot": [100.0 * k for k in range(1, 21)],
        "edge.storage_gb": [10.0 + 2.0 * k for k in range(20)],
        "weights.switching": [0.1 * k for k in range(20)],
    }.items():
        varied = Varied(episode, {"weights.delay": [0.3, 0.5, 0.7], path: values})
        points = [varied.at(point) for point in varied.points()]
        seconds: dict[bool, list[float]] = {False: [], True: []}
        found: dict[bool, list[tuple[float, float]]] = {}
        for _ in range(rounds):
            for sharing in (False, True):
                forget()
                began, found[sharing] = time.process_time(), []
                for point in points:
                    if not sharing:
                        forget()
                    row = solve_point(point, options, None, False)[0]
                    found[sharing].append((row["objective"], row["lower_bound"]))
                seconds[sharing].append(time.process_time() - began)
            assert found[False] == found[True], "the intervals differ"
        alone, shared = (float(np.median(seconds[sharing])) for sharing in (False, True))
        print(f"| `{path}` | {alone:.2f} | {shared:.2f} | {100 * (1 - shared / alone):.0f}% |")
    print(f"{rounds} rounds, load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warm", action="store_true")
    parser.add_argument("--reuse", action="store_true")
    arguments = parser.parse_args()
    if arguments.warm:
        warm()
    elif arguments.reuse:
        reuse(arguments.rounds)
    else:
        compare(arguments.rounds)
