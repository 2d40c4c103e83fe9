"""The loops of decomposition on functions whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest

from aigc_opt.control import Control
from aigc_opt.decomposition.alternating import alternate
from aigc_opt.decomposition.lagrangian import SmoothDual, smooth_ascent


def test_alternation_descends_block_by_block():
    """Minimise (x - y)^2 + (x - 3)^2 / 10 by x alone and y alone."""
    blocks = {
        "x": lambda p: ((p[1] + 0.3) / 1.1, p[1]),
        "y": lambda p: (p[0], p[0]),
    }
    end = alternate((0.0, 0.0), lambda p: (p[0] - p[1]) ** 2 + (p[0] - 3) ** 2 / 10, blocks, Control(), rounds=500)
    assert end.point == pytest.approx((3, 3), abs=1e-3)
    costs = [cost for _, cost in end.trace]
    assert costs == sorted(costs, reverse=True)
    assert [name for name, _ in end.trace[:3]] == ["start", "x", "y"]


def test_alternation_keeps_no_block_that_is_worse_or_nothing():
    end = alternate(1.0, lambda p: p, {"worse": lambda p: p + 1, "nothing": lambda p: None}, Control())
    assert (end.point, end.cost, end.rounds) == (1.0, 1.0, 1)


def test_alternation_stops_when_told():
    control = Control()
    control.interrupted = True
    assert alternate(1.0, lambda p: p, {"better": lambda p: p / 2}, control).point == 1.0


def dual(mu: np.ndarray, temperature: float) -> SmoothDual:
    """Of min x - 2 y, x + y >= 1 priced at mu over 0 <= x, y <= 3: a soft minimum over the corners."""
    corners = np.array([[0, 0], [0, 3], [3, 0], [3, 3]], float)
    slack = 1 - corners.sum(axis=1)
    costs = corners @ np.array([1.0, 2.0]) + mu[0] * slack
    weight = np.exp(-(costs - costs.min()) / temperature)
    value = float(costs.min())
    smooth = value - temperature * float(np.log(weight.sum()))
    return SmoothDual(value, smooth, np.array([float(weight @ slack / weight.sum())]))


def test_ascent_finds_the_best_multiplier():
    best = smooth_ascent(dual, np.array([0.01]), Control(), (0.3, 0.03, 0.003))
    assert dual(best, 1e-3).value == pytest.approx(1.0, abs=1e-2)  # the optimum: x = 1, y = 0


def test_ascent_stops_when_told_and_returns_its_start():
    control = Control()
    control.interrupted = True
    assert smooth_ascent(dual, np.array([0.5]), control, (0.1,)).tolist() == [0.5]


def test_part_of_a_control_ends_by_share_or_by_seconds():
    assert Control().part().time_limit is None
    assert Control().part(0.5, most_s=3.0).time_limit == 3.0
    assert Control(10.0).part(0.5).time_limit == pytest.approx(5.0, abs=0.1)
    assert Control(10.0).part(0.5, most_s=1.0).time_limit == 1.0
