"""The checker finds every kind of broken solution, and accepts what is right."""

from __future__ import annotations

import json

import numpy as np
import pytest

import aigc_opt
from aigc_opt.cli import main
from aigc_opt.instance.deployment import DeploymentInstance
from aigc_opt.problems.deployment.check import check
from aigc_opt.problems.deployment.solution import DeploymentSolution
from tests.conftest import broken

DATA = {
    "format": "aigc-opt/instance", "version": 1, "problem": "deployment", "name": "by-hand",
    "models": [
        {"name": "a", "storage_gb": 4, "gpu_memory_gb": 3, "warmup_s": 1, "load_j": 10, "nominal_steps": 10,
         "latency": {"base_s": 1, "per_step_s": 0.1}, "energy": {"base_j": 1, "per_step_j": 0.2}},
        {"name": "b", "storage_gb": 2, "gpu_memory_gb": 2, "nominal_steps": 5,
         "latency": {"base_s": 0.5, "per_step_s": 0.1}},
    ],
    "servers": [
        {"name": "s", "storage_gb": 5, "gpu_memory_gb": 4, "cloud_gbps": 8, "io_gb_per_s": 2, "gpu_s": 10,
         "energy_j": 30},
        {"name": "t", "storage_gb": 6, "gpu_memory_gb": 5, "cloud_gbps": 4, "io_gb_per_s": 1},
    ],
    "cloud_delay_s": [9, 7],
    "peer_delay_s": [[0, 0.5], [None, 0]],
    "arrivals": [[[4, 1], [2, 3]], [[3, 0], [0, 6]]],
    "weights": {"delay": 2, "switching": 3, "storage": 5, "gpu_memory": 7},
}  # fmt: skip


@pytest.fixture
def instance() -> DeploymentInstance:
    return DeploymentInstance.from_dict(DATA)


@pytest.fixture
def solution() -> DeploymentSolution:
    """Server s runs a in both slots; t runs a and then b too; s sends one in four of its requests for a to t."""
    stored = np.array([[[1, 0], [1, 0]], [[1, 0], [1, 1]]])
    loaded = np.array([[[1, 0], [1, 0]], [[1, 0], [1, 1]]])
    routing = np.zeros((2, 2, 2, 3))
    routing[..., 2] = 1
    routing[0, 0, 0] = [0.75, 0.25, 0]
    routing[0, 1, 0] = [0, 1, 0]
    routing[1, 0, 0] = [1, 0, 0]
    routing[1, 1, 1] = [0, 1, 0]
    return DeploymentSolution(stored, loaded, routing)


def test_value_by_hand(instance, solution):
    found = check(instance, solution)
    assert found.feasible, found.violations
    # a takes 2 s, b 1 s at the edge. Slot 1: 3 at s (2 s), 1 at t (2.5 s), 1 b of s in the cloud (7 s), 2 a at t (2 s),
    # 3 b of t in the cloud (7 s). Slot 2: 3 a at s (2 s), 6 b at t (1 s).
    delay = 3 * 2 + 1 * 2.5 + 1 * 7 + 2 * 2 + 3 * 7 + 3 * 2 + 6 * 1
    # fetch: 8 c / rate; load: g / io + warm-up. a at s, a at t, then b at t.
    switching = (8 * 4 / 8 + 8 * 4 / 4 + 8 * 2 / 4) + (3 / 2 + 1) + (3 / 1 + 1) + (2 / 1)
    storage = 2 * 4 / 5 + 2 * 4 / 6 + 2 / 6
    gpu_memory = 2 * 3 / 4 + 2 * 3 / 5 + 2 / 5
    expected = {"delay": 2 * delay, "switching": 3 * switching, "storage": 5 * storage, "gpu_memory": 7 * gpu_memory}
    assert found.terms == pytest.approx(expected)
    assert found.objective == pytest.approx(sum(expected.values()))


