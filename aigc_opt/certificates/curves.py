"""Quality curves in rational arithmetic, straight from the parsed file."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

from aigc_opt.certificates.rationals import Enclosure, ceil_to, exp, floor_to, ln, power


def quality(curve: dict[str, Any], steps: Fraction) -> Enclosure:
    """Enclose the quality loss after `steps` steps."""
    if curve["kind"] == "piecewise_linear":
        value = _between([(Fraction(s), Fraction(q)) for s, q in curve["points"]], steps)
        return value, value
    floor, amplitude, _ = _smooth(curve)
    low, high = _tail(curve, steps)
    return floor_to(floor + amplitude * low), ceil_to(floor + amplitude * high)


def cheapest(curve: dict[str, Any], weight: Fraction, slope: Fraction, least: Fraction, most: Fraction) -> Fraction:
    """Return a lower bound of ``min slope s + weight q(s)`` over least <= s <= most.

    It is the minimum itself for a piecewise linear curve, at an end or a breakpoint. A smooth curve is convex, so it
    lies above its tangent at any point; the tangent is taken where the minimum is, as nearly as 60 digits say, and its
    own minimum over the interval is the bound, whatever that point is.
    """
    if curve["kind"] == "piecewise_linear":
        points = [(Fraction(s), Fraction(q)) for s, q in curve["points"]]
        places = {least, most} | {s for s, _ in points if least < s < most}
        return min(slope * s + weight * _between(points, s) for s in places)
    floor, amplitude, shape = _smooth(curve)
    amplitude, constant = weight * amplitude, weight * floor
    if amplitude == 0:
        return constant + min(slope * least, slope * most)
    at = min(max(_flat(curve["kind"], amplitude, shape, slope), least), most) if slope > 0 else most
    low, high = _tail(curve, at)
    if curve["kind"] == "exponential":
        steepness = amplitude * low / shape, amplitude * high / shape
    else:
        steepness = amplitude * shape * low / at, amplitude * shape * high / at
    # The derivative at `at` lies between slope - steepness[1] and slope - steepness[0].
    descent = min((slope - steepness[0]) * (least - at), (slope - steepness[1]) * (most - at))
    return floor_to(constant + slope * at + amplitude * low + descent)


def _smooth(curve: dict[str, Any]) -> tuple[Fraction, Fraction, Fraction]:
    """Floor, amplitude and scale or exponent."""
    floor = Fraction(curve["floor"])
    if curve["kind"] == "exponential":
        return floor, Fraction(curve["ceiling"]) - floor, Fraction(curve["scale"])
    return floor, Fraction(curve["coefficient"]), Fraction(curve["exponent"])


def _tail(curve: dict[str, Any], steps: Fraction) -> Enclosure:
    """Enclose what the amplitude is multiplied by."""
    if curve["kind"] == "exponential":
        ratio = -steps / Fraction(curve["scale"])
        return exp((ratio, ratio))
    return power((steps, steps), -Fraction(curve["exponent"]))


def _flat(kind: str, amplitude: Fraction, shape: Fraction, slope: Fraction) -> Fraction:
    """Where the derivative is 0, nearly."""
    if kind == "exponential":
        ratio = amplitude / (shape * slope)
        return floor_to(shape * ln((ratio, ratio))[0])
    ratio = amplitude * shape / slope
    logarithm = ln((ratio, ratio))[0] / (shape + 1)
    return floor_to(exp((min(logarithm, Fraction(700)),) * 2)[0])


def _between(points: list[tuple[Fraction, Fraction]], steps: Fraction) -> Fraction:
    """Linear between points, constant outside."""
    if steps <= points[0][0]:
        return points[0][1]
    for (a, low), (b, high) in itertools.pairwise(points):
        if steps <= b:
            return low + (high - low) * (steps - a) / (b - a)
    return points[-1][1]
