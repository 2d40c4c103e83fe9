"""Which cases a benchmark has, running them, and what is wrong with what came out."""

from __future__ import annotations

import datetime
import importlib.util
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aigc_opt.bench.bounds import Known, contradictions, improved
from aigc_opt.bench.compare import OURS, regressions
from aigc_opt.bench.rows import Case, Row, measure
from aigc_opt.bench.table import described, machine, tables
from aigc_opt.errors import InputError
from aigc_opt.instance.base import Instance
from aigc_opt.instance.files import SOLUTION_BYTES, load, read_json, save
from aigc_opt.instance.sample import sample
from aigc_opt.instance.two_timescale import TwoTimescaleInstance
from aigc_opt.problems.problem import problem_of

INSTANCE_FORMAT = "aigc-opt/instance"
MOST_TRIES = 3
BASELINE_LIMIT_S = 4.0
"""A baseline gets at most so many seconds: they are quick, or go on for as long as they may."""

MONOLITH = "monolith"


@dataclass(frozen=True)
class Entry:
    """An instance of a benchmark: its file, how it is named in commands, and what is asked of it."""

    instance: Instance
    path: str
    command: str
    gap: float
    time_limit: float
    labels: tuple[str, ...] | None = None
    """Only these methods; None = ours, the monolith and all baselines."""

    @property
    def place(self) -> str:
        """Problem and name."""
        return f"{self.instance.problem}/{self.instance.name}"


@dataclass
class Run:
    """A run of the benchmark: what it was made with, its rows, and how each can be had again."""

    about: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    commands: dict[tuple[str, str], str] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    interrupted: bool = False

    def faults(self, bounds: Mapping[str, Known], last: Iterable[Row]) -> list[str]:
        """Return all that is wrong, a line each: rows that failed, contradictions, and what the last run had better."""
        broken = [f"{row.place}, {row.label}: {row.fault}" for row in self.rows if row.fault is not None]
        return broken + contradictions(self.rows, bounds) + regressions(self.rows, last)

    def better(self, bounds: Mapping[str, Known], places: Iterable[str]) -> tuple[dict[str, Known], list[str]]:
        """Return known intervals improved by the rows of the instances `places`, and a line for each end."""
        kept = set(places)
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        rows = [row for row in self.rows if row.place in kept]
        return improved(bounds, rows, self.commands, self.about["versions"].get("aigc_opt", "unknown"), today)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of the results."""
        return self.about | {"rows": [row.to_dict() for row in self.rows]}

    def markdown(self) -> str:
        """Return the tables, with the machine below."""
        seconds = sum(row.wall_s for row in self.rows)
        lines = [tables(self.rows, baselines(self.rows)), f"{self.about['date']}; {described(self.about)}"]
        lines.append(f"{len(self.rows)} processes, {seconds:.0f} s, one after the other, on one thread each.")
        return "\n".join(lines + self.skipped) + "\n"


def entries_of_folder(folder: Path, gap: float, time_limit: float, made: Path) -> tuple[list[Entry], list[str]]:
    """Return an entry for each instance file below a folder, and a line for each file that cannot be read.

    JSON objects that do not claim to be instances are passed over; what is no object may be a broken one. Of a process
    the episode of seed 0 is solved, which is written to the folder `made`.
    """
    found: list[Entry] = []
    faults: list[str] = []
    for path in sorted(folder.rglob("*.json")):
        try:
            if read_json(path, SOLUTION_BYTES).get("format") != INSTANCE_FORMAT:
                continue
            instance = load(path)
        except InputError as error:
            faults += error.lines()
            continue
        entry = entry_of(instance, path, str(path), gap, time_limit, made)
        twin = next((other for other in found if other.place == entry.place), None)
        if twin is not None:
            faults.append(f"{path}: name: {entry.instance.name!r} is the name of {twin.path} too")
            continue
        found.append(entry)
    return found, faults


def entry_of(
    instance: Instance, path: Path | None, command: str, gap: float, time_limit: float, made: Path,
    labels: tuple[str, ...] | None = None,
) -> Entry:  # fmt: skip
    """Return the entry of an instance, written to the folder `made` where there is no file of it, or of a process."""
    if isinstance(instance, TwoTimescaleInstance) and instance.requests is None:
        instance, path = sample(instance, 0), None
        command = f"{command}, episode of seed 0"
    if path is None:
        path = made / f"{instance.name}.json"
        save(instance, path)
    return Entry(instance, str(path), command, gap, time_limit, labels)


def cases_of(entry: Entry) -> tuple[list[Case], list[str]]:
    """Return what is asked about an instance, and why something is not."""
    problem = problem_of(entry.instance)
    cases, skipped = [], []

    def add(label: str, method: str, solver: str, limit: float, bound: bool = True) -> None:
        if entry.labels is None or label in entry.labels:
            cases.append(
                Case(
                    entry.instance.name, problem.name, entry.instance.sha256, entry.path, label, method, solver,
                    entry.gap, limit, bound,
                )
            )  # fmt: skip

    add(OURS, problem.default_method, problem.solvers[0], entry.time_limit)
    method, solver = problem.monolith
    if solver != "scip" or importlib.util.find_spec("pyscipopt") is not None:
        add(MONOLITH, method, solver, entry.time_limit)
    else:
        skipped.append('Monoliths of SCIP are left out: it is not installed (pip install "aigc_opt[scip]").')
    for name in problem.baselines:
        add(name, name, problem.solvers[0], min(entry.time_limit, BASELINE_LIMIT_S), bound=False)
    return cases, skipped


def baselines(rows: Iterable[Row]) -> set[str]:
    """Return the labels of rows that only have a point."""
    return {row.label for row in rows} - {OURS, MONOLITH}


def run(
    entries: Sequence[Entry],
    last: Sequence[Row] = (),
    say: Callable[[str], None] = lambda line: None,
    measured: Callable[[Case], Row] = measure,
) -> Run:
    """Measure every case of every entry, one after the other.

    Parameters
    ----------
    last : sequence of Row
        Rows of the last run: one of ours that is worse is measured again, up to `MOST_TRIES` times, and the best one
        counts.
    say : callable
        Called with a line for each row.
    measured : callable
        What measures a case.

    Returns
    -------
    Run
        After Ctrl-C with what was measured until then.

    """
    made = Run(machine() | {"date": datetime.datetime.now(datetime.UTC).date().isoformat()})
    try:
        for entry in entries:
            cases, skipped = cases_of(entry)
            made.skipped += [line for line in skipped if line not in made.skipped]
            for case in cases:
                tries = [measured(case)]
                while regressions(tries[-1:], last) and tries[-1].fault is None and len(tries) < MOST_TRIES:
                    tries.append(measured(case))
                row = min(tries, key=lambda each: (len(regressions([each], last)), each.processor_s))
                made.rows.append(row)
                made.commands[row.key] = " ".join(["aigc-opt", case.words[0], entry.command, *case.words[2:]])
                say(_line(row))
    except KeyboardInterrupt:
        made.interrupted = True
    return made


def _line(row: Row) -> str:
    gap = "" if row.gap is None else f", gap {100 * row.gap:.3g}%"
    clock = time.strftime("%H:%M:%S")
    return f"{clock} {row.place} by {row.label}: {row.status}{gap}, {row.wall_s:.1f} s{_fault(row)}"


def _fault(row: Row) -> str:
    return "" if row.fault is None else f" ({row.fault})"
