"""Strange inputs behave: nothing asked, nothing fits, no steps, no time, too much of everything."""

from __future__ import annotations

import json

import numpy as np
import pytest

import aigc_opt
from aigc_opt.instance.generate import generate_two_timescale
from aigc_opt.instance.two_timescale import TwoTimescaleInstance
from aigc_opt.problems.two_timescale import PROBLEM, methods
from tests.two_timescale.test_check import DATA, changed, edge
from tests.two_timescale.tiny import optimum

# The others are in the bounds of test_methods; here they run once a release.
METHODS = [
    method if method in ("decomposition", "benders") else pytest.param(method, marks=pytest.mark.long)
    for method in PROBLEM.methods
]

NOBODY = {key: [[[None, None], [None, None]], [[None, None], [None, None]]] for key in DATA["requests"]}


def curve(model: int, **quality) -> list[dict]:
    return [m | ({"quality": quality} if index == model else {}) for index, m in enumerate(DATA["models"])]


STRANGE = {
    "as it is": changed(),
    "nobody asks": changed(requests=NOBODY),
    "no storage": edge(storage_gb=0),
    "room for everything": edge(storage_gb=1000),
    "no steps": edge(steps_per_slot=0),
    "no steps needed": edge(steps_per_slot=0, min_steps=0),
    "steps for one request": edge(steps_per_slot=5),
    "steps for less than one": edge(steps_per_slot=4.999),
    "all take the same steps": edge(min_steps=50, max_steps=50, steps_per_slot=100),
    "all must take too many": edge(min_steps=50, max_steps=50, steps_per_slot=99),
    "more steps than anybody can take": edge(steps_per_slot=1e9),
    "a choice": changed(serve_all_hits=False),
    "a choice without steps": changed(serve_all_hits=False, edge=DATA["edge"] | {"steps_per_slot": 0}),
    "switching costs nothing": changed(weights={"switching": 0}),
    "switching costs everything": changed(weights={"switching": 1e6}),
    "all weights 0": changed(weights={"delay": 0, "quality": 0, "switching": 0}),
    "only quality": changed(weights={"delay": 0, "quality": 1, "switching": 0}),
    "everything is there already": changed(initial_cache=[1, 1]),
    "a flat curve": changed(models=curve(0, kind="piecewise_linear", points=[[10, 5]])),
    "a flat smooth curve": changed(models=curve(1, kind="exponential", floor=5, ceiling=5, scale=1)),
    "a steep smooth curve": changed(models=curve(1, kind="exponential", floor=0, ceiling=100, scale=1e-3)),
    "a power": changed(models=curve(1, kind="power", floor=-50, coefficient=200, exponent=0.5)),
    "gains are negative losses": changed(models=curve(0, kind="piecewise_linear", points=[[10, -1], [40, -90]])),
    "steps cost more than they give": changed(
        models=[m | {"latency": {"base_s": 0, "per_step_s": 100}} for m in DATA["models"]]
    ),
    "the cloud is a thousand miles away": edge(backhaul_mbps=1e-6),
    "two models are one": changed(models=[DATA["models"][0], DATA["models"][0] | {"name": "b"}]),
}  # fmt: skip


@pytest.mark.parametrize("what", STRANGE)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_copes(what, method):
    instance = STRANGE[what]
    least = optimum(instance)
    result = aigc_opt.solve(instance, method=method, gap=1e-7)
    assert result.status in ("optimal", "feasible")
    scale = 1e-7 * max(1.0, abs(least))
    assert result.lower_bound <= least + scale and result.objective >= least - scale
    if method in ("decomposition", "benders"):
        assert result.objective == pytest.approx(least, rel=1e-7, abs=1e-7)
    if method == "decomposition":
        assert result.status == "optimal"
    json.dumps(result.to_dict(), allow_nan=False)
    assert aigc_opt.check(instance, result).feasible


@pytest.mark.parametrize("what", STRANGE)
def test_ways_for_large_episodes_cope(what, monkeypatch):
    monkeypatch.setattr(methods, "ENUMERATED_CACHES", 0)
    instance = STRANGE[what]
    least = optimum(instance)
    result = aigc_opt.solve(instance, gap=1e-7)
    scale = 1e-7 * max(1.0, abs(least))
    assert result.lower_bound <= least + scale and result.objective >= least - scale
    assert result.status == "optimal"


