"""The checker finds every kind of broken solution, and accepts what is right."""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace

import numpy as np
import pytest

import aigc_opt
from aigc_opt.envs.station import Grants, Station
from aigc_opt.instance.generate import generate_two_timescale
from aigc_opt.instance.two_timescale import TwoTimescaleInstance
from aigc_opt.problems.two_timescale.check import check
from aigc_opt.problems.two_timescale.solution import SOLUTION_ARRAYS, TwoTimescaleSolution
from tests.conftest import broken

DATA = {
    "format": "aigc-opt/instance", "version": 1, "problem": "two_timescale", "name": "by-hand",
    "models": [
        {"name": "a", "storage_gb": 4, "gpu_memory_gb": 3, "warmup_s": 1, "latency": {"base_s": 2, "per_step_s": 0.1},
         "quality": {"kind": "piecewise_linear", "points": [[10, 90], [50, 10]]}},
        {"name": "b", "storage_gb": 5, "gpu_memory_gb": 2, "latency": {"base_s": 1, "per_step_s": 0.2},
         "quality": {"kind": "exponential", "floor": 5, "ceiling": 65, "scale": 20}},
    ],
    "edge": {"storage_gb": 6, "steps_per_slot": 60, "min_steps": 5, "max_steps": 50, "uplink_mhz": 10,
             "downlink_mhz": 20, "power_w": 10, "noise_dbm_per_hz": -170, "backhaul_mbps": 4, "cloud_gbps": 8,
             "io_gb_per_s": 2},
    "user_power_w": [0.1, 0.2],
    "cloud": {"steps": 40, "latency": {"base_s": 3, "per_step_s": 0.05}},
    "weights": {"delay": 0.5, "quality": 0.25, "switching": 2},
    "requests": {
        "model": [[[0, 1], [0, None]], [[1, 1], [None, None]]],
        "input_mbit": [[[2, 4], [0, 9]], [[1, 1], [9, 9]]],
        "output_mbit": [[[6, 8], [5, 9]], [[0, 3], [9, 9]]],
        "uplink_gain": [[[1e-10, 2e-10], [1e-10, 1]], [[3e-10, 1e-11], [1, 1]]],
        "downlink_gain": [[[1e-11, 2e-11], [1e-11, 1]], [[3e-11, 1e-11], [1, 1]]],
    },
}  # fmt: skip


def changed(**values) -> TwoTimescaleInstance:
    return TwoTimescaleInstance.from_dict(json.loads(json.dumps(DATA)) | values)


def edge(**values) -> TwoTimescaleInstance:
    return changed(edge=DATA["edge"] | values)


@pytest.fixture
def instance() -> TwoTimescaleInstance:
    return changed()


@pytest.fixture
def solution() -> TwoTimescaleSolution:
    """Model a in frame 1, b in frame 2; shares one half each where two send."""
    return TwoTimescaleSolution(
        cached=np.array([[1, 0], [0, 1]]),
        at_edge=np.array([[[1, 0], [1, 0]], [[1, 1], [0, 0]]]),
        steps=np.array([[[30.0, 0], [50, 0]], [[20, 40], [0, 0]]]),
        uplink_share=np.array([[[0.5, 0.5], [0, 0]], [[0.5, 0.5], [0, 0]]]),
        downlink_share=np.array([[[0.25, 0.75], [1, 0]], [[0, 1], [0, 0]]]),
    )


