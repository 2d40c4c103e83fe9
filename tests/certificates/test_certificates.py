"""Certificates: exact bounds below enumerated optima, close to the float bounds, and no claim beyond the proof."""

from __future__ import annotations

import copy
import json
from fractions import Fraction

import pytest

import aigc_opt
from aigc_opt.certificates import check_certificate
from aigc_opt.certificates.curves import cheapest, quality
from aigc_opt.certificates.deployment import evaluate, fits_together
from aigc_opt.certificates.rationals import cbrt_below, double_below, exp, floor_to, ln, sqrt_below
from aigc_opt.cli import main
from aigc_opt.problems.deployment.arrays import DeploymentProgram
from aigc_opt.problems.deployment.costs import Costs
from aigc_opt.solvers import Highs
from aigc_opt.tradeoffs.front import weighted
from tests.deployment import tiny as deployment
from tests.offloading import tiny as offloading
from tests.two_timescale import tiny as two_timescale

TINY = [
    *((deployment, "relaxation", seed) for seed in range(2)),
    (deployment, "lagrangian", 2),
    *((deployment, "benders", seed) for seed in range(3, 7)),
    *((offloading, "lagrangian", seed) for seed in range(6)),
    *((two_timescale, "lagrangian", seed) for seed in range(4)),
    *((two_timescale, "benders", seed) for seed in range(4, 7)),
]


@pytest.mark.parametrize(("problem", "kind", "seed"), TINY)
def test_no_certified_bound_is_above_the_optimum(problem, kind, seed):
    instance = problem.tiny(seed)
    optimum, certificate = problem.optimum(instance), aigc_opt.certify(instance, kind, time_limit=2)
    if optimum is None:
        return  # infeasible: whatever is said holds for every point
    assert certificate.lower_bound <= certificate.bound
    assert certificate.lower_bound <= optimum + 1e-9 * max(1.0, abs(optimum))
    assert certificate.lower_bound >= optimum - 0.6 * max(1.0, abs(optimum))  # and it is not just anything


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("deployment-small", "relaxation"), ("deployment-initial", "relaxation"), ("offloading-medium", None),
        ("two-timescale-switching", None), ("two-timescale-smooth", None),
    ],
)  # fmt: skip
def test_exact_and_float_agree(examples, optima, name, kind):
    certificate = aigc_opt.certify(examples / f"{name}.json", kind)
    floating = aigc_opt.bound(examples / f"{name}.json").lower_bound
    assert certificate.lower_bound <= optima[name] * (1 + 1e-9)
    assert certificate.lower_bound == pytest.approx(floating, rel=2e-3)  # other multipliers: near, not equal


def test_prices_of_costs_of_extreme_size_are_in_the_files_unit(examples):
    """Solved in another unit, certified in the file's: the same numbers times a power of 2."""
    instance = aigc_opt.load(examples / "offloading-small.json")
    dearer = weighted(instance, dict.fromkeys(("quality", "delay", "energy", "rejection"), 2.0**40))
    assert aigc_opt.certify(dearer).lower_bound == 2.0**40 * aigc_opt.certify(instance).lower_bound


@pytest.mark.parametrize("name", ["small", "initial", "medium"])
def test_benders_of_deployment_proves_what_its_linear_master_does(examples, name):
    """The master ends within 1e-4 of the linear relaxation's value; averaged prices lose none of it."""
    instance = aigc_opt.load(examples / f"deployment-{name}.json")
    relaxation = Highs(DeploymentProgram(instance).program.relaxed()).solve().objective
    certificate = aigc_opt.certify(instance, "benders")
    assert relaxation * (1 - 2e-4) <= certificate.lower_bound <= relaxation * (1 + 1e-6)
    rest = {key: 0 * instance.arrivals.sum(axis=2) for key in ("storage_gb", "gpu_memory_gb")}
    worse = certificate.multipliers | {key: prices.tolist() for key, prices in rest.items()}
    assert float(evaluate(instance.to_dict(), worse)) < certificate.lower_bound  # room has a price in it


def test_benders_of_deployment_without_a_master_proves_its_floor(examples):
    """Every request its cheapest way: what is proven where the cloud is that, and where there is no time."""
    instance = aigc_opt.load(examples / "deployment-small.json")
    floor = float((instance.arrivals * Costs.of(instance).serve.min(axis=2)).sum())
    assert aigc_opt.certify(instance, "benders", time_limit=1e-9).lower_bound == pytest.approx(floor, rel=1e-9)
    far = instance.to_dict() | {"cloud_delay_s": [0 for _ in instance.models]}
    assert aigc_opt.certify(type(instance).from_dict(far), "benders").lower_bound == 0.0


def test_lagrangian_value_is_the_float_one(examples):
    from aigc_opt.problems.deployment.prices import Prices, Relaxation

    instance = aigc_opt.load(examples / "deployment-small.json")
    certificate = aigc_opt.certify(instance, "lagrangian", time_limit=0.5)
    names = ("demand", "gpu_s", "energy_j", "storage_gb", "gpu_memory_gb")
    import numpy as np

    prices = Prices(*(np.array(certificate.multipliers[name]) for name in names))
    floating = Relaxation(instance, Costs.of(instance)).evaluate(prices, 1.0).value
    assert floating <= certificate.lower_bound * (1 + 1e-15)
    assert certificate.lower_bound == pytest.approx(floating, rel=1e-9)