@pytest.mark.parametrize(
    ("changes", "constraint", "where", "amount"),
    [
        ({"stored": {(0, 0, 0): 0.6}}, "stored_is_binary", "slot 1, server s, model a", 0.4),
        ({"loaded": {(0, 0, 0): 1.00001}}, "loaded_is_binary", "slot 1, server s, model a", 1e-5),
        ({"stored": {(0, 0, 0): 2}}, "stored_is_binary", "slot 1, server s, model a", 1),
        ({"loaded": {(1, 1, 1): -1}}, "loaded_is_binary", "slot 2, server t, model b", 1),
        ({"stored": {(0, 0, 1): 1}}, "storage", "slot 1, server s", 1),
        ({"stored": {(1, 1, 1): 0}}, "on_disk", "slot 2, server t, model b", 1),
        ({"routing": {(0, 0, 0, 2): 0.1}}, "served", "slot 1, server s, model a", 0.1),
        ({"routing": {(1, 1, 0, 2): 0.5}}, "served", "slot 2, server t, model a", 0.5),  # though nothing arrives
        ({"routing": {(0, 1, 1, 1): -0.2, (0, 1, 1, 2): 1.2}}, "routing_is_share", "served by t", 0.2),
        ({"routing": {(1, 1, 0, 0): -0.2, (1, 1, 0, 2): 1.2}}, "routing_is_share", "served by s", 0.2),
        ({"routing": {(0, 0, 0, 0): -0.95e-6, (0, 0, 0, 1): -0.95e-6, (0, 0, 0, 2): 1 + 2.8e-6}},
         "routing_is_share", "served by the cloud", 2.8e-6),
        ({"routing": {(0, 1, 1, 1): 1, (0, 1, 1, 2): 0}}, "only_loaded", "slot 1, server t, model b, served by t", 1),
        ({"routing": {(0, 1, 0, 0): 1, (0, 1, 0, 1): 0}}, "shared", "slot 1, server t, model a, served by s", 1),
    ],
)  # fmt: skip
def test_every_kind_of_violation_is_found(instance, solution, changes, constraint, where, amount):
    found = check(instance, broken(solution, **changes))
    matching = [v for v in found.violations if v.constraint == constraint and where in v.where]
    assert matching, found.violations
    assert matching[0].amount == pytest.approx(amount, rel=1e-6)
    assert not found.feasible


@pytest.mark.parametrize(
    ("server", "constraint", "amount"),
    [
        ({"gpu_memory_gb": 2.5}, "gpu_memory", 0.5),
        ({"storage_gb": 3}, "storage", 1),
        ({"gpu_s": 5}, "gpu_time", 1),
        ({"gpu_s": 0}, "gpu_time", 6),
        ({"energy_j": 18}, "energy", 1),  # slot 1: 3 x 3 J of generation and 10 J of the load
        ({"energy_j": 0}, "energy", 19),
    ],
)
def test_every_capacity_is_checked(solution, server, constraint, amount):
    data = json.loads(json.dumps(DATA))
    data["servers"][0] |= server
    found = check(DeploymentInstance.from_dict(data), solution)
    assert {v.constraint for v in found.violations} == {constraint}
    assert found.violations[0].where == "slot 1, server s"
    assert found.violations[0].amount == pytest.approx(amount)


def test_tolerance_is_relative_to_the_limit(instance, solution):
    def at(limit: float) -> bool:
        data = json.loads(json.dumps(DATA))
        data["servers"][0]["gpu_s"] = limit
        return check(DeploymentInstance.from_dict(data), solution).feasible

    assert at(6 - 5e-6) and not at(6 - 7e-6)  # 6 GPU-seconds are used in slot 1 and 2
    assert check(instance, broken(solution, routing={(0, 0, 0, 2): 9e-7})).feasible
    assert not check(instance, broken(solution, routing={(0, 0, 0, 2): 1.1e-6})).feasible
    near = broken(solution, stored={(0, 0, 0): 1 - 9e-7})
    assert check(instance, near).objective == check(instance, solution).objective  # evaluated at the rounded values


def test_no_value_where_nobody_shares(instance, solution):
    found = check(instance, broken(solution, routing={(0, 1, 0, 0): 1, (0, 1, 0, 1): 0}))
    assert found.objective is None and found.terms is None


