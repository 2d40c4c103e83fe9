"""Strange inputs behave: nothing, nothing fits, no limit, no time, too much of everything."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

import aigc_opt
from aigc_opt import control
from aigc_opt.instance.deployment import DeploymentInstance
from aigc_opt.instance.generate import generate_deployment
from aigc_opt.problems.deployment import PROBLEM
from aigc_opt.problems.deployment.arrays import number_of_columns
from tests.deployment.test_check import DATA
from tests.deployment.tiny import optimum


def changed(**values) -> DeploymentInstance:
    data = json.loads(json.dumps(DATA)) | values
    return DeploymentInstance.from_dict(data)


def servers(**values) -> list[dict]:
    return [server | values for server in DATA["servers"]]


STRANGE = {
    "nothing arrives": changed(arrivals=np.zeros((2, 2, 2)).tolist()),
    "one slot": changed(arrivals=DATA["arrivals"][:1]),
    "one server": changed(
        servers=DATA["servers"][:1], peer_delay_s=None, arrivals=[[row[0]] for row in DATA["arrivals"]]
    ),
    "no storage": changed(servers=servers(storage_gb=0)),
    "no GPU memory": changed(servers=servers(gpu_memory_gb=0)),
    "no room at all": changed(servers=servers(storage_gb=0, gpu_memory_gb=0)),
    "models larger than every server": changed(servers=servers(storage_gb=1, gpu_memory_gb=1)),
    "no GPU-seconds": changed(servers=servers(gpu_s=0)),
    "no joules": changed(servers=servers(energy_j=0)),
    "too few joules to load": changed(servers=servers(energy_j=9.99)),
    "generation takes no time": changed(
        models=[m | {"latency": {"base_s": 0, "per_step_s": 0}} for m in DATA["models"]], servers=servers(gpu_s=0)
    ),
    "nobody shares": changed(peer_delay_s=None),
    "initial state does not fit": changed(
        servers=servers(storage_gb=3, gpu_memory_gb=2),
        initial={"stored": [[1, 1], [1, 1]], "loaded": [[1, 1], [1, 1]]},
    ),
    "all weights 0": changed(weights={"delay": 0, "switching": 0, "storage": 0, "gpu_memory": 0}),
    "the cloud costs nothing": changed(cloud_delay_s=[0, 0]),
    "fractions of requests": changed(arrivals=(np.array(DATA["arrivals"]) * 1e-3 + 1e-5).tolist()),
}


@pytest.mark.parametrize("what", STRANGE)
@pytest.mark.parametrize("method", PROBLEM.methods)
def test_every_method_copes(what, method):
    instance = STRANGE[what]
    result = aigc_opt.solve(instance, method=method, gap=1e-9)
    assert result.status in ("optimal", "feasible")
    assert result.lower_bound <= result.objective
    if method == "exact":
        assert result.objective == pytest.approx(optimum(instance), rel=1e-8, abs=1e-8)
        assert result.status == "optimal"
    json.dumps(result.to_dict(), allow_nan=False)
    assert aigc_opt.check(instance, result).feasible


def test_objective_of_zero_has_a_gap_of_zero():
    result = aigc_opt.solve(STRANGE["all weights 0"])
    assert (result.objective, result.lower_bound, result.gap, result.status) == (0, 0, 0, "optimal")


@pytest.mark.parametrize(("factor", "seconds"), [(1e-7, 1), (1e7, 1), (1, 1e-7), (1, 1e7), (1e6, 1e6)])
def test_huge_ranges_of_magnitude(factor, seconds):
    """Arrivals and delays in other units have the optimum in those units."""
    plain = changed(weights={"delay": 1, "switching": 0, "storage": 0, "gpu_memory": 0})
    data = plain.to_dict()
    data["arrivals"] = (np.array(data["arrivals"]) * factor).tolist()
    data["cloud_delay_s"] = [seconds * value for value in data["cloud_delay_s"]]
    data["peer_delay_s"] = [[value and seconds * value for value in row] for row in data["peer_delay_s"]]
    for model in data["models"]:
        model["latency"] = {key: seconds * value for key, value in model["latency"].items()}
        model["energy"] = {"base_j": 0, "per_step_j": 0}
    for server in data["servers"]:
        server["gpu_s"] = server["gpu_s"] and server["gpu_s"] * factor * seconds
    result = aigc_opt.solve(DeploymentInstance.from_dict(data), gap=1e-6)
    for model in (reference := plain.to_dict())["models"]:
        model["energy"] = {"base_j": 0, "per_step_j": 0}
    expected = optimum(DeploymentInstance.from_dict(reference)) * factor * seconds
    assert result.status == "optimal"
    assert result.objective == pytest.approx(expected, rel=1e-6)


def test_huge_ranges_are_warned_of():
    data = json.loads(json.dumps(DATA))
    data["arrivals"][0][0][0] = 1e12
    with pytest.warns(UserWarning, match="magnitude"):
        aigc_opt.solve(DeploymentInstance.from_dict(data))


def test_numbers_beyond_reckoning_are_refused():
    data = json.loads(json.dumps(DATA))
    data["arrivals"][0][0][0] = 1e200
    data["cloud_delay_s"][0] = 1e200
    with pytest.raises(aigc_opt.InputError, match="overflow"):
        aigc_opt.solve(DeploymentInstance.from_dict(data))


@pytest.mark.parametrize("method", ["exact", "monolith", "lagrangian", "feature-aware"])
def test_what_cannot_fit_into_memory_is_refused_before_it_is_made(method, monkeypatch):
    """One clear line, whatever the method; where it fits nothing is said."""
    instance = generate_deployment(3, 5, 4, seed=1)
    monkeypatch.setattr(control, "available_memory", lambda: 5_000.0)
    with pytest.raises(aigc_opt.InputError, match=r"^balanced-3x5x4-1: needs about .* GB of memory .* available$"):
        aigc_opt.solve(instance, method=method)
    monkeypatch.setattr(control, "available_memory", lambda: 1e9)
    assert aigc_opt.solve(instance, method=method, time_limit=20).objective is not None


def test_the_whole_program_in_a_solver_takes_more(monkeypatch):
    instance = generate_deployment(3, 5, 4, seed=1)
    monkeypatch.setattr(control, "available_memory", lambda: 1_000.0 * number_of_columns(instance))
    assert aigc_opt.solve(instance, method="exact").status == "optimal"
    with pytest.raises(aigc_opt.InputError, match=r"GB of memory for HiGHS to solve .* columns"):
        aigc_opt.solve(instance, method="monolith")


def test_available_memory_is_some():
    assert 1e6 < control.available_memory() < 1e16


def test_a_summary_shows_no_share_of_a_limit_that_is_not_there_or_is_nothing(examples):
    data = json.loads((examples / "deployment-small.json").read_text())
    for server, limit in zip(data["servers"], itertools.cycle((None, 0)), strict=False):
        server["gpu_s"] = limit
    instance = DeploymentInstance.from_dict(data)
    result = aigc_opt.solve(instance, method="cloud-only", bound=False)
    rows = PROBLEM.summary(instance, result.solution).splitlines()[2:]
    assert len(rows) == len(data["servers"]) + 1 and all(row.split()[-1] == "-" for row in rows)