def test_objective_of_zero_has_a_gap_of_zero():
    for instance in (STRANGE["all weights 0"], STRANGE["nobody asks"]):
        result = aigc_opt.solve(instance)
        assert (result.objective, result.lower_bound, result.gap, result.status) == (0, 0, 0, "optimal")


def test_a_transfer_of_nothing_takes_no_share():
    result = aigc_opt.solve(changed())
    assert result.solution.uplink_share[0, 1, 0] == 0  # an input of 0 Mbit
    assert result.solution.downlink_share[0, 1, 0] == pytest.approx(1)


@pytest.mark.parametrize("method", ["decomposition", "benders"])
@pytest.mark.parametrize("factor", [1e-9, 1e-6, 1e6])
def test_other_units_of_cost(factor, method):
    weights = {name: factor * weight for name, weight in DATA["weights"].items()}
    plain, scaled = (aigc_opt.solve(of, method, gap=1e-7) for of in (changed(), changed(weights=weights)))
    assert scaled.status == "optimal" and scaled.objective == pytest.approx(factor * plain.objective, rel=1e-9)


def test_numbers_beyond_reckoning_are_refused():
    with pytest.raises(aigc_opt.InputError, match="overflow"):
        aigc_opt.solve(changed(weights={"delay": 1e300}))


@pytest.mark.parametrize("name", ["uplink_gain", "downlink_gain"])
def test_gains_of_any_size_up_to_what_can_be_reckoned(name):
    """An infinite ratio of signal to noise would make a rate infinite, and a share of nothing."""
    gains = DATA["requests"][name]

    def stronger(times):
        return changed(requests=DATA["requests"] | {name: [[[g and g * times for g in s] for s in f] for f in gains]})

    result = aigc_opt.solve(stronger(1e230))
    assert result.status == "optimal" and np.isfinite(result.objective)
    with pytest.raises(aigc_opt.InputError, match=f"requests.{name}: signal over noise"):
        aigc_opt.solve(stronger(1e290))


@pytest.mark.parametrize(("noise", "words"), [(-3001, ">= -3000"), (1e5, "<= 3000")])
def test_noise_is_a_double_in_watts(noise, words):
    """Without noise every transfer would take no time."""
    with pytest.raises(aigc_opt.InputError, match=f"edge.noise_dbm_per_hz: must be {words}"):
        changed(edge=DATA["edge"] | {"noise_dbm_per_hz": noise})


def test_solutions_of_another_shape_are_refused(tmp_path):
    instance = changed()
    path, wrong = tmp_path / "i.json", tmp_path / "s.json"
    aigc_opt.save(instance, path)
    data = aigc_opt.solve(instance).solution.to_dict()
    data["steps"] = np.array(data["steps"])[:, :1].tolist()
    data["more"] = 1
    wrong.write_text(json.dumps(data))
    with pytest.raises(aigc_opt.InputError) as error:
        aigc_opt.check(path, wrong)
    assert {fault.path.split("[")[0] for fault in error.value.faults} == {"steps", "more"}


def test_a_process_says_what_to_do(examples):
    process = aigc_opt.load(examples / "two-timescale-process.json")
    assert isinstance(process, TwoTimescaleInstance)
    for call in (aigc_opt.solve, aigc_opt.bound):
        with pytest.raises(aigc_opt.InputError, match=r"sample.*evaluate"):
            call(process)


@pytest.mark.parametrize("method", ["decomposition", "benders", "lagrangian", "alternating"])
def test_sizes_that_fill_the_storage_to_the_last_digit(method):
    # 8.2 - 4.55 < 3.65 in floating point, but 4.55 + 3.65 <= 8.2: a bound left out the cache that a point had.
    process = generate_two_timescale(users=2, models=5, frames=3, slots=2, family="roomy", seed=578)
    result = aigc_opt.solve(aigc_opt.sample(process, 578), method=method, gap=1e-7)
    assert {4.55, 3.65} <= {model.storage_gb for model in process.models} and process.edge.storage_gb == 8.2
    assert result.lower_bound <= 57.3432090437
    assert method == "alternating" or result.objective == pytest.approx(57.3432090436, rel=1e-9)
