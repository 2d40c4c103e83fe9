"""Pages that are made from the code when the site is built: command line, Python API, LaTeX of the formulations."""

from __future__ import annotations

import argparse
import re
from importlib import import_module
from pathlib import Path

import aigc_opt
from aigc_opt.cli import _parser
from aigc_opt.instance.files import load
from aigc_opt.latex import latex_of
from aigc_opt.problems.problem import problem_of

ROOT = Path(__file__).resolve().parent.parent
MODELS = {"Deployment": "deployment-small", "Offloading": "offloading-small", "Two timescales": "two-timescale-small"}
MOST_ROWS = 2
"""Rows of one family that are shown where the printer writes them out one by one."""

GROUPS = {
    "What users call": "aigc_opt",
    "Environments": "aigc_opt.envs",
    "Views that policies get": "aigc_opt.envs.views",
    "A problem": "aigc_opt.problems.problem",
    "Programs and their bounds": "aigc_opt.program",
    "Solvers": "aigc_opt.solvers",
    "Results": "aigc_opt.result",
}
"""Heading -> module; the first shows the public names, the others all that they define."""


def write(folder: Path) -> None:
    """Write the pages into the folder of the sources; files that stay the same are not touched."""
    pages = {
        "command-line.md": command_line(),
        "api.rst": api(),
        "latex.md": latex(),
        "contributing.md": (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").replace("](docs/", "]("),
        "changelog.md": (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").replace("](docs/", "]("),
    }
    for name, text in pages.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def command_line() -> str:
    """Return the help of every command, as the parser itself gives it."""
    parser = _parser(["generate"])
    parts = ["# Command line", "", "Made from the program's own help.", ""]

    def add(part: argparse.ArgumentParser) -> None:
        part.formatter_class = lambda prog: argparse.HelpFormatter(prog, width=88)
        parts.extend([f"## {part.prog}", "", "```text", part.format_help().rstrip(), "```", ""])
        for action in part._actions:
            if isinstance(action, argparse._SubParsersAction):
                for inner in action.choices.values():
                    add(inner)

    add(parser)
    return "\n".join(parts)


def api() -> str:
    """Return the page of the Python API, filled from docstrings by autodoc."""
    lines = ["Python API", "==========", "", ".. currentmodule:: aigc_opt", ""]
    for heading, module in GROUPS.items():
        lines += [heading, "-" * len(heading), ""]
        if module == "aigc_opt":
            for name in aigc_opt.__all__:
                kind = "function"
                if isinstance(value := getattr(aigc_opt, name), type):
                    kind = "exception" if issubclass(value, BaseException) else "class"
                home = f"{value.__module__}.{value.__qualname__}"
                lines += [f".. auto{kind}:: {home}", *(["   :members:"] if kind == "class" else []), ""]
            continue
        import_module(module)
        lines += [f".. automodule:: {module}", "   :members:", "   :no-index:", ""]
    return "\n".join(lines)


def latex() -> str:
    """Return the formulations as the Pyomo models themselves say them, for a small instance of each problem."""
    parts = [
        "# Formulations from the code",
        "",
        "Printed from the Pyomo models of the small examples by `aigc-opt export INSTANCE -o model.tex`. Letters of "
        "indices are generated. Where a family is written out row by row its first rows are shown.",
        "",
    ]
    for heading, name in MODELS.items():
        instance = load(ROOT / "instances" / "examples" / f"{name}.json")
        parts += [f"## {heading}", ""]
        for row in rows(latex_of(problem_of(instance).build_model(instance))):
            parts += ["```{math}", row, "```", ""]
    return "\n".join(parts)


def rows(document: str) -> list[str]:
    """Split the printed document into rows that stand alone, the first ones of each written-out family."""
    body = document.partition(r"\begin{align}")[2].partition(r"\end{align}")[0]
    found: list[str] = []
    shown: dict[str, int] = {}
    for row in re.split(r"\\\\\s*\n", body):
        row = re.sub(r"\s+", " ", row.replace("&", " ")).strip()
        row = row.replace(r"\text{s.t.}", r"\text{subject to}\quad ").replace(r"\text{w.b.}", r"\text{bounds}\quad ")
        row = row.replace(r"\mathds", r"\mathbb").replace(r"\right \}", r"\right\}")
        row = re.sub(r"\\mathtt\{'([^']*)'\}", r"\\text{\1}", row)
        family = re.sub(r"\[[^\]]*\]|[0-9.]+", "", row)
        first = re.search(r"[A-Za-z\\_]+(?=\[)", row)
        if first is not None:
            key = re.sub(r"(\s*[-+]\s*\S+)+", "", family)
            shown[key] = shown.get(key, 0) + 1
            if shown[key] > MOST_ROWS:
                continue
        row = re.sub(r"([A-Za-z][A-Za-z\\_]*)\[([^\]]*)\]", _written_out, row)
        if row:
            found.append(row)
    return found


def _written_out(match: re.Match[str]) -> str:
    return rf"\mathrm{{{match[1]}}}_{{\text{{{match[2]}}}}}"
