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
SECOND = {
    "edge.steps_per_slot": [100.0 * k for k in range(1, 21)],
    "edge.storage_gb": [10.0 + 2.0 * k for k in range(20)],
    "weights.switching": [0.1 * k for k in range(20)],
}
"""Second paths, 20 values each, beside three values of `weights.delay`."""

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
    os.environ["OMP_NUM_THREADS"] = "1"
    print("| second path, 20 values | way | wall s, median (least to most) | of the loop's, median | processor s |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        episode = aigc_opt.sample(aigc_opt.load(INSTANCES / "examples" / "two-timescale-process.json"), 0)
        aigc_opt.save(episode, f"{folder}/episode.json")
        for number, path in enumerate(SECOND):
            compare_at(episode, path, rounds, f"{folder}/{number}", f"{folder}/episode.json")
    print(f"{rounds} rounds, load average {os.getloadavg()[0]:.1f}")


def compare_at(episode: aigc_opt.Instance, path: str, rounds: int, stem: str, file: str) -> None:
    """Print the rows of one second path."""
    from aigc_opt.tradeoffs.paths import Varied

    vary = {"weights.delay": [0.3, 0.5, 0.7], path: SECOND[path]}
    varied, files = Varied(episode, vary), []
    for number, point in enumerate(product(*vary.values())):
        files.append(f"{stem}-{number}.json")
        aigc_opt.save(varied.at(point), files[-1])
    words = [f"--vary={path}={','.join(f'{value:g}' for value in values)}" for path, values in vary.items()]
    loop, sweeps = "one by one in one process", {f"sweep --workers {workers}": str(workers) for workers in (1, 2)}
    seconds: dict[str, list[np.ndarray]] = {loop: []} | {way: [] for way in sweeps}
    for turn in range(rounds):
        took, printed = timed("-c", ONE_BY_ONE, *files)
        seconds[loop].append(took)
        cold = [[float(word) for word in line.split()] for line in printed.splitlines()]
        for way, workers in sweeps.items():
            output = f"{stem}-{turn}-{workers}.csv"
            took, _ = timed("-m", "aigc_opt", "sweep", file, *words, "--workers", workers, "--quiet", "-o", output)
            seconds[way].append(took)
            table = pd.read_csv(output).sort_values(list(vary))[["objective", "lower_bound"]].to_numpy()
            assert abs(table - cold).max() <= 1e-9 * abs(table).max(), "the intervals differ"
    if path == next(iter(SECOND)):  # much the same for all: most of it is the start of Python
        seconds["a process a point"] = [sum(timed("-c", ONE_BY_ONE, file)[0] for file in files)]
    for way, took in seconds.items():
        wall, processor = np.array(took).T
        # Of the loop in the same round: the machine's speed changes from round to round.
        share = np.median(wall / np.array(seconds[loop])[: len(wall), 0])
        times = f"{np.median(wall):.1f} ({wall.min():.1f} to {wall.max():.1f})"
        print(f"| `{path}` | {way} | {times} | {100 * share:.0f}% | {np.median(processor):.1f} |", flush=True)


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
    for path, values in SECOND.items():
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
