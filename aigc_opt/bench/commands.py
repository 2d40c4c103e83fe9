"""``aigc-opt bench``: the benchmark on a folder of instance files."""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aigc_opt.console import DONE, REFUSED, UNKNOWN, check_writable, say
from aigc_opt.errors import InputError

if TYPE_CHECKING:
    from aigc_opt.bench.bounds import Known
    from aigc_opt.bench.rows import Row
    from aigc_opt.bench.run import Run

BOUNDS = "bounds.json"


def add_bench(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Make the command with `command`, which takes a name, what runs it, and its help."""
    bench = command("bench", _bench, "Solve all instances of a folder by all methods side by side, and check each end.")
    bench.add_argument("folder", metavar="FOLDER")
    bench.add_argument("--time-limit", type=float, default=20.0, metavar="S", help="wall seconds of each (default 20)")
    bench.add_argument("--gap", type=float, default=1e-4, help="relative gap that counts as optimal (default 1e-4)")
    bench.add_argument("--only", default="", metavar="PART", help="only instances whose name has this in it")
    bench.add_argument("--no-baselines", dest="baselines", action="store_false", help="only ours and the monoliths")
    bench.add_argument(
        "--bounds", metavar="FILE",
        help=f"known intervals, which nothing may contradict (default: {BOUNDS} in the folder, if it is there)",
    )  # fmt: skip
    bench.add_argument("--update", action="store_true", help="write better ends to the file of known intervals")
    bench.add_argument("--against", metavar="RESULTS.json", help="an earlier run: slower, or wider, is an error")
    bench.add_argument("--quiet", action="store_true", help="no progress on standard error")
    bench.add_argument("-o", dest="output", metavar="RESULTS.json", help="write the rows here; - = standard output")


def _bench(arguments: argparse.Namespace) -> int:
    from aigc_opt.bench.bounds import read_bounds
    from aigc_opt.bench.compare import OURS
    from aigc_opt.bench.rows import dumped, read_rows
    from aigc_opt.bench.run import MONOLITH, entries_of_folder, run
    from aigc_opt.instance.files import write_text

    folder = Path(arguments.folder)
    if not folder.is_dir():
        raise InputError(arguments.folder, ["is not a folder" if folder.exists() else "there is no such folder"])
    _check_limits(arguments)
    check_writable(arguments.output)
    path = Path(arguments.bounds) if arguments.bounds else folder / BOUNDS
    bounds = read_bounds(path) if path.exists() else {}
    if arguments.bounds and not path.exists() and not arguments.update:
        raise InputError(arguments.bounds, ["there is no such file"])
    last = [] if arguments.against is None else read_rows(arguments.against)[1]
    last = [row for row in last if arguments.only in row.place]
    tell: Callable[[str], Any] = (lambda line: None) if arguments.quiet else say
    with tempfile.TemporaryDirectory(prefix="aigc-opt-bench-") as made:
        entries, faults = entries_of_folder(folder, arguments.gap, arguments.time_limit, Path(made))
        entries = [entry for entry in entries if arguments.only in entry.place]
        if not arguments.baselines:
            entries = [replace(entry, labels=(OURS, MONOLITH)) for entry in entries]
        if not entries and not faults:
            raise InputError(arguments.folder, ["has no instance files" + (" of that name" if arguments.only else "")])
        done = run(entries, last, tell)
    if arguments.output == "-":
        sys.stdout.write(dumped(done.to_dict()))
    else:
        print(done.markdown(), end="")
    if arguments.output not in (None, "-"):
        write_text(arguments.output, dumped(done.to_dict()))
        say(f"wrote {arguments.output}: {len(done.rows)} rows")
    return report(done, bounds, last, faults, path if arguments.update else None)


def report(
    done: Run,
    bounds: Mapping[str, Known],
    last: Sequence[Row],
    faults: list[str],
    update: Path | None,
    places: Collection[str] | None = None,
) -> int:
    """Say what is wrong with a run, write better ends of intervals where nothing is, and return the exit status."""
    from aigc_opt.bench.bounds import write_bounds
    from aigc_opt.bench.compare import outdated, slowed

    if last and not done.interrupted:
        for line in outdated(done.rows, last) + slowed(done.rows, last):
            say(line)
    faults = faults + done.faults(bounds, last)
    for line in faults:
        say(f"aigc-opt: {line}")
    if update is not None:
        if faults:
            say(f"aigc-opt: {update}: left as it is, because of what is wrong above")
        else:
            better, lines = done.better(bounds, {row.place for row in done.rows} if places is None else places)
            write_bounds(update, better)
            say(f"wrote {update}: {len(lines)} better ends")
            for line in lines:
                say(f"  {line}")
    if done.interrupted:
        say(f"aigc-opt: interrupted after {len(done.rows)} rows")
        return REFUSED if faults else DONE if done.rows else UNKNOWN
    return REFUSED if faults else DONE


def _check_limits(arguments: argparse.Namespace) -> None:
    faults = []
    if not 0 < arguments.time_limit < math.inf:
        faults.append(f"--time-limit must be a number of seconds > 0, got {arguments.time_limit:g}")
    if not 0 <= arguments.gap < math.inf:
        faults.append(f"--gap must be a number >= 0, got {arguments.gap:g}")
    if faults:
        raise InputError("bench", faults)