def test_initial_state_counts(solution):
    data = json.loads(json.dumps(DATA))
    data["initial"] = {"stored": [[1, 1], [0, 0]], "loaded": [[1, 0], [0, 0]]}
    there = check(DeploymentInstance.from_dict(data), solution)
    from_nothing = check(DeploymentInstance.from_dict(DATA), solution)
    assert there.feasible  # the initial state does not fit the disk, and need not
    assert from_nothing.terms["switching"] - there.terms["switching"] == pytest.approx(3 * (8 * 4 / 8 + 3 / 2 + 1))


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"objective": lambda d: d["objective"] * (1 + 1e-5)}, "objective"),
        ({"objective": lambda d: None}, "objective"),
        ({"lower_bound": lambda d: d["objective"] * (1 + 1e-5)}, "lower_bound"),
        ({"terms": lambda d: d["terms"] | {"delay": d["terms"]["delay"] + 1}}, "terms.delay"),
        ({"terms": lambda d: {k: v for k, v in d["terms"].items() if k != "storage"}}, "terms.storage"),
        ({"terms": lambda d: d["terms"] | {"other": 1.0}}, "terms.other"),
        ({"gap": lambda d: d["gap"] + 1e-5}, "gap"),
        ({"gap": lambda d: None}, "gap"),
        ({"lower_bound": lambda d: None}, "gap"),
        ({"lower_bound": lambda d: None, "gap": lambda d: None}, "status"),
        (
            {
                "lower_bound": lambda d: d["objective"] * (1 - 1e-5),
                "gap": lambda d: 1e-5,
                "gap_tolerance": lambda d: d["gap"] - 1e-8,
            },
            "status",
        ),
        ({"lower_bound": lambda d: d["objective"] * (1 - 2e-4), "gap": lambda d: 2e-4}, "status"),
        ({"status": lambda d: "infeasible"}, "status"),
        ({"status": lambda d: "bound_only"}, "status"),
        ({"status": lambda d: "unknown"}, "status"),
        ({"certificate": lambda d: d["certificate"] | {"point": "none"}}, "certificate.point"),
    ],
)
def test_a_result_that_contradicts_itself(tmp_path, examples, change, where):
    path = examples / "deployment-small.json"
    result = aigc_opt.solve(path)
    data = result.to_dict()
    assert aigc_opt.check(path, result).feasible
    for key, value in change.items():
        data[key] = value(data)
    file = tmp_path / "result.json"
    file.write_text(json.dumps(data))
    found = aigc_opt.check(path, file)
    assert ("record", where) in {(v.constraint, v.where) for v in found.violations}
    assert found.objective == pytest.approx(result.objective)


@pytest.mark.parametrize("missing", [("gap",), ("status",), ("gap_tolerance",), ("gap", "status", "lower_bound")])
def test_what_a_result_does_not_say_is_not_judged(tmp_path, examples, missing):
    path, file = examples / "deployment-small.json", tmp_path / "result.json"
    data = {key: value for key, value in aigc_opt.solve(path).to_dict().items() if key not in missing}
    for claim in ({}, {"status": "feasible"}):  # which claims less than it could
        file.write_text(json.dumps(data | claim))
        assert aigc_opt.check(path, file).feasible


def test_a_bound_a_little_above_its_point_is_told(tmp_path, examples, capsys):
    """By less than the tolerance of points may explain, more than rounding does."""
    path, file = examples / "deployment-small.json", tmp_path / "result.json"
    data = aigc_opt.solve(path).to_dict() | {"gap": 0.0}
    data["lower_bound"] = data["objective"] * (1 + 8e-7)
    file.write_text(json.dumps(data))
    with pytest.warns(UserWarning, match=r"^lower_bound: .* is above the recomputed objective"):
        assert aigc_opt.check(path, file).feasible
    assert main(["check", str(path), str(file)]) == 0
    assert "aigc-opt: warning: lower_bound: " in capsys.readouterr().err
    data["lower_bound"] = data["objective"] * (1 + 1e-12)
    file.write_text(json.dumps(data))
    assert main(["check", str(path), str(file)]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("infeasible", ": it says that no point exists (status infeasible)"),
        ("bound_only", " (status bound_only)"),
        ("unknown", " (status unknown)"),
        ("optimal", ""),
    ],
)
def test_a_result_without_a_point_has_nothing_to_check(tmp_path, examples, capsys, status, words):
    path, file = examples / "deployment-small.json", tmp_path / "result.json"
    file.write_text(json.dumps(aigc_opt.bound(path).to_dict() | {"status": status}))
    assert main(["check", str(path), str(file)]) == 2
    assert capsys.readouterr().err == f"aigc-opt: {file}: solution: this result has no solution to check{words}\n"
