"""Alternation between blocks of decisions: improve one block with the others fixed, until no block gets better."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from aigc_opt.control import Control

Point = TypeVar("Point")

ROUNDS = 100
LEAST_GAIN = 1e-10
"""A round that gains less than this (relative) is the last one."""


@dataclass(frozen=True)
class Alternation(Generic[Point]):
    """Where an alternation ended.

    Attributes
    ----------
    point : Point
    cost : float
    trace : tuple of (str, float)
        After the start and after each block: its name and the cost, which never rises.
    rounds : int

    """

    point: Point
    cost: float
    trace: tuple[tuple[str, float], ...]
    rounds: int


def alternate(
    start: Point,
    cost: Callable[[Point], float],
    blocks: Mapping[str, Callable[[Point], Point | None]],
    control: Control,
    rounds: int = ROUNDS,
) -> Alternation[Point]:
    """Alternate between blocks from a starting point.

    Parameters
    ----------
    start : Point
        Whatever the blocks work on.
    cost : callable
    blocks : mapping
        Name -> function that returns a point with its block decided anew, or None. A point that is not cheaper is
        thrown away, so that the cost never rises whatever a block returns.
    control : Control
        Polled between blocks.
    rounds : int

    Returns
    -------
    Alternation

    """
    point, value = start, cost(start)
    trace = [("start", value)]
    done = 0
    for done in range(1, rounds + 1):
        before = value
        for name, improve in blocks.items():
            if control.stop is not None:
                return Alternation(point, value, tuple(trace), done)
            new = improve(point)
            if new is not None and cost(new) < value:
                point, value = new, cost(new)
            trace.append((name, value))
        if before - value <= LEAST_GAIN * abs(before):
            break
    return Alternation(point, value, tuple(trace), done)