@pytest.fixture(scope="module")
def saved(tmp_path_factory, examples):
    folder, found = tmp_path_factory.mktemp("certificates"), {}
    for name in ("deployment-small", "offloading-small", "two-timescale-switching"):
        path = folder / f"{name}.certificate.json"
        aigc_opt.certify(examples / f"{name}.json").save(path)
        found[name] = examples / f"{name}.json", path
    return found


def written(path, data):
    changed = path.with_name("changed.json")
    changed.write_text(json.dumps(data))
    return changed


def test_claims_are_accepted_as_made_and_refused_when_raised(saved, capsys):
    for instance, path in saved.values():
        assert main(["check", str(instance), str(path)]) == 0
        assert "accepted" in capsys.readouterr().out
        data = json.loads(path.read_text())
        bound = Fraction(data["bound"])
        raised = bound + abs(bound) / 10**9
        assert main(["check", str(instance), str(written(path, data | {"bound": str(raised)}))]) == 1
        assert capsys.readouterr().out.startswith("refused: ")
        double = data["lower_bound"] * (1 + 1e-9)
        assert not check_certificate(instance, written(path, data | {"lower_bound": double})).accepted


def first(values, value):
    """Put `value` in the place of the first number of nested lists."""
    changed = copy.deepcopy(values)
    place = changed
    while isinstance(place[0], list):
        place = place[0]
    place[0] = value
    return changed


def test_what_is_no_certificate_is_refused_in_one_line(saved, examples, capsys):
    key = {"deployment-small": "gpu_memory_gb", "offloading-small": "ghz", "two-timescale-switching": "steps"}
    for name, (instance, path) in saved.items():
        data = json.loads(path.read_text())
        at, multipliers = key[name], data["multipliers"]
        bad = [
            {"multipliers": multipliers | {at: first(multipliers[at], -1.0)}},
            {"multipliers": multipliers | {at: first(multipliers[at], float("nan"))}},
            {"multipliers": multipliers | {at: first(multipliers[at], 10**400)}},
            {"multipliers": multipliers | {at: first(multipliers[at], 1e200)}},
            {"multipliers": multipliers | {at: multipliers[at][:-1]}},
            {"multipliers": multipliers | {"more": 1}},
            {"multipliers": [1]}, {"bound": "9" * 400}, {"bound": "-" + "9" * 400},
            {"bound": "1/0"}, {"bound": 3.5}, {"bound": "9" * 5000}, {"kind": "word"}, {"version": 2},
            {"lower_bound": None}, {"instance": data["instance"] | {"sha256": "0" * 64}},
        ]  # fmt: skip
        for change in bad:
            assert main(["check", str(instance), str(written(path, data | change))]) == 2, change
            error = capsys.readouterr().err
            assert error.startswith("aigc-opt: ") and error.count("\n") == 1, error


def test_an_inequality_that_cuts_off_a_placement_is_refused(saved):
    instance, path = saved["deployment-small"]
    data = json.loads(path.read_text())
    models, slots = len(data["multipliers"]["demand"][0][0]), len(data["multipliers"]["demand"])
    row = {"of": "gpu_memory", "server": 0, "weights": [1] * models, "limit": 0, "prices": [1e6] * slots}
    data["multipliers"]["inequalities"].append(row)
    with pytest.raises(aigc_opt.InputError, match="does not hold"):
        check_certificate(instance, written(path, data))
    sizes = [Fraction(2), Fraction(3), Fraction(4)]
    assert fits_together(sizes, Fraction(6), [1, 1, 1], 2) and not fits_together(sizes, Fraction(9), [1, 1, 1], 2)
    assert fits_together(sizes, Fraction(5), [2, 3, 4], 5) and not fits_together(sizes, Fraction(5), [2, 3, 4], 4)


def test_command_line_writes_both_files(tmp_path, examples, capsys):
    result = tmp_path / "r.json"
    assert main(["bound", str(examples / "offloading-small.json"), "--certify", "exact", "-o", str(result)]) == 0
    assert "certified exactly: " in capsys.readouterr().err
    assert "certificate" in json.loads(result.read_text())  # the result's own key, as ever
    assert main(["check", str(examples / "offloading-small.json"), str(tmp_path / "r.certificate.json")]) == 0


def test_rounding_goes_the_right_way():
    for text in ("2", "1/3", "12345678901234567890/7", "1/99999999999999999999999"):
        value = Fraction(text)
        root, cube = sqrt_below(value), cbrt_below(value)
        tiny = Fraction(1, 2**200)
        assert root**2 <= value < (root * (1 + tiny)) ** 2 and cube**3 <= value < (cube * (1 + tiny)) ** 3
        assert floor_to(value, 20) <= value < floor_to(value, 20) * (1 + Fraction(1, 2**18))
        assert floor_to(-value, 20) <= -value and Fraction(double_below(-value)) <= -value
        low, high = exp(ln((value, value)))
        assert low <= value <= high and high - low < value / 10**60
    assert ln((Fraction(1), Fraction(1))) == (0, 0)


def test_smooth_curves_lie_above_what_is_said():
    for curve in (
        {"kind": "exponential", "floor": 1.0, "ceiling": 9.0, "scale": 20.0},
        {"kind": "power", "floor": 0.5, "coefficient": 30.0, "exponent": 0.7},
    ):
        for slope in (Fraction(-1, 50), Fraction(0), Fraction(1, 100), Fraction(1, 3), Fraction(50)):
            low = cheapest(curve, Fraction(2), slope, Fraction(1), Fraction(100))
            grid = [1 + Fraction(99 * k, 600) for k in range(601)]
            least = min(slope * s + 2 * quality(curve, s)[1] for s in grid)
            assert low <= least <= low + Fraction(1, 100)
