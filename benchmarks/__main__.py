"""The whole benchmark, in one run, compared with the last one.

    python -m benchmarks                 about 25 minutes on two cores; exit status 1 if anything is wrong
    python -m benchmarks --update        also write results.md, results.json and better ends of instances/bounds.json
    python -m benchmarks --only melbourne

Certified intervals of all committed instances and of generated families: ours, the whole formulation handed to HiGHS or
SCIP, and the baselines; then what it takes to build a program in this package and in other modelling libraries. Every
solve is a process of its own whose limit is kept from outside, and every interval is checked again from its file. Wrong
is: a row that failed, an interval that contradicts another or a known one (`instances/bounds.json`), a row of ours that
is slower than in `results.json` by more than a fifth or whose interval is wider (`aigc_opt.bench.compare` says exactly
when).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import aigc_opt
from aigc_opt.bench.bounds import read_bounds
from aigc_opt.bench.commands import report
from aigc_opt.bench.compare import outdated
from aigc_opt.bench.rows import Calibration, dumped, read_rows
from aigc_opt.bench.run import Entry, Run, entry_of, run
from aigc_opt.instance.files import write_text
from aigc_opt.instance.generate import FAMILIES, GENERATORS
from benchmarks import building

ROOT = Path(__file__).resolve().parent.parent
BOUNDS = ROOT / "instances" / "bounds.json"
RESULTS = ROOT / "benchmarks" / "results.json"
TABLE = ROOT / "benchmarks" / "results.md"

GAP = 1e-4
EXAMPLE_LIMIT_S, SMALL_LIMIT_S, LARGE_LIMIT_S = 10.0, 15.0, 30.0

SMALL = {
    "deployment": {"servers": 4, "models": 10, "slots": 12},
    "offloading": {"users": 200, "servers": 8},
    "two_timescale": {"users": 10, "models": 10, "frames": 10, "slots": 10},
}
"""One instance of every family of this size."""

LARGE = {
    "deployment": {"servers": 12, "models": 30, "slots": 48},
    "offloading": {"users": 2000, "servers": 20},
    "two_timescale": {"users": 20, "models": 20, "frames": 10, "slots": 100},
}
"""One instance of each problem's first family of this size."""

BUILDING_SIZES, BUILDING_REPEATS = ("4x10x31", "10x20x38"), 3
BUILDING_FLOOR_S = 0.05
BUILDING_SAMPLES = 5
"""Samples of the calibration before, and as many after."""


def entries(made: Path) -> Iterator[Entry]:
    """Yield committed instances, then generated ones."""
    for path in sorted((ROOT / "instances").rglob("*.json")):
        if path.parent.name not in ("examples", "deployment", "offloading", "two_timescale"):
            continue
        if path.name == "optima.json":
            continue
        real = path.parent.name != "examples"
        limit = EXAMPLE_LIMIT_S if not real else SMALL_LIMIT_S if "small" in path.name else LARGE_LIMIT_S
        yield entry_of(aigc_opt.load(path), path, str(path.relative_to(ROOT)), GAP, limit, made)
    for sizes, limit in ((SMALL, SMALL_LIMIT_S), (LARGE, LARGE_LIMIT_S)):
        for problem, size in sizes.items():
            families = list(FAMILIES[problem])
            for family in families if sizes is SMALL else families[:1]:
                instance = GENERATORS[problem](**size, family=family, seed=0)
                command = f"({' '.join(f'--{key} {value}' for key, value in size.items())} --family {family})"
                yield entry_of(instance, None, command, GAP, limit, made)


def measure_building() -> tuple[dict[str, float], str, float]:
    """Return median seconds of every library and size, the table, and the unit: seconds of the calibration."""
    calibration = Calibration()
    names = building.available()
    calibration.sample(BUILDING_SAMPLES)
    runs, prints = building.run(list(BUILDING_SIZES), names, BUILDING_REPEATS, False)
    calibration.sample(BUILDING_SAMPLES)
    medians = {
        f"{size}, {name}": statistics.median(one["seconds"] for one in found) for (size, name), found in runs.items()
    }
    return medians, building.table(runs, prints, names, BUILDING_REPEATS), calibration.mean_s


def slower_building(now: dict[str, float], unit: float, last: dict[str, float], last_unit: float) -> list[str]:
    """Return a line for each size that our builder takes longer for than the last time, in units of the calibration."""
    lines = []
    for key, seconds in now.items():
        if not key.endswith(f", {building.OURS}") or key not in last:
            continue
        expected = last[key] / last_unit * unit
        if seconds > 1.2 * expected and seconds - expected > BUILDING_FLOOR_S:
            lines.append(f"building {key}: {seconds:.3f} s, {seconds / expected:.2f} times the last run's")
    return lines


def markdown(done: Run, building_table: str | None) -> str:
    """Return the page of a run."""
    parts = [
        "# The benchmark's last run\n",
        "Written by `python -m benchmarks --update`; [README.md](README.md) says what is measured and compared, "
        "[results.json](results.json) has the same rows for machines.\n",
        done.markdown(),
    ]
    if building_table is not None:
        parts += ["## Building a program and handing it to HiGHS\n", building_table]
    return "\n".join(parts)


def main() -> int:
    """Run, print the page, compare; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="PART", help="only instances whose name has this in it")
    parser.add_argument("--no-building", dest="building", action="store_false")
    parser.add_argument("--update", action="store_true", help="keep the results, and better ends of known intervals")
    arguments = parser.parse_args()
    bounds = read_bounds(BOUNDS) if BOUNDS.exists() else {}
    about, last = read_rows(RESULTS) if RESULTS.exists() else ({}, [])
    last = [row for row in last if arguments.only in row.place]
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as made:
        chosen = [entry for entry in entries(Path(made)) if arguments.only in entry.place]
        committed = {entry.place for entry in chosen if not entry.path.startswith(made)}
        committed |= {entry.place for entry in chosen if entry.command.startswith("instances")}
        done = run(chosen, last, lambda line: print(line, file=sys.stderr, flush=True))
    whole = not arguments.only and arguments.building and not done.interrupted
    faults: list[str] = []
    if not arguments.update:
        faults += [
            f"{path}: is missing, there is nothing to compare with" for path in (BOUNDS, RESULTS) if not path.exists()
        ]
    building_table = None
    if arguments.building and not done.interrupted:
        medians, building_table, unit = measure_building()
        done.about["building"] = {"calibration_s": unit, "median_s": medians}
        if "building" in about:
            before = about["building"]
            faults += slower_building(medians, unit, before["median_s"], before["calibration_s"])
    if whole and last and not arguments.update and outdated(done.rows, last):
        faults.append(f"{RESULTS}: is not of these instances; --update writes it anew")
    page = markdown(done, building_table)
    print(page)
    status = report(done, bounds, last, faults, BOUNDS if arguments.update else None, committed)
    if arguments.update and whole:
        # What is wrong stays on the page and in the exit status; contradictions never get into the known intervals.
        write_text(TABLE, page)
        write_text(RESULTS, dumped(done.to_dict()))
    elif arguments.update:
        print("results are kept of a whole run only", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
