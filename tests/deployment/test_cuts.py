"""Inequalities for what fits together: complete packs, exact inequalities, and a bound that stays one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import aigc_opt
from aigc_opt.control import Control
from aigc_opt.instance.generate import DEPLOYMENT_FAMILIES, generate_deployment
from aigc_opt.problems.deployment import cuts, methods
from aigc_opt.problems.deployment.arrays import DeploymentProgram
from aigc_opt.problems.deployment.cuts import maximal_packs, tightened
from aigc_opt.solvers import Highs
from tests.deployment.tiny import tiny


@given(st.lists(st.integers(1, 50), min_size=1, max_size=8), st.integers(0, 120))
def test_packs_are_all_that_fit_and_cannot_grow(sizes, capacity):
    sizes = np.array(sizes) / 10
    limit = capacity / 10 + max(1e-6, 1e-6 * capacity / 10)
    sets = [s for s in itertools.product((0.0, 1.0), repeat=len(sizes)) if np.dot(s, sizes) <= limit]
    largest = {s for s in sets if not any(o != s and all(a >= b for a, b in zip(o, s, strict=True)) for o in sets)}
    assert {tuple(pack) for pack in maximal_packs(sizes, capacity / 10)} == largest


def test_too_many_packs_are_left_alone(monkeypatch):
    monkeypatch.setattr(cuts, "MOST_PACKS", 10)
    assert maximal_packs(np.ones(12), 6.0) is None
    assert len(maximal_packs(np.ones(5), 2.0)) == 10


@settings(max_examples=15)
@given(st.integers(0, 10**6))
def test_every_placement_keeps_every_inequality(seed):
    """All sets that fit a server, in every slot: none breaks a row, so no optimum can be cut off."""
    instance = tiny(seed, 2, 2, 4)
    built = DeploymentProgram(instance)
    program, bound = tightened(built, Control())
    best = aigc_opt.solve(instance, gap=1e-9)
    assert bound <= best.objective + 1e-7 * max(1, abs(best.objective))
    added = program.matrix.tocsr()[built.program.row_upper.size :]
    limits = program.row_upper[built.program.row_upper.size :]
    for columns, sizes, capacity in built.knapsacks():
        for chosen in itertools.product((0.0, 1.0), repeat=len(sizes)):
            if np.dot(chosen, sizes) <= capacity * (1 + 1e-6) + 1e-6:
                x = np.zeros(program.cost.size)
                x[columns] = chosen
                assert (added @ x <= limits).all()  # whole numbers: exactly


@pytest.mark.parametrize("family", DEPLOYMENT_FAMILIES)
def test_the_relaxation_rises_and_the_optimum_stays(family):
    instance = generate_deployment(3, 6, 4, family=family, seed=1)
    built = DeploymentProgram(instance)
    plain = Highs(built.program.relaxed()).solve()
    program, bound = tightened(built, Control())
    before = Highs(built.program).solve(gap=1e-9)
    after = Highs(program).solve(gap=1e-9)
    assert built.program.dual_bound(plain.row_duals) <= bound + 1e-9 <= before.objective * (1 + 1e-9) + 1e-9
    assert after.objective == pytest.approx(before.objective, rel=1e-8)
    if program.row_upper.size > built.program.row_upper.size:
        assert bound > plain.objective
        assert program.row_names[-1].startswith("fits_together[")


@pytest.mark.parametrize("shape", [(3, 8, 8), pytest.param((4, 10, 12), marks=pytest.mark.long)])
def test_parts_of_a_placement_are_improved(shape, monkeypatch):
    """The exact method's neighbourhoods keep the point feasible and never make it worse."""
    monkeypatch.setattr(methods, "WORTH_PARTS", 100)
    instance = generate_deployment(*shape, family="metro", seed=3)
    result = aigc_opt.solve(instance, time_limit=3 if shape == (3, 8, 8) else 15, gap=1e-3)
    start = next(row.objective for row in result.trace if row.event == "feature-aware selection")
    assert result.objective <= start and result.lower_bound <= result.objective
    assert aigc_opt.check(instance, result).feasible


def test_many_models_are_no_trouble():
    assert maximal_packs(np.ones(1500), 1e6).shape == (1, 1500)
    assert maximal_packs(np.ones(1500), 700.0) is None
    assert maximal_packs(np.linspace(1, 2, 150), 100.0) is None