def test_value_by_hand(instance, solution):
    found = check(instance, solution)
    assert found.feasible, found.violations
    noise = 10**-20

    def seconds(mbit, share, mhz, watt, gain):
        width = share * mhz * 1e6
        return mbit * 1e6 / (width * math.log2(1 + watt * gain / (noise * width)))

    up = [
        seconds(2, 0.5, 10, 0.1, 1e-10), seconds(4, 0.5, 10, 0.2, 2e-10), seconds(1, 0.5, 10, 0.1, 3e-10),
        seconds(1, 0.5, 10, 0.2, 1e-11),
    ]  # fmt: skip
    down = [
        seconds(6, 0.25, 20, 10, 1e-11), seconds(8, 0.75, 20, 10, 2e-11), seconds(5, 1, 20, 10, 1e-11),
        seconds(3, 1, 20, 10, 1e-11),
    ]  # fmt: skip
    # a with 30 and 50 steps, one b in the cloud (12 Mbit over the backhaul, 40 steps), b with 20 and 40 steps
    generation = (2 + 3) + (2 + 5) + (12 / 4 + 3 + 2) + (1 + 4) + (1 + 8)
    loss = 50 + 10 + (5 + 60 * math.exp(-2)) + (5 + 60 * math.exp(-1)) + (5 + 60 * math.exp(-2))
    switching = (8 * 4 / 8 + 3 / 2 + 1) + (8 * 5 / 8 + 2 / 2)
    expected = {
        "delay": 0.5 * (sum(up) + sum(down) + generation) / 4,
        "quality": 0.25 * loss / 4,
        "switching": 2 * switching / 2,
    }
    assert found.terms == pytest.approx(expected)
    assert found.objective == pytest.approx(sum(expected.values()))


@pytest.mark.parametrize(
    ("changes", "constraint", "where", "amount"),
    [
        ({"cached": {(0, 0): 0.7}}, "cached_is_binary", "frame 1, model a", 0.3),
        ({"cached": {(0, 1): -1}}, "cached_is_binary", "frame 1, model b", 1),
        ({"cached": {(0, 1): 2}}, "cached_is_binary", "frame 1, model b", 1),
        ({"cached": {(0, 1): 1}}, "storage", "frame 1", 3),
        ({"cached": {(0, 1): 1}}, "serve_all_hits", "frame 1, slot 1, user 2", 1),
        ({"cached": {(0, 0): 0}}, "hit", "frame 1, slot 2, user 1", 1),
        ({"at_edge": {(0, 0, 0): 1.2}}, "at_edge_is_binary", "frame 1, slot 1, user 1", 0.2),
        ({"at_edge": {(0, 0, 0): 3}}, "at_edge_is_binary", "frame 1, slot 1, user 1", 2),
        ({"at_edge": {(0, 0, 1): 1}, "steps": {(0, 0, 1): 5}}, "hit", "frame 1, slot 1, user 2", 1),
        ({"at_edge": {(0, 1, 1): 1}}, "no_request", "frame 1, slot 2, user 2", 1),
        ({"steps": {(1, 1, 0): 3}}, "no_request", "frame 2, slot 2, user 1", 3),
        ({"steps": {(0, 0, 0): 4}}, "min_steps", "frame 1, slot 1, user 1", 1),
        ({"steps": {(0, 0, 0): 52}}, "max_steps", "frame 1, slot 1, user 1", 2),
        ({"steps": {(0, 0, 1): 2}}, "steps_at_edge", "frame 1, slot 1, user 2", 2),
        ({"steps": {(0, 0, 1): -2}}, "steps_at_edge", "frame 1, slot 1, user 2", 2),
        ({"steps": {(1, 0, 0): 30}}, "steps_per_slot", "frame 2, slot 1", 10),
        ({"uplink_share": {(0, 0, 0): 0.6}}, "uplink_share", "frame 1, slot 1", 0.1),
        ({"uplink_share": {(0, 1, 0): -0.1}}, "uplink_is_share", "frame 1, slot 2, user 1", 0.1),
        ({"downlink_share": {(0, 1, 0): 1.5}}, "downlink_is_share", "frame 1, slot 2, user 1", 0.5),
        ({"downlink_share": {(0, 1, 0): 1.5}}, "downlink_share", "frame 1, slot 2", 0.5),
        ({"downlink_share": {(1, 1, 1): 0.5}}, "no_request", "frame 2, slot 2, user 2", 0.5),
        ({"uplink_share": {(0, 0, 1): 0}}, "uplink_without_share", "frame 1, slot 1, user 2", 4),
        ({"downlink_share": {(1, 0, 1): -0.25}}, "downlink_without_share", "frame 2, slot 1, user 2", 3),
    ],
)
def test_every_kind_of_violation_is_found(instance, solution, changes, constraint, where, amount):
    found = check(instance, broken(solution, **changes))
    matching = [v for v in found.violations if v.constraint == constraint and v.where == where]
    assert matching, found.violations
    assert matching[0].amount == pytest.approx(amount, rel=1e-6)
    assert not found.feasible
    assert (found.objective is None) == constraint.endswith("without_share")


