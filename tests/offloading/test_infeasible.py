"""Infeasible instances are proved and explained, in Python and at the command line."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest

import aigc_opt
from aigc_opt.cli import main
from aigc_opt.control import Control
from aigc_opt.instance.generate_offloading import generate_offloading
from aigc_opt.instance.offloading import OffloadingInstance
from aigc_opt.problems.offloading import PROBLEM
from aigc_opt.problems.offloading.prices import raise_prices
from aigc_opt.problems.offloading.tables import build_tables
from tests.offloading.test_check import DATA
from tests.offloading.test_methods import CERTIFIED, HEURISTICS
from tests.offloading.tiny import optimum


def stopped(**user) -> str:
    """What is said of the task of v, which has no device and must be served, with some of its fields changed."""
    data = json.loads(json.dumps(DATA))
    data["users"][1] |= user
    result = aigc_opt.solve(OffloadingInstance.from_dict(data))
    assert result.status == "infeasible" and result.proof == "enumeration"
    assert result.objective is result.lower_bound is result.solution is None
    return "\n".join(result.reasons)


def test_what_stops_each_place_is_named():
    text = stopped(max_delay_s=2.5)
    assert "task of v, local: no device" in text
    assert "task of v, s: even 2 steps need 8 GHz to meet the deadline, the server has 5 GHz" in text
    assert "task of v, t: the transfers alone take 3 s, the deadline is 2.5 s" in text
    assert "rejected: not allowed" in text
    assert "out of reach" in stopped(max_delay_s=2.5, uplink_mbps=[2, 0])
    assert "the upload takes 0.5 J, the battery holds 0.1 J" in stopped(battery_j=0.1)
    assert "t: does not host a" in stopped(model="a", max_delay_s=2.5)
    assert "with its speed" in stopped(max_delay_s=0.5, device={"max_ghz": 2, "kappa": 0})
    assert "with its battery" in stopped(battery_j=0.01, device={"max_ghz": 20, "kappa": 1})
    assert "the battery holds none" in stopped(battery_j=0, device={"max_ghz": 20, "kappa": 1})


def crowd() -> OffloadingInstance:
    """Three tasks, each possible alone, of which the server can serve two; and one that is in nobody's way."""
    data = generate_offloading(4, 1, seed=1).to_dict()
    for user in data["users"]:
        user.update(
            device=None, rejection_penalty=None, uplink_mbps=[20.0], downlink_mbps=[20.0], max_delay_s=4.0,
            battery_j=50.0, model=data["models"][0]["name"], input_mbit=2.0, output_mbit=2.0,
        )  # fmt: skip
    data["users"][3].update(rejection_penalty=1.0)
    work = data["models"][0]["workload"]
    least = (work["base_gcycles"] + 10 * work["per_step_gcycles"]) / (4.0 - 0.2)
    data["servers"][0].update(ghz=2.5 * least, hosts=None)
    return OffloadingInstance.from_dict(data)


@pytest.mark.parametrize("method", [*CERTIFIED, *HEURISTICS])
def test_tasks_that_do_not_fit_together_are_named(method):
    instance = crowd()
    assert optimum(instance) is None
    result = aigc_opt.solve(instance, method=method)
    assert result.status == "infeasible" and result.proof == "solver"
    for n in (1, 2, 3):
        assert f"user-{n}" in result.reasons[0]
    assert "user-4" not in result.reasons[0]


@pytest.mark.parametrize("method", [*PROBLEM.methods, "bound"])
def test_the_example_ends_with_status_1_and_names_the_task(examples, capsys, method):
    path = str(examples / "offloading-infeasible.json")
    words = ["bound", path] if method == "bound" else ["solve", path, "--method", method]
    assert main([*words, "--quiet"]) == 1
    out = capsys.readouterr().out
    for words in ("task of user-1", "local:", "edge-1: the transfers alone", "edge-2: does not host", "rejected:"):
        assert words in out


def test_with_a_result_file_the_reasons_go_to_standard_error(examples, capsys, tmp_path):
    path = str(examples / "offloading-infeasible.json")
    for target in ("-", str(tmp_path / "result.json")):
        assert main(["solve", path, "--quiet", "-o", target]) == 1
        captured = capsys.readouterr()
        assert "task of user-1, local" in captured.err
        data = json.loads(captured.out if target == "-" else (tmp_path / "result.json").read_text())
        assert data["status"] == "infeasible" and data["objective"] is data["lower_bound"] is data["gap"] is None
        assert data["certificate"] == {"point": "none", "bound": "enumeration"}
        assert "reasons" not in data


def test_a_certificate_or_a_program_of_an_infeasible_instance_warns_of_nothing(examples, capsys, tmp_path):
    path = str(examples / "offloading-infeasible.json")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert aigc_opt.certify(path) is None
        aigc_opt.export(path, tmp_path / "x.mps")
        assert main(["solve", path, "--certify", "exact", "--quiet", "-o", str(tmp_path / "x.json")]) == 1
    assert "no certificate: the instance is infeasible, there is no point to bound\n" in capsys.readouterr().err
    assert not (tmp_path / "x.certificate.json").exists()


def test_prices_bound_what_has_no_point_by_infinity():
    data = json.loads(json.dumps(DATA))
    data["users"][1]["max_delay_s"] = 2.5
    tables = build_tables(OffloadingInstance.from_dict(data))
    mu = np.full(tables.servers, 1e-3)
    with np.errstate(all="raise"):
        raised, value = raise_prices(tables, mu, Control())
    assert value == np.inf and np.array_equal(raised, mu)
