"""The checker: values by hand, and every kind of violation."""

from __future__ import annotations

import dataclasses
import json

import pytest

import aigc_opt
from aigc_opt.instance.offloading import OffloadingInstance
from aigc_opt.problems.offloading.check import check
from aigc_opt.problems.offloading.solution import Assignment, OffloadingSolution

DATA = {
    "format": "aigc-opt/instance", "version": 1, "problem": "offloading", "name": "by hand",
    "models": [
        {
            "name": "a", "workload": {"base_gcycles": 2, "per_step_gcycles": 1},
            "quality": {"kind": "piecewise_linear", "points": [[2, 1.0], [6, 0.2]]},
        },
        {
            "name": "b", "workload": {"base_gcycles": 0, "per_step_gcycles": 2},
            "quality": {"kind": "power", "floor": 0.1, "coefficient": 2, "exponent": 1},
        },
    ],
    "users": [
        {
            "name": "u", "model": "a", "weight": 2, "input_mbit": 4, "output_mbit": 8, "max_delay_s": 10,
            "battery_j": 5, "transmit_power_w": 0.5, "uplink_mbps": [2, 0], "downlink_mbps": [4, 4],
            "device": {"max_ghz": 2, "kappa": 0.1}, "rejection_penalty": 3,
        },
        {
            "name": "v", "model": "b", "weight": 1, "input_mbit": 2, "output_mbit": 2, "max_delay_s": 6,
            "battery_j": 1, "transmit_power_w": 0.5, "uplink_mbps": [2, 1], "downlink_mbps": [2, 2],
            "device": None,
        },
        {
            "name": "w", "model": "a", "weight": 1, "input_mbit": 2, "output_mbit": 2, "max_delay_s": 9,
            "battery_j": 4, "transmit_power_w": 1, "uplink_mbps": [2, 1], "downlink_mbps": [2, 2],
            "device": {"max_ghz": 2, "kappa": 0.1}, "rejection_penalty": 1.5,
        },
    ],
    "servers": [{"name": "s", "ghz": 5}, {"name": "t", "ghz": 4, "hosts": ["b"]}],
    "steps": {"min": 2, "max": 7, "stride": 2},
    "weights": {"quality": 10, "delay": 2, "energy": 3},
}  # fmt: skip


@pytest.fixture
def instance() -> OffloadingInstance:
    return OffloadingInstance.from_dict(DATA)


@pytest.fixture
def solution() -> OffloadingSolution:
    """u at s with 4 steps (6 Gcycles in 2 s: 3 GHz), v at s with 2 (4 in 2 s: 2 GHz), w on its device (4 in 4 s)."""
    return OffloadingSolution(
        (Assignment("u", "s", 4, 2.0), Assignment("v", "s", 2, 2.0), Assignment("w", "local", 2, 4.0))
    )


def broken(solution: OffloadingSolution, index: int, **changes) -> OffloadingSolution:
    tasks = list(solution.tasks)
    tasks[index] = dataclasses.replace(tasks[index], **changes)
    return OffloadingSolution(tuple(tasks))


def test_value_by_hand(instance, solution):
    found = check(instance, solution)
    assert found.feasible, found.violations
    # u: transfers 2 + 2 s, upload 1 J; v: 1 + 1 s, 0.5 J; w: 4 s, 0.1 x 4 x 1 = 0.4 J.
    expected = {
        "quality": (2 * 10 * 0.6 + 10 * 1.1 + 10 * 1.0) / 3,
        "delay": (2 * 2 * 6 + 2 * 4 + 2 * 4) / 3,
        "energy": (2 * 3 * 1 + 3 * 0.5 + 3 * 0.4) / 3,
        "rejection": 0.0,
    }
    assert found.terms == pytest.approx(expected)
    assert found.objective == pytest.approx(sum(expected.values()))


def test_rejection_costs_its_penalty_and_counts_in_the_mean(instance, solution):
    found = check(instance, broken(solution, 0, place="rejected", steps=None, computation_s=None))
    assert found.feasible
    assert found.terms["rejection"] == pytest.approx(2 * 3 / 3)


