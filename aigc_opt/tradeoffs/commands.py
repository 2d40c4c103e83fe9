"""Commands that explore: each parses, calls the API and prints, as those of `aigc_opt.cli` do."""

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from aigc_opt.console import DONE, UNKNOWN, say
from aigc_opt.errors import InputError

if TYPE_CHECKING:
    from distributed import Client


def add_exploring(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Make the commands with `command`, which takes a name, what runs it, and its help."""
    sweep = command("sweep", _sweep, "Solve an instance at every point of a grid of its numbers.")
    sweep.add_argument("instance", metavar="INSTANCE")
    sweep.add_argument(
        "--vary", action="append", required=True, metavar="PATH=VALUES",
        help="a number of the file by its path, as a,b,c or from:to:step (the end included); several make a grid",
    )  # fmt: skip
    sweep.add_argument("--method", metavar="M", help="as for solve")
    sweep.add_argument("--gap", type=float, default=1e-4, help="relative gap that counts as optimal (default 1e-4)")
    sweep.add_argument("--time-limit", type=float, metavar="S", help="wall seconds for each point")
    where = sweep.add_mutually_exclusive_group()
    where.add_argument("--workers", type=int, default=1, metavar="N", help="processes (default 1: this one)")
    where.add_argument("--cluster", metavar="ADDRESS", help="a Dask scheduler, tcp://host:port (extra: cluster)")
    sweep.add_argument("--quiet", action="store_true", help="no progress on standard error")
    sweep.add_argument(
        "-o", dest="output", metavar="SWEEP.csv", required=True,
        help="rows are appended as they come; the same command goes on with the rest after a kill; - = standard output",
    )  # fmt: skip

    plot = command("plot", _plot, "Draw a result, a sweep, a front, a report of an evaluation or a fitted profile.")
    plot.add_argument("file", metavar="RESULT_OR_SWEEP_OR_REPORT")
    plot.add_argument("--instance", metavar="INSTANCE", help="of a result: gives names to what is drawn")
    plot.add_argument("-o", dest="output", metavar="FILE.png|svg|pdf", required=True)

    report = command("report", _report, "Write results as one HTML file for people, which opens offline.")
    report.add_argument("results", nargs="+", metavar="RESULT")
    report.add_argument(
        "--instance", action="append", default=[], metavar="INSTANCE",
        help="instances of the results, for names and tables; each finds its results itself",
    )  # fmt: skip
    report.add_argument("-o", dest="output", metavar="REPORT.html", required=True)


def _plot(arguments: argparse.Namespace) -> int:
    from aigc_opt.instance.files import load
    from aigc_opt.plot.files import draw

    draw(arguments.file, arguments.output, None if arguments.instance is None else load(arguments.instance))
    say(f"wrote {arguments.output}")
    return DONE


def _report(arguments: argparse.Namespace) -> int:
    from aigc_opt.instance.files import load, write_text
    from aigc_opt.plot.page import page

    write_text(arguments.output, page(arguments.results, [load(path) for path in arguments.instance]))
    say(f"wrote {arguments.output}")
    return DONE


def _sweep(arguments: argparse.Namespace) -> int:
    from aigc_opt.tradeoffs.journal import as_text
    from aigc_opt.tradeoffs.paths import parse_varied
    from aigc_opt.tradeoffs.sweep import ProgressBar, sweep_rows

    vary = parse_varied(arguments.vary)
    cluster = None if arguments.cluster is None else connect(arguments.cluster)
    try:
        columns, rows = sweep_rows(
            arguments.instance,
            vary,
            None if arguments.output == "-" else arguments.output,
            method=arguments.method,
            gap=arguments.gap,
            time_limit=arguments.time_limit,
            seed=0,
            workers=arguments.workers if cluster is None else cluster.get_executor(),
            progress=None if arguments.quiet else ProgressBar(),
        )
    finally:
        if cluster is not None:
            cluster.close()
    if arguments.output == "-":
        table = csv.writer(sys.stdout, lineterminator="\n")
        table.writerow(columns)
        table.writerows([as_text(row[column]) for column in columns] for row in rows)
    points = math.prod(map(len, vary.values()))
    if len(rows) < points:
        more = "" if arguments.output == "-" else "; the same command goes on with the others"
        words = f"interrupted with {len(rows)} of {points} points{more}"
        say(f"aigc-opt: {words}")
        return DONE if rows else UNKNOWN
    counts = ", ".join(f"{count} {status}" for status, count in Counter(row["status"] for row in rows).items())
    say(f"wrote {arguments.output}: {points} points, {counts}")
    return DONE


def connect(address: str) -> Client:
    """Return a client of a Dask scheduler.

    Raises
    ------
    InputError
        If Dask is not installed, or nothing answers there.

    """
    try:
        from distributed import Client
    except ImportError:
        words = "needs Dask: pip install 'aigc_opt[cluster]'"
        raise InputError("--cluster", [words]) from None
    try:
        return Client(address, timeout=10, set_as_default=False)
    except (OSError, ValueError) as error:
        raise InputError("--cluster", [f"no Dask scheduler answers at {address!r}: {error}"]) from None