def test_a_hit_may_be_left_to_the_cloud_where_that_is_allowed(solution):
    left = broken(solution, at_edge={(0, 0, 0): 0}, steps={(0, 0, 0): 0})
    assert {v.constraint for v in check(changed(), left).violations} == {"serve_all_hits"}
    assert check(changed(serve_all_hits=False), left).feasible


def test_tolerance_is_relative_to_the_limit(solution):
    assert check(edge(steps_per_slot=60 - 5e-5), solution).feasible
    assert not check(edge(steps_per_slot=60 - 7e-5), solution).feasible
    assert check(edge(storage_gb=5 - 4e-6), solution).feasible
    assert not check(edge(storage_gb=5 - 6e-6), solution).feasible
    near = broken(solution, cached={(0, 0): 1 - 9e-7}, at_edge={(0, 0, 1): 9e-7})
    found = check(changed(), near)  # evaluated at the rounded values
    assert found.feasible and found.objective == check(changed(), solution).objective


@pytest.mark.parametrize("share", [1e-300, 1e-305, 1e-310, 5e-324])
def test_a_transfer_with_hardly_a_share_takes_nearly_for_ever(instance, solution, share):
    """The smaller the share, the longer: power over noise overflows there, and must not make the rate infinite."""
    longer = np.where(instance.requests.input_mbit > 0, share, solution.uplink_share)
    found = check(instance, replace(solution, uplink_share=np.where(solution.uplink_share > 0, longer, 0.0)))
    assert not found.violations and (found.objective is None or found.objective > 1e290)
    station = Station(instance)
    slots = station.slots_in(instance)
    grants = Grants(*(np.full((len(slots.model), 2), value) for value in (False, 0.0, share, share)))
    with np.errstate(over="ignore"):
        assert (station.request_costs(slots, grants)[slots.asked] > 1e290).all()


def test_initial_cache_counts_and_need_not_fit(solution):
    there = check(changed(initial_cache=[1, 1]), solution)
    nothing = check(changed(), solution)
    assert there.feasible
    assert nothing.terms["switching"] - there.terms["switching"] == pytest.approx(2 * (8 * 4 / 8 + 3 / 2 + 1) / 2)


def test_solution_files(tmp_path, instance, solution):
    path = tmp_path / "instance.json"
    aigc_opt.save(instance, path)
    plain, packed = tmp_path / "plain.json", tmp_path / "packed.json"
    solution.save(plain)
    solution.save(packed, npz=True)
    value = check(instance, solution).objective
    for file in (plain, packed):
        assert aigc_opt.check(path, file).objective == value
    beside = tmp_path / json.loads(packed.read_text())["npz"]
    floats = {name: np.asarray(getattr(solution, name), float) for name in SOLUTION_ARRAYS}
    np.savez(beside, **floats)
    assert aigc_opt.check(path, packed).objective == value
    np.savez(beside, **{name: floats[name] for name in SOLUTION_ARRAYS[1:]})
    with pytest.raises(aigc_opt.InputError, match="exactly the arrays"):
        aigc_opt.check(path, packed)
    np.savez(beside, **floats | {"steps": floats["steps"][:1]})
    with pytest.raises(aigc_opt.InputError, match="steps"):
        aigc_opt.check(path, packed)
    data = solution.to_dict()
    data["steps"][0][0][0] = None
    plain.write_text(json.dumps(data))
    with pytest.raises(aigc_opt.InputError, match=r"steps\[0\]\[0\]\[0\]"):
        aigc_opt.check(path, plain)
    table = solution.to_frame(instance)
    assert len(table) == 5 and table["at_edge"].sum() == 4


def test_many_frames_take_no_longer_than_as_many_requests_in_few():
    def seconds(frames, slots):
        drawn = generate_two_timescale(users=20, models=20, frames=frames, slots=slots, seed=1)
        episode = aigc_opt.sample(drawn, 1)
        solution = aigc_opt.solve(episode, method="cloud-only", bound=False).solution
        took = []
        for _ in range(3):
            began = time.process_time()
            assert check(episode, solution).feasible
            took.append(time.process_time() - began)
        return min(took)

    assert seconds(400, 10) < 4 * seconds(4, 1000)