@pytest.mark.parametrize(
    ("index", "changes", "constraint", "where", "amount", "valued"),
    [
        (0, {"computation_s": 1.5}, "server_speed", "s", 1.0, True),
        (0, {"computation_s": 6.5}, "deadline", "u at s", 0.5, True),
        (2, {"computation_s": 9.25}, "deadline", "w at local", 0.25, True),
        (2, {"computation_s": 1.0}, "device_speed", "w at local", 2.0, True),
        (0, {"steps": 4.5}, "steps_are_integer", "u at s", 0.5, True),
        (0, {"steps": 4.00001}, "steps_are_integer", "u at s", 1e-5, True),
        (0, {"steps": 3}, "steps_on_grid", "u at s", 1.0, True),
        (0, {"steps": 7, "computation_s": 5.9}, "steps_on_grid", "u at s", 1.0, True),  # max itself is off the grid
        (0, {"steps": 8, "computation_s": 5.9}, "steps_in_range", "u at s", 1.0, True),
        (0, {"steps": 0}, "steps_in_range", "u at s", 2.0, False),
        (0, {"computation_s": 0.0}, "positive_time", "u at s", 1.0, False),
        (0, {"computation_s": -2.0}, "positive_time", "u at s", 2.0, False),
        (0, {"computation_s": None}, "served_has_steps_and_time", "u at s", 1.0, False),
        (0, {"place": "t"}, "in_reach", "u at t", 1.0, False),
        (2, {"place": "t"}, "hosted", "w at t", 1.0, True),
        (1, {"place": "local"}, "has_device", "v at local", 1.0, False),
        (1, {"place": "rejected", "steps": None, "computation_s": None}, "must_be_served", "v", 1.0, False),
        (0, {"place": "rejected"}, "rejected_runs_nothing", "u", 1.0, True),
        (0, {"place": "moon"}, "known_place", "u at moon", 1.0, False),
        (0, {"user": "x"}, "order_of_users", "u", 1.0, True),
    ],
)
def test_every_kind_of_violation_is_found(instance, solution, index, changes, constraint, where, amount, valued):
    found = check(instance, broken(solution, index, **changes))
    matching = [v for v in found.violations if v.constraint == constraint and v.where == where]
    assert matching, found.violations
    assert matching[0].amount == pytest.approx(amount, rel=1e-6)
    assert (found.objective is not None) == valued


def test_battery_on_the_device_and_of_an_upload(solution):
    data = json.loads(json.dumps(DATA))
    data["users"][0]["battery_j"], data["users"][2]["battery_j"] = 0.75, 0.25
    found = check(OffloadingInstance.from_dict(data), solution)
    amounts = {v.where: v.amount for v in found.violations if v.constraint == "battery"}
    assert amounts == pytest.approx({"u at s": 0.25, "w at local": 0.15})


def test_a_violation_within_tolerance_is_none(instance, solution):
    assert check(instance, broken(solution, 0, computation_s=2.0 - 1e-6)).feasible
    assert not check(instance, broken(solution, 0, computation_s=2.0 - 1e-5)).feasible
    assert check(instance, broken(solution, 0, steps=4.0000005)).feasible


def test_a_missing_task_is_a_violation(instance, solution):
    found = check(instance, OffloadingSolution(solution.tasks[:2]))
    assert not found.feasible and found.objective is None


def test_a_cost_that_overflows_is_no_value(instance, solution):
    found = check(instance, broken(solution, 2, computation_s=1e-300))
    assert found.objective is None and not found.feasible
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("index", "changes", "path"),
    [
        (0, {"user": "v"}, "tasks[0].user"),
        (0, {"place": "moon"}, "tasks[0].place"),
        (0, {"place": ""}, "tasks[0].place"),
        (1, {"steps": None}, "tasks[1].steps"),
        (1, {"computation_s": None}, "tasks[1].computation_s"),
        (1, {"place": "rejected"}, "tasks[1].steps"),
        (1, {"steps": True}, "tasks[1].steps"),
        (1, {"computation_s": float("nan")}, "tasks[1].computation_s"),
        (1, {"extra": 1}, "tasks[1].extra"),
    ],
)
def test_malformed_solutions_are_refused_with_the_place(instance, solution, index, changes, path):
    data = solution.to_dict()
    data["tasks"][index] |= changes
    with pytest.raises(aigc_opt.InputError) as error:
        OffloadingSolution.from_dict(data, instance, "file.json")
    assert any(fault.path == path for fault in error.value.faults), error.value.faults


def test_a_solution_of_the_wrong_length_is_refused(instance, solution):
    data = solution.to_dict()
    for tasks in (data["tasks"][:1], [], None):
        with pytest.raises(aigc_opt.InputError, match="tasks"):
            OffloadingSolution.from_dict({"tasks": tasks}, instance)


def test_solution_file_there_and_back(instance, solution, tmp_path):
    assert OffloadingSolution.from_dict(solution.to_dict(), instance) == solution
    frame = solution.to_frame(instance)
    assert frame.loc["u", ["ghz", "delay_s", "energy_j"]].tolist() == pytest.approx([3, 6, 1])


def test_a_result_file_is_checked_with_its_own_numbers(examples, tmp_path):
    path = examples / "offloading-medium.json"
    result = aigc_opt.solve(path)
    result.save(tmp_path / "result.json")
    assert aigc_opt.check(path, tmp_path / "result.json").feasible
    data = json.loads((tmp_path / "result.json").read_text())
    data["lower_bound"] = data["objective"] * (1 + 1e-4)
    data["terms"]["delay"] += 0.1
    (tmp_path / "result.json").write_text(json.dumps(data))
    where = {v.where for v in aigc_opt.check(path, tmp_path / "result.json").violations}
    assert where == {"lower_bound", "terms.delay"}
    assert aigc_opt.load_result(tmp_path / "result.json", path).solution == result.solution
