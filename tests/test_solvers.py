"""The solver adapter: every way that a solve can end has one name, and nothing that is wrong passes."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import scipy.sparse as sp

from aigc_opt.control import Control
from aigc_opt.errors import SolverError
from aigc_opt.program import INF, Block, LinearProgram
from aigc_opt.result import Limit
from aigc_opt.solvers import Answer, Highs


def program(cost, matrix, row_lower, row_upper, lower=0.0, upper=1.0, integer=False, offset=0.0) -> LinearProgram:
    size = len(cost)
    matrix = sp.csc_array(np.array(matrix, float).reshape(-1, size) if size else np.zeros((len(row_lower), 0)))
    return LinearProgram(
        np.array(cost, float),
        np.broadcast_to(np.array(lower, float), size).copy(),
        np.broadcast_to(np.array(upper, float), size).copy(),
        np.broadcast_to(np.array(integer, bool), size).copy(),
        matrix,
        np.array(row_lower, float),
        np.array(row_upper, float),
        (Block("x", 0, size, lambda: [(k,) for k in range(size)]),),
        (Block("row", 0, len(row_lower), lambda: [(k,) for k in range(len(row_lower))]),),
        offset,
    )


def hard(size: int = 120, rows: int = 60) -> LinearProgram:
    """A multi-dimensional knapsack that no solver closes in a second."""
    random = np.random.default_rng(0)
    weights = random.integers(1, 1000, (rows, size)).astype(float)
    return program(-random.integers(1, 1000, size), weights, np.full(rows, -INF), weights.sum(axis=1) / 2, integer=True)


@pytest.mark.parametrize("integer", [False, True])
@pytest.mark.parametrize("watched", [False, True])
class TestStatus:
    def solve(self, made: LinearProgram, watched: bool, **options):
        return Highs(made).solve(control=Control() if watched else None, **options)

    def test_optimal(self, integer, watched):
        outcome = self.solve(program([1, 1], [1, 2], [2], [INF], upper=3, integer=integer, offset=5), watched)
        assert outcome.answer is Answer.OPTIMAL and outcome.limit is None
        assert outcome.objective == pytest.approx(6) and outcome.bound == pytest.approx(6)
        assert (outcome.row_duals is None) == integer

    def test_infeasible(self, integer, watched):
        outcome = self.solve(program([1, 1], [1, 1], [8], [INF], upper=3, integer=integer), watched)
        assert (outcome.answer, outcome.objective, outcome.bound, outcome.x) == (Answer.INFEASIBLE, None, None, None)

    def test_infeasible_by_integrality_only(self, integer, watched):
        outcome = self.solve(program([1], [2], [1], [1], integer=integer), watched)
        assert outcome.answer is (Answer.INFEASIBLE if integer else Answer.OPTIMAL)

    def test_unbounded(self, integer, watched):
        outcome = self.solve(program([-1, -1], [1, -2], [2], [INF], upper=INF, integer=integer), watched)
        assert (outcome.answer, outcome.objective, outcome.bound, outcome.x) == (Answer.UNBOUNDED, None, None, None)

    def test_no_variables(self, integer, watched):
        outcome = self.solve(program([], [], [], [], offset=3), watched)
        assert (outcome.answer, outcome.objective, outcome.bound) == (Answer.OPTIMAL, 3, 3)
        assert self.solve(program([], [], [1.0], [2.0]), watched).answer is Answer.INFEASIBLE

    def test_no_rows(self, integer, watched):
        outcome = self.solve(program([1, -1], [], [], [], integer=integer), watched)
        assert (outcome.answer, outcome.objective) == (Answer.OPTIMAL, -1)


def test_time_limit_with_a_point():
    made = hard()
    outcome = Highs(made).solve(control=Control(0.7), start=np.zeros(made.cost.size))
    assert (outcome.answer, outcome.limit) == (Answer.STOPPED, Limit.TIME)
    assert outcome.x is not None and outcome.bound <= outcome.objective <= 0


def test_time_limit_without_a_point():
    random = np.random.default_rng(1)
    # A market split: an equality that almost no 0-1 point meets.
    weights = random.integers(0, 100, (5, 40)).astype(float)
    sides = np.floor(weights.sum(axis=1) / 2)
    outcome = Highs(program(np.zeros(40), weights, sides, sides, integer=True)).solve(control=Control(0.5))
    assert (outcome.answer, outcome.limit) == (Answer.STOPPED, Limit.TIME)
    assert outcome.x is None and outcome.objective is None


def test_interrupt():
    control = Control()
    threading.Timer(0.4, lambda: setattr(control, "interrupted", True)).start()
    began = time.perf_counter()
    outcome = Highs(hard()).solve(control=control)
    assert (outcome.answer, outcome.limit) == (Answer.STOPPED, Limit.INTERRUPT)
    assert time.perf_counter() - began < 4


def test_options_do_not_stick():
    """A time limit, a gap and a seed of one call are not there in the next."""
    made = hard(30, 5)
    solver = Highs(made)
    loose = solver.solve(gap=0.5, control=Control(0.001), seed=5)
    tight = solver.solve(gap=0.0)
    assert loose.answer in (Answer.STOPPED, Answer.OPTIMAL)
    assert tight.answer is Answer.OPTIMAL and tight.objective == pytest.approx(tight.bound)
    assert Highs(made).solve(gap=0.0).objective == pytest.approx(tight.objective)


def test_time_limit_is_that_of_the_call():
    """The clock of a linear program goes on from call to call in HiGHS; here every call has its own limit."""
    random = np.random.default_rng(0)
    matrix = random.random((300, 400))
    made = program(-random.random(400), matrix, np.full(300, -INF), np.full(300, 20.0))
    solver = Highs(made)
    began = time.perf_counter()
    assert solver.solve(control=Control(60)).answer is Answer.OPTIMAL
    limit = 3 * (time.perf_counter() - began)
    for _ in range(12):
        solver.set_costs(-random.random(400))
        assert solver.solve(control=Control(limit)).answer is Answer.OPTIMAL


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", ["cost", "matrix", "offset"])
def test_numbers_that_are_none_do_not_go_in(bad, place):
    values = {"cost": [1.0, 1.0], "matrix": [1.0, 1.0], "offset": 0.0}
    values[place] = bad if place == "offset" else [1.0, bad]
    with pytest.raises(SolverError, match="not a finite number"):
        program(values["cost"], values["matrix"], [1], [2], offset=values["offset"])


@pytest.mark.parametrize("bounds", [{"lower": np.nan}, {"upper": np.nan}, {"lower": INF}, {"upper": -INF}], ids=str)
def test_bounds_that_are_none_do_not_go_in(bounds):
    with pytest.raises(SolverError, match="bound"):
        program([1.0], [1.0], [0], [1], **bounds)


def test_a_solver_that_ignores_its_limit_is_left_behind(monkeypatch):
    """Whatever the solver does, the call returns soon after the limit, with what was seen of it."""
    made = hard()
    solver = Highs(made)
    stubborn = solver._highs
    release = threading.Event()
    monkeypatch.setattr("aigc_opt.solvers.GRACE_S", 0.2)
    monkeypatch.setattr(type(stubborn), "run", lambda self: release.wait(20))
    began = time.perf_counter()
    outcome = solver.solve(control=Control(0.3))
    assert time.perf_counter() - began < 3
    assert (outcome.answer, outcome.limit, outcome.x) == (Answer.STOPPED, Limit.TIME, None)
    release.set()


@pytest.mark.parametrize("scale", [1e-9, 1e-3, 1e6, 1e13, 1e17])
def test_huge_and_tiny_numbers(scale):
    """The same program in other units has the same answer in those units."""
    made = program([-3 * scale, -2 * scale], [[2 * scale, 1 * scale]], [-INF], [2 * scale], integer=True)
    outcome = Highs(made).solve()
    assert outcome.objective == pytest.approx(-3 * scale)
    relaxed = made.relaxed()
    duals = Highs(relaxed).solve().row_duals
    assert made.dual_bound(duals) == pytest.approx(-3.5 * scale, rel=1e-9)


def test_points_are_told_in_the_callers_thread():
    seen = []
    here = threading.get_ident()
    Highs(hard(60, 5)).solve(control=Control(2), on_point=lambda x: seen.append((threading.get_ident(), x.shape)))
    assert seen and all(ident == here and shape == (60,) for ident, shape in seen)


def test_further_options_hold_for_one_call_and_wrong_ones_are_refused():
    highs = Highs(program([-1.0, -2.0], [[1, 1]], [-INF], [1.5], integer=True))
    assert highs.solve(options={"mip_heuristic_effort": 0.5, "presolve": "off"}).objective == pytest.approx(-2)
    assert highs.solve().objective == pytest.approx(-2)
    with pytest.raises(SolverError, match="no_such_option"):
        highs.solve(options={"no_such_option": 1})


def test_nothing_is_printed_by_the_first_solver_of_a_process():
    code = (
        "import numpy as np\n"
        "from aigc_opt.program import ProgramBuilder\n"
        "from aigc_opt.solvers import Highs\n"
        "build = ProgramBuilder()\n"
        "build.variable('x', np.ones(2), lambda: [('a',), ('b',)])\n"
        "print('before', flush=True)\n"
        "print(Highs(build.build()).solve().answer)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=60)
    assert (done.stdout, done.stderr) == ("before\noptimal\n", "")
