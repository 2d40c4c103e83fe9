"""A report as a picture: one row a policy, its mean cost with its interval, and the bounds behind. SVG, by hand."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np

WIDTH, ROW, LEFT, RIGHT, TOP, BOTTOM = 860, 26, 210, 30, 64, 44
INK, FAINT = "#222222", "#dddddd"
BLUE, GREEN, ORANGE = "#0072B2", "#009E73", "#D55E00"  # told apart by people with any colour vision


def drawing(data: dict[str, Any]) -> str:
    """Return the SVG text of a report's JSON object."""
    policies = sorted((p for p in data["policies"] if p["cost"] is not None), key=lambda p: p["cost"]["mean"])
    hindsight, episodes = data["bounds"]["hindsight"], data["episodes"]
    few = hindsight is not None and hindsight["episodes"] < episodes
    bounds = [(f"hindsight ({hindsight['episodes']} of {episodes})" if few else "hindsight", hindsight, BLUE)]
    reachable = data["bounds"]["nonanticipative"]
    if reachable is not None:
        bounds += [("lower", reachable["lower"], GREEN), ("upper", reachable["upper"], ORANGE)]
    bounds = [item for item in bounds if item[1] is not None]
    ends = [end for value in [b for _, b, _ in bounds] + [p["cost"] for p in policies] for end in _ends(value)]
    least, most = (min(ends), max(ends)) if ends else (0.0, 1.0)
    span = (most - least) or max(1.0, abs(most))
    least, most = least - 0.04 * span, most + 0.04 * span
    height = TOP + ROW * max(1, len(policies)) + BOTTOM
    bottom = height - BOTTOM

    def x(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (value - least) / (most - least)

    def text(left: float, top: float, words: str, anchor: str = "start", colour: str = INK, size: int = 12) -> str:
        return (
            f'<text x="{left:.1f}" y="{top:.1f}" text-anchor="{anchor}" fill="{colour}" font-size="{size}">'
            f"{escape(words)}</text>"
        )

    head = f"{data['instance']['name']}: {data['episodes']} episodes, {100 * data['confidence']:g}% intervals"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        text(12, 20, head, size=14),
    ]
    for tick in _ticks(least, most):
        parts.append(f'<path d="M{x(tick):.1f} {TOP}V{bottom}" stroke="{FAINT}"/>')
        parts.append(text(x(tick), bottom + 16, f"{tick:g}", "middle"))
    parts.append(text(0.5 * (LEFT + WIDTH - RIGHT), height - 8, "objective (lower is better)", "middle"))
    for k, (name, value, colour) in enumerate(bounds):
        low, high = _ends(value)
        parts.append(
            f'<rect x="{x(low):.1f}" y="{TOP}" width="{max(x(high) - x(low), 0.5):.1f}" height="{bottom - TOP}" '
            f'fill="{colour}" opacity="0.12"/>'
        )
        parts.append(f'<path d="M{x(value["mean"]):.1f} {TOP}V{bottom}" stroke="{colour}" stroke-width="1.5"/>')
        parts.append(text(12 + 190 * k, 44, f"{name} {value['mean']:.5g}", colour=colour))
    for k, policy in enumerate(policies):
        y = TOP + ROW * (k + 0.5)
        low, high = _ends(policy["cost"])
        parts.append(text(LEFT - 10, y + 4, policy["name"][-32:], "end"))
        parts.append(f'<path d="M{x(low):.1f} {y:.1f}H{x(high):.1f}" stroke="{INK}" stroke-width="2"/>')
        parts.append(f'<circle cx="{x(policy["cost"]["mean"]):.1f}" cy="{y:.1f}" r="4" fill="{INK}"/>')
    return "\n".join([*parts, "</svg>", ""])


def _ends(value: dict[str, Any]) -> list[float]:
    return value["ci"] or [value["mean"], value["mean"]]


def _ticks(least: float, most: float) -> list[float]:
    """Return round numbers between two ends, about six."""
    rough = (most - least) / 6
    unit = 10.0 ** np.floor(np.log10(rough))
    step = unit * min((m for m in (1, 2, 5, 10) if m * unit >= rough), default=10)
    first = np.ceil(least / step)
    return [float(f"{k * step:.10g}") for k in np.arange(first, np.floor(most / step) + 1)]
