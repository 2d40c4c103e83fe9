"""The tables add up to the checker's terms, and prices are what more of anything saves."""

from __future__ import annotations

import numpy as np
import pytest

import aigc_opt
from aigc_opt.cli import main
from aigc_opt.instance.two_timescale import TwoTimescaleInstance
from aigc_opt.problems.two_timescale.reports import frame_report, price_report, request_report
from tests.two_timescale.tiny import tiny


@pytest.mark.parametrize("seed", range(8))
def test_tables_add_up_to_the_terms(seed):
    instance = tiny(seed)
    result = aigc_opt.solve(instance)
    table, frames = request_report(instance, result.solution), frame_report(instance, result.solution)
    number = result.solution.steps[:, :, 0].size
    delay = table[["uplink_s", "downlink_s", "backhaul_s", "generation_s"]].to_numpy().sum()
    assert instance.weights.delay * delay / number == pytest.approx(result.terms["delay"], rel=1e-9)
    assert instance.weights.quality * table["loss"].sum() / number == pytest.approx(result.terms["quality"], rel=1e-9)
    assert frames["requests"].sum() == len(table) == (instance.requests.model >= 0).sum()
    assert frames["at_edge"].sum() == table["at_edge"].sum()
    assert (frames[["uplink_used", "downlink_used"]].to_numpy() <= 1 + 1e-9).all()
    assert (frames["steps_used"].dropna() <= 1 + 1e-9).all()
    cached, asked = np.round(result.solution.cached), instance.requests.model
    for t, row in enumerate(frames.itertuples()):
        hits = [cached[t, m] for m in asked[t].ravel().tolist() if m >= 0]
        assert row.requests == len(hits) and (not hits or row.hit_ratio == pytest.approx(np.mean(hits)))
        assert row.loss == pytest.approx(table["loss"].loc[[t + 1]].mean()) if hits else np.isnan(row.loss)
        shares = result.solution.uplink_share[t].sum() / len(asked[t])
        assert row.uplink_used == pytest.approx(shares)
    prices = price_report(instance, result.solution)
    assert prices.shape == (len(result.solution.cached), 4) and (prices.to_numpy() >= 0).all()


def test_prices_are_what_a_little_more_saves(examples):
    """On smooth curves, where a slot's dual is exact, and with so much storage that it has no price."""
    data = aigc_opt.load(examples / "two-timescale-smooth.json").to_dict()
    data["edge"]["storage_gb"] = 1e9
    instance = TwoTimescaleInstance.from_dict(data)
    result = aigc_opt.solve(instance, gap=1e-10)
    prices = price_report(instance, result.solution).sum()
    for field, name in (("steps_per_slot", "steps"), ("uplink_mhz", "uplink"), ("downlink_mhz", "downlink")):
        more = dict(data["edge"])
        more[field] *= 1 + 1e-4
        other = aigc_opt.solve(TwoTimescaleInstance.from_dict(data | {"edge": more}), gap=1e-10)
        saved = (result.objective - other.objective) / (1e-4 * data["edge"][field])
        assert saved == pytest.approx(prices[name], rel=2e-3, abs=1e-9), name
    assert prices["storage"] == 0


def test_storage_has_a_price_where_it_is_short(examples):
    path = examples / "two-timescale-small.json"
    result = aigc_opt.solve(path)
    assert (price_report(aigc_opt.load(path), result.solution)["storage"] > 0).all()


def test_summary_on_the_command_line(examples, capsys):
    assert main(["solve", str(examples / "two-timescale-switching.json"), "--quiet"]) == 0
    text = capsys.readouterr().out
    for word in ("optimal", "hit_ratio", "switching", "steps_used", "enumeration"):
        assert word in text
    assert main(["bound", str(examples / "two-timescale-switching.json"), "--quiet"]) == 0
    assert "bound_only" in capsys.readouterr().out


def test_a_frame_without_requests_has_no_means():
    instance = tiny(3)
    data = instance.to_dict()
    requests = {key: np.array(value, object) for key, value in data["requests"].items()}
    requests["model"][:] = None
    data["requests"] = {key: value.tolist() for key, value in requests.items()}
    instance = TwoTimescaleInstance.from_dict(data)
    result = aigc_opt.solve(instance)
    report = frame_report(instance, result.solution)
    assert report["hit_ratio"].isna().all() and report["requests"].sum() == 0
