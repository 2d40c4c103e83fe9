"""Certified fronts of 15 points for each problem's real instance: the tables of docs/trade-offs.md.

python benchmarks/fronts.py --folder fronts        prints the tables; writes each front as CSV, and fronts/fronts.png
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import aigc_opt
import aigc_opt.plot
from aigc_opt.tradeoffs.front import Front

INSTANCES = Path(__file__).resolve().parent.parent / "instances"
CASES = {
    "deployment": ("deployment/melbourne-cbd-small.json", "delay", 1e-3),
    "offloading": ("offloading/melbourne-cbd-small.json", "delay", 1e-3),
    "two_timescale": ("examples/two-timescale-process.json", "delay", 1e-4),
}


def table(name: str, front: Front) -> str:
    knee = front.knee()
    head = f"{name}: first = {front.names[0]}, second = {front.names[1]}"
    rows = [head, "", "| first | second | second at least |", "|---:|---:|---:|"]
    for k, (first, second) in enumerate(front.points):
        bold = "**" if k == knee else ""
        rows.append(f"| {bold}{first:.6g}{bold} | {bold}{second:.6g}{bold} | {front.lower(first):.6g} |")
    return "\n".join(rows)


def draw(fronts: dict[str, Front], path: Path) -> None:
    """Draw fronts side by side, with one legend for all."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, len(fronts), figsize=(4.4 * len(fronts), 4.2), layout="constrained", squeeze=False
    )
    for ax, (name, found) in zip(axes[0], fronts.items(), strict=True):
        aigc_opt.plot.front(found, ax)
        ax.set_title(name, fontsize="medium")
        ax.set(xlabel=found.names[0], ylabel=found.names[1])
        ax.get_legend().remove()
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("fronts"))
    parser.add_argument("--only", choices=CASES)
    arguments = parser.parse_args()
    arguments.folder.mkdir(exist_ok=True)
    summary = ["| instance | criteria | gap of a sum | points | sums | seconds | hypervolume found | at most | share |"]
    summary.append("|---" * 9 + "|")
    tables, fronts = [], {}
    for problem, (file, term, gap) in CASES.items():
        if arguments.only in (None, problem):
            instance = aigc_opt.load(INSTANCES / file)
            if problem == "two_timescale":
                instance = aigc_opt.sample(instance, 0)
            found = aigc_opt.front(instance, term, points=15, gap=gap, progress=aigc_opt.ProgressBar())
            found.save(arguments.folder / f"{instance.name}-{problem}.csv")
            fronts[f"{problem}, {instance.name}"] = found
            got, most = found.hypervolume()
            summary.append(
                f"| {problem} `{instance.name}` | {found.names[0]}, {found.names[1]} | {gap:g} | {len(found.points)} "
                f"| {len(found.solved)} | {found.runtime_s:.1f} | {got:.6g} | {most:.6g} | {100 * got / most:.1f}% |"
            )
            tables.append(table(f"{problem} `{instance.name}`", found))
    draw(fronts, arguments.folder / "fronts.png")
    print("\n".join(summary), f"load average {os.getloadavg()[0]:.1f}", *tables, sep="\n\n")


if __name__ == "__main__":
    main()
