"""What a sweep's points leave to each other: the same numbers to the last bit, and nothing that could be stale."""

from __future__ import annotations

import numpy as np
import pytest

import aigc_opt
from aigc_opt import reuse
from aigc_opt.control import Control
from aigc_opt.problems.two_timescale import frames as frames_module
from aigc_opt.problems.two_timescale.episode import Episode
from aigc_opt.problems.two_timescale.frames import Frames
from aigc_opt.reuse import KEPT_AT_MOST, Table, forget, reusing, shared, table
from aigc_opt.tradeoffs.paths import Varied, grid_of
from aigc_opt.tradeoffs.sweep import solve_point

OPTIONS = {"method": None, "gap": 1e-4, "time_limit": None, "seed": 0}


@pytest.fixture(autouse=True)
def nothing_kept():
    forget()
    yield
    forget()


@pytest.fixture(scope="module")
def episode(examples):
    return aigc_opt.sample(aigc_opt.load(examples / "two-timescale-process.json"), 0)


def solved(instance):
    found, _ = solve_point(instance, OPTIONS, None, False)
    return {key: value for key, value in found.items() if key != "runtime_s"}


@pytest.mark.parametrize(
    "vary",
    [
        {"edge.storage_gb": [24.0, 12.0, 18.0]},
        {"weights.switching": [2.0, 0.0], "edge.cloud_gbps": [5.0, 10.0]},
        {"weights.delay": [0.3, 0.7], "edge.steps_per_slot": [400.0, 800.0]},
        {"edge.uplink_mhz": [10.0, 20.0], "weights.quality": [0.5, 1.0], "cloud.steps": [20.0, 100.0]},
    ],
    ids=lambda vary: " ".join(vary),
)
def test_the_same_numbers_as_from_nothing(episode, vary):
    varied = Varied(episode, grid_of(episode, vary))
    points = [varied.at(values) for values in varied.points()]
    together = [solved(point) for point in [*points, points[0]]]
    for point, found in zip([*points, points[0]], together, strict=True):
        forget()
        assert solved(point) == found


def test_slots_are_solved_once_whatever_storage_costs_and_switching(episode, monkeypatch):
    rows, solve_jobs = [], frames_module.solve_jobs

    def counted(jobs, *arguments):
        rows.append(len(jobs))
        return solve_jobs(jobs, *arguments)

    monkeypatch.setattr(frames_module, "solve_jobs", counted)
    varied = Varied(episode, {"weights.switching": (1.0, 1.01)})
    first, second = (varied.at(values) for values in varied.points())
    solved(first)
    before = sum(rows)
    solved(second)
    assert before > 500 and sum(rows) - before < 0.1 * before


def test_what_time_cut_short_is_not_kept(episode):
    frames = Frames(Episode.of(episode))
    every, none = np.arange(10), np.ones((10, 10), bool) & (np.arange(10) < 3)
    stopped, free = Control(1e-9), Control()
    with reusing():
        frames.allocate(every, none, 1e-6, stopped, roots=True)
        found = frames.allocate(every, none, 1e-6, free)
    alone = frames.allocate(every, none, 1e-6, free)
    assert stopped.stop is not None
    assert (found.cost == alone.cost).all() and (found.lower == alone.lower).all()


def test_every_bit_counts():
    array = np.array([1.0, 2.0])
    other = np.nextafter(array, 3.0)
    with reusing():
        assert shared(lambda: 1, "x", array, 3.0) == 1
        assert shared(lambda: 2, "x", array.copy(), 3.0) == 1
        different = [("y", array, 3.0), ("x", other, 3.0), ("x", array, 4.0), ("x", array.reshape(1, 2), 3.0)]
        different += [("x", array.astype(np.float32), 3.0), ("x", array.view(np.int64), 3.0), ("x", array)]
        for number, key in enumerate(different):
            assert shared(lambda number=number: number + 10, *key) == number + 10


def test_nothing_is_kept_outside_nor_without_end():
    assert shared(lambda: 1, "x", 1.0) == 1 and shared(lambda: 2, "x", 1.0) == 2 and table("t") is None
    with reusing():
        for number in range(100):
            shared(lambda: 0, "x", float(number))
        assert len(reuse._kept.parts) == KEPT_AT_MOST
        assert shared(lambda: 1, "x", 99.0) == 0 and shared(lambda: 1, "x", 0.0) == 1
    assert shared(lambda: 3, "x", 99.0) == 3


@pytest.mark.parametrize("most", [10, 200_000])
def test_tables_give_what_was_asked(monkeypatch, most):
    monkeypatch.setattr(reuse, "ROWS_AT_MOST", most)
    random, kept, times, seen = np.random.default_rng(0), Table(), 0, set()

    def solve_of(codes):
        def solve(which):
            nonlocal times
            times += len(which)
            at = codes[which]
            return (at * 0.5, np.stack([at, at + 1], axis=1)), True

        return solve

    for _ in range(20):
        codes = np.unique(random.integers(0, 40, 12))
        seen |= set(codes.tolist())
        half, both = kept.rows(codes, solve_of(codes))
        assert (half == 0.5 * codes).all() and (both == np.stack([codes, codes + 1], axis=1)).all()
        assert (np.diff(kept.codes) > 0).all()
        half[:], both[:] = -1.0, -1  # nobody who is given rows can spoil what is kept
    assert times == len(seen) if most > 40 else times > len(seen)
