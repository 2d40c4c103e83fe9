"""A page for people: results with intervals, terms, decisions and pictures in one HTML file that opens offline."""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from aigc_opt.api import load_result
from aigc_opt.errors import InputError
from aigc_opt.instance.base import Instance
from aigc_opt.instance.files import SOLUTION_BYTES, read_json
from aigc_opt.plot.files import decisions
from aigc_opt.plot.style import axes_of, figure_with
from aigc_opt.plot.traces import convergence
from aigc_opt.problems.problem import problem_of
from aigc_opt.result_file import is_result, shape_faults

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STATUSES = {
    "optimal": "a checked point, and a bound within the gap that was asked for",
    "feasible": "a checked point; the bound is further away than was asked for, or missing",
    "bound_only": "a bound, no point",
    "infeasible": "proved: no point keeps all constraints",
    "unknown": "neither a point nor a bound",
}
PROOFS = {
    "none": "nothing",
    "solver": "the word of a solver",
    "dual": "weak duality, with multipliers evaluated by this package",
    "enumeration": "every discrete choice covered",
}

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 64rem; margin: 0 auto;
  padding: 1rem; overflow-wrap: anywhere }
h1 { font-size: 1.5rem } h2 { font-size: 1.25rem; border-top: 2px solid #14346b; padding-top: .75rem; margin-top: 2rem }
.interval { font-size: 1.25rem; font-variant-numeric: tabular-nums; margin: .5rem 0 }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; padding: .25rem .5rem .25rem 0;
  border-bottom: 1px solid #ddd; vertical-align: top }
th { overflow-wrap: normal; padding-right: .75rem }
td.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
.bar { background: #14346b; height: .8rem; min-width: 1px } td.bars { width: 40% }
pre { overflow-x: auto; background: #f4f4f4; padding: .75rem; font-size: .8rem; overflow-wrap: normal }
figure { margin: 1rem 0 } img { max-width: 100%; height: auto } figcaption, .quiet { color: #555; font-size: .9rem }
@media print { body { max-width: none } }
"""


def page(results: Sequence[str | os.PathLike[str]], instances: Iterable[Instance] = ()) -> str:
    """Return the HTML of a report on result files.

    Parameters
    ----------
    results : sequence of path
    instances : iterable of Instance
        Instances of the results, found by their hash: with its instance a result is checked again by the independent
        checker, and decisions have names.

    Raises
    ------
    InputError
        If a file is not a result, or an instance belongs to none of them.

    """
    known = {instance.sha256: instance for instance in instances}
    sections, used = [], set()
    for path in results:
        data = read_json(path, SOLUTION_BYTES)
        if not is_result(data):
            raise InputError(str(path), ["is not a result file"])
        if faults := shape_faults(data):
            raise InputError(str(path), faults)
        sha = data["instance"]["sha256"]
        used.add(sha)
        sections.append(_section(path, data, known.get(sha)))
    for sha, instance in known.items():
        if sha not in used:
            raise InputError(instance.name, ["is the instance of none of these results"])
    title = f"Results of {len(sections)} solve{'s' if len(sections) > 1 else ''}"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title>'
        f"<style>{STYLE}</style></head><body><h1>{title}</h1>\n"
        "<p>Everything is minimised. Each result is an interval: a point whose value an independent checker has "
        "recomputed, and a lower bound that no feasible point is below.</p>\n"
        f"{''.join(sections)}</body></html>\n"
    )


def _section(path: str | os.PathLike[str], data: dict[str, Any], instance: Instance | None) -> str:
    name, problem = (html.escape(data["instance"][key]) for key in ("name", "problem"))
    parts = [
        f"<section><h2>{name} <small>({problem.replace('_', ' ')})</small></h2>",
        _interval(data),
        _facts(path, data),
    ]
    if data["terms"]:
        parts.append(_terms(data["terms"], data["objective"]))
    if data["trace"]:
        parts.append(_picture("Both ends of the interval over time", lambda ax: convergence(data, ax)))
    if instance is not None and data["solution"] is not None:
        solution = load_result(path, instance).solution
        checked = problem_of(instance).check(instance, solution)
        word = "accepts" if checked.feasible else f"finds {len(checked.violations)} violations in"
        parts.append(
            f"<p>Checked again for this page: the checker {word} the point, value {_number(checked.objective)}.</p>"
        )
        parts.append(f"<pre>{html.escape(problem_of(instance).summary(instance, solution))}</pre>")
    elif data["solution"] is not None:
        parts.append('<p class="quiet">With --instance, decisions have names and tables.</p>')
    parts += [_picture("", draw) for draw in decisions(path, data, instance)]
    return "\n".join([*parts, "</section>\n"])


def _interval(data: dict[str, Any]) -> str:
    low, high = _number(data["lower_bound"]), _number(data["objective"])
    # Digits beyond these are rounding.
    gap = "" if data["gap"] is None else ", gap " + (f"{data['gap']:.4%}" if data["gap"] > 1e-8 else "0")
    return f'<p class="interval"><strong>{html.escape(str(data["status"]))}</strong>: [{low}, {high}]{gap}</p>'


def _facts(path: str | os.PathLike[str], data: dict[str, Any]) -> str:
    proof = data["certificate"].get("bound")
    ended = "by itself" if data["limit"] is None else f"stopped by {data['limit']}"
    versions = ", ".join(f"{name} {value}" for name, value in dict(data["versions"]).items())
    rows = {
        "Meaning": STATUSES.get(data["status"], data["status"]),
        "The bound rests on": PROOFS.get(proof, proof),
        "Method": f"{data['method']}, ended {ended} after {data['runtime_s']:.1f} s, seed {data['seed']}",
        "File": f"{path}, instance {data['instance']['sha256'][:12]}…",
        "Versions": versions,
    }
    lines = (f"<tr><th>{key}</th><td>{html.escape(str(value))}</td></tr>" for key, value in rows.items())
    return f"<table>{''.join(lines)}</table>"


def _terms(terms: dict[str, float], objective: float | None) -> str:
    total = sum(abs(value) for value in terms.values()) or 1.0
    rows = "".join(
        f'<tr><th>{html.escape(name.replace("_", " "))}</th><td class="number">{_number(value)}</td>'
        f'<td class="bars"><div class="bar" style="width: {100 * abs(value) / total:.1f}%"></div></td></tr>'
        for name, value in terms.items()
    )
    whole = f'<tr><th>objective</th><td class="number">{_number(objective)}</td><td></td></tr>'
    return f"<h3>Terms of the objective</h3><table>{rows}{whole}</table>"


def _picture(caption: str, draw: Any) -> str:
    """Picture inside the page, as SVG: sharp at any width, and words in it can be found."""
    from matplotlib import pyplot, rc_context

    with rc_context(
        {"svg.fonttype": "none", "svg.hashsalt": "aigc-opt", "font.family": "sans-serif", "figure.figsize": (5.6, 4.0)}
    ):
        ax: Axes = draw(axes_of(None))
        stream = io.BytesIO()
        figure = figure_with(ax)
        figure.savefig(stream, format="svg", metadata={"Date": None})
        title = ax.get_title()
        pyplot.close(figure)
    coded = base64.b64encode(stream.getvalue()).decode("ascii")
    text = html.escape(caption or title or "Decisions")
    return f'<figure><img alt="{text}" src="data:image/svg+xml;base64,{coded}"><figcaption>{text}</figcaption></figure>'


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.7g}"
