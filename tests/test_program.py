"""Dual bounds that are evaluated here: never above what they bound, whatever the multipliers."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aigc_opt.program import INF, ProgramBuilder
from aigc_opt.solvers import Answer, Highs
from tests.test_solvers import program


def random_program(seed: int, size: int = 6, rows: int = 4):
    random = np.random.default_rng(seed)
    matrix = np.round(random.normal(size=(rows, size)), 2)
    inside = random.random(size)
    value = matrix @ inside
    kinds = random.integers(3, size=rows)  # upper, lower, equality: the point `inside` meets all
    lower = np.where(kinds == 0, -INF, value - np.where(kinds == 1, random.random(rows), 0))
    upper = np.where(kinds == 1, INF, value + np.where(kinds == 0, random.random(rows), 0))
    return program(np.round(random.normal(size=size), 2), matrix, lower, upper), random


def exact_dual(made, y) -> Fraction:
    """The Lagrangian value of the multipliers in rational arithmetic."""
    total = Fraction(float(made.offset))
    dense = made.matrix.toarray()
    for r, value in enumerate(y):
        side = made.row_lower[r] if value > 0 else made.row_upper[r]
        if value != 0 and np.isfinite(side):
            total += Fraction(float(value)) * Fraction(float(side))
    for k in range(made.cost.size):
        reduced = Fraction(float(made.cost[k]))
        for r, value in enumerate(y):
            side = made.row_lower[r] if value > 0 else made.row_upper[r]
            if np.isfinite(side):
                reduced -= Fraction(float(value)) * Fraction(float(dense[r, k]))
        total += min(reduced * Fraction(float(made.lower[k])), reduced * Fraction(float(made.upper[k])))
    return total


@given(st.integers(0, 10**6), st.floats(1e-8, 1e8))
def test_any_multipliers_give_a_bound(seed, scale):
    made, random = random_program(seed)
    best = Highs(made).solve()
    assert best.answer is Answer.OPTIMAL
    y = scale * random.normal(size=made.row_upper.size)
    assert made.dual_bound(y) <= best.objective + 1e-9
    # Rounding is on the safe side, and small.
    exact = exact_dual(made, y)
    assert Fraction(made.dual_bound(y)) <= exact
    assert made.dual_bound(y) == pytest.approx(float(exact), rel=1e-11, abs=1e-11 * max(1, scale))


@given(st.integers(0, 10**6))
def test_the_solvers_multipliers_give_the_optimum(seed):
    """So a bound that were 1e-4 too high would be above the optimum here."""
    made, _ = random_program(seed)
    best = Highs(made).solve()
    bound = made.dual_bound(best.row_duals)
    assert bound <= best.objective + 1e-9
    assert bound == pytest.approx(best.objective, rel=1e-6, abs=1e-6)
    wrong_sign = made.dual_bound(-best.row_duals)
    assert wrong_sign <= best.objective + 1e-9


def test_multipliers_that_are_no_numbers_count_as_none():
    made, _ = random_program(3)
    assert made.dual_bound(np.full(4, np.nan)) == made.dual_bound(np.zeros(4))
    assert made.dual_bound(np.array([np.inf, -np.inf, np.nan, 0])) == made.dual_bound(np.zeros(4))


def test_a_variable_without_bounds_gives_none():
    made = program([-1.0, 1.0], [[1.0, 1.0]], [0.0], [4.0], upper=[INF, 1.0])
    assert made.dual_bound(np.zeros(1)) == -INF
    assert made.dual_bound(np.array([-1.5])) == pytest.approx(-6.0)


def test_builder_joins_families_and_drops_zeros():
    build = ProgramBuilder()
    first = build.variable("a", np.array([1.0, 2.0]), lambda: [(1,), (2,)], integer=True)
    second = build.variable("b", np.array([[3.0]]), lambda: [(1, "x")], upper=5.0)
    build.constraint(
        "r",
        [(np.arange(2), first, 1.0), (np.zeros(1, int), second[0], 0.0)],
        np.array([1.0, 2.0]),
        lambda: [(1,), (2,)],
    )
    build.constraint("s", [(np.zeros(1, int), second[0], -4.0)], np.array([7.0]), lambda: [()], lower=-3.0)
    made = build.build(offset=9.0)
    assert made.column_names == ["a[1]", "a[2]", "b[1,x]"] and made.row_names == ["r[1]", "r[2]", "s"]
    assert made.matrix.toarray().tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, -4]] and made.matrix.nnz == 3
    assert made.row_lower.tolist() == [-INF, -INF, -3.0] and made.upper.tolist() == [1, 1, 5]
    assert made.integer.tolist() == [True, True, False] and made.offset == 9.0
    assert made.block("b").start == 2 and not made.relaxed().integer.any()


@pytest.mark.parametrize(
    ("cost", "row", "within"),
    [
        ([1, 1e8], [1, 1e5], True), ([1, 0], [1, 0], True), ([0, 0], [0, 0], True), ([-1, 1e-10], [1, 1], False),
        ([1, 1], [1e-3, 1e4], False),
    ],
)  # fmt: skip
def test_ranges_of_magnitude_that_a_solver_can_tell_apart(cost, row, within):
    """Rows of different units are no matter: they are scaled one by one."""
    build = ProgramBuilder()
    column = build.variable("x", np.array(cost, float), lambda: [(1,), (2,)])
    build.constraint("a", [(np.zeros(2, int), column, np.array(row, float))], np.ones(1), lambda: [(1,)])
    build.constraint("b", [(np.zeros(2, int), column, np.full(2, 1e12))], np.ones(1), lambda: [(1,)])
    program = build.build()
    if within:
        assert program.within_range()
    else:
        with pytest.warns(UserWarning, match="range in magnitude"):
            assert not program.within_range()
