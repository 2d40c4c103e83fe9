"""Profiles from measurements: known curves come back, bad files are refused by line, profiles stand in instances."""

from __future__ import annotations

import importlib.util
import json
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import aigc_opt
from aigc_opt.cli import main
from aigc_opt.instance.fit import POOR_R2, fit
from aigc_opt.instance.measurements import Measurements, read_measurements
from tests.conftest import ROOT

STEPS = np.array([1, 2, 5, 10, 20, 30, 40, 50, 60, 70, 80, 100, 120, 140, 150, 160, 180, 200.0])
CURVES = {
    "piecewise_linear": lambda s: np.interp(s, [50.1, 157.4], [100, 30]),
    "exponential": lambda s: 20 + 80 * np.exp(-s / 25),
    "power": lambda s: 5 + 70 * s**-0.7,
}


def measured(curve, noise=0.0, samples=1, seed=0) -> Measurements:
    steps = np.repeat(STEPS, samples)
    random = np.random.default_rng(seed)
    return Measurements(steps, curve(steps) + noise * random.normal(size=len(steps)), 0.7 + 0.03 * steps)


def csv_of(data: Measurements) -> str:
    rows = zip(data.steps, data.quality_loss, data.latency_s, strict=True)
    return "steps,quality_loss,latency_s\n" + "".join(f"{s:g},{q:.17g},{t:.17g}\n" for s, q, t in rows)


@pytest.mark.parametrize("kind", CURVES)
def test_auto_finds_kind_and_numbers(kind):
    found = fit(measured(CURVES[kind]))
    assert found.quality.kind == kind
    assert found.quality.value(STEPS) == pytest.approx(CURVES[kind](STEPS), rel=1e-5)
    assert found.r2 == pytest.approx({"quality": 1.0, "latency": 1.0})
    assert (found.latency.base_s, found.latency.per_step_s) == pytest.approx((0.7, 0.03))
    assert found.warnings == () and found.energy is None
    if kind == "piecewise_linear":
        assert found.quality.points == pytest.approx(np.array([[50.1, 100], [157.4, 30]]), rel=1e-4)


@pytest.mark.parametrize("kind", CURVES)
@pytest.mark.parametrize("seed", range(3))
def test_auto_finds_the_kind_under_noise(kind, seed):
    found = fit(measured(CURVES[kind], noise=1.0, samples=5, seed=seed))
    assert found.quality.kind == kind
    assert abs(found.quality.value(STEPS) - CURVES[kind](STEPS)).max() < 2.5


def test_breakpoints_inside_a_curve_are_found():
    knots, loss = [5.0, 20.0, 60.0, 150.0], [100.0, 40.0, 35.0, 5.0]
    steps = np.arange(1.0, 201.0, 3)
    found = fit(Measurements(steps, np.interp(steps, knots, loss), steps), "piecewise_linear")
    assert found.quality.points == pytest.approx(np.array([knots, loss]).T, rel=1e-4)


def test_least_squares_is_least():
    """No nearby curve of the kind has a smaller sum of squares."""
    data = measured(CURVES["exponential"], noise=3.0, samples=3)
    random = np.random.default_rng(1)
    for kind in CURVES:
        curve = fit(data, kind).quality
        own = ((data.quality_loss - curve.value(data.steps)) ** 2).sum()
        for _ in range(300):
            changed = curve.model_dump(mode="json")
            if kind == "piecewise_linear":
                changed["points"] = np.array(curve.points) * (1 + 3e-3 * random.normal(size=(len(curve.points), 2)))
                if (np.diff(changed["points"][:, 0]) <= 0).any() or (np.diff(changed["points"][:, 1]) > 0).any():
                    continue
                changed["points"] = changed["points"].tolist()
            else:
                changed |= {k: v * (1 + 3e-3 * random.normal()) for k, v in changed.items() if k != "kind"}
            other = type(curve)(**changed).value(data.steps)
            assert ((data.quality_loss - other) ** 2).sum() >= own * (1 - 1e-7)


@given(
    st.lists(
        st.tuples(st.floats(0, 300), st.floats(-50, 50), st.floats(0, 10), st.floats(0, 10)), min_size=1, max_size=40
    ),
    st.sampled_from(["auto", "piecewise_linear", "exponential", "power"]),
)
def test_whatever_is_measured_the_curve_never_rises(rows, kind):
    data = Measurements(*np.array(rows).T)
    try:
        found = fit(data, kind)
    except aigc_opt.InputError:
        assert kind in ("exponential", "power")
        return
    grid = np.linspace(max(data.steps.min(), 1e-9), data.steps.max() + 1, 200)
    loss = found.quality.value(grid)
    assert np.isfinite(loss).all() and (np.diff(loss) <= 1e-6).all()
    for name in found.r2:
        assert found.r2[name] <= 1 + 1e-12
    if kind == "auto":
        assert found.bic[found.quality.kind] == min(found.bic.values())
    json.dumps(found.to_dict(), allow_nan=False)


def test_poor_fits_are_said_to_be_poor():
    random = np.random.default_rng(0)
    data = Measurements(STEPS, random.normal(size=len(STEPS)), random.random(len(STEPS)))
    found = fit(data)
    assert found.r2["quality"] < POOR_R2 and found.r2["latency"] < POOR_R2
    assert any("quality" in line and "poor" in line for line in found.warnings)
    assert any("latency" in line and "poor" in line for line in found.warnings)
    misses = fit(measured(CURVES["piecewise_linear"]), "exponential").warnings
    assert any("at 50 steps" in line for line in misses)


def test_r2_is_the_plain_formula():
    data = measured(CURVES["power"], noise=4.0, samples=4)
    found = fit(data, "exponential")
    q = data.quality_loss
    sse = sum((a - b) ** 2 for a, b in zip(q, found.quality.value(data.steps), strict=True))
    assert found.r2["quality"] == pytest.approx(1 - sse / sum((q - q.mean()) ** 2), rel=1e-12)


def test_few_step_counts():
    one = fit(Measurements(np.array([50.0, 50.0]), np.array([3.0, 5.0]), np.array([1.0, 1.0])))
    assert one.quality.points.tolist() == [[50.0, 4.0]] and one.warnings
    two = fit(Measurements(np.array([10.0, 20.0]), np.array([3.0, 2.0]), np.array([1.0, 2.0])))
    assert two.quality.points == pytest.approx(np.array([[10, 3], [20, 2]]))
    with pytest.raises(aigc_opt.InputError, match="at least 3 step counts, got 2"):
        fit(Measurements(np.array([10.0, 20.0]), np.array([3.0, 2.0]), np.array([1.0, 2.0])), "exponential")
    with pytest.raises(aigc_opt.InputError, match="no value below 1 step"):
        fit(Measurements(STEPS - 1, 1 / (1 + STEPS), STEPS), "power")


@pytest.mark.parametrize("example", ["two-timescale-small", "offloading-small"])
@pytest.mark.parametrize("kind", CURVES)
def test_the_profile_stands_in_an_instance(tmp_path, examples, example, kind, capsys):
    table, profile, path = tmp_path / "m.csv", tmp_path / "profile.json", tmp_path / "instance.json"
    table.write_text(csv_of(measured(CURVES[kind], noise=0.5, samples=3)))
    assert main(["fit", str(table), "--quality", kind, "-o", str(profile)]) == 0
    made = json.loads(profile.read_text())
    assert list(made) == ["quality", "latency", "energy", "fit"]
    assert set(made["fit"]) >= {"r2", "n"} and made["energy"] is None
    data = json.loads((examples / f"{example}.json").read_text())
    data["models"][0] |= {"quality": made["quality"], "latency": made["latency"]}
    path.write_text(json.dumps(data))
    result = aigc_opt.solve(aigc_opt.load(path))
    assert result.status == "optimal" and result.gap <= 1e-4
    assert aigc_opt.check(path, result.solution).feasible


def test_energy_and_standard_output(tmp_path, capsys):
    path = tmp_path / "m.csv"
    path.write_bytes(
        b"\xef\xbb\xbfenergy_j,steps,quality_loss,latency_s\r\n"
        + b"".join(b"%g,%g,%g,%g\r\n" % (2 + 3 * s, s, 50 - s / 10, s) for s in STEPS)
        + b"\r\n"
    )
    assert main(["fit", str(path), "-o", "-"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["energy"] == pytest.approx({"base_j": 2.0, "per_step_j": 3.0})
    assert made["fit"]["r2"]["energy"] == pytest.approx(1.0) and made["fit"]["n"] == len(STEPS)
    assert main(["fit", str(path)]) == 0
    out = capsys.readouterr().out
    assert "quality  R^2" in out and "joules" in out and "BIC" in out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ["line 1: column steps is missing"]),
        ("steps,quality_loss\n1,2\n", ["line 1: column latency_s is missing"]),
        ("steps,quality_loss,latency_s,watts\n1,2,3,4\n", ["line 1: unknown column 'watts'"]),
        ("steps,quality_loss,latency_s,steps\n1,2,3,4\n", ["line 1: column steps stands more than once"]),
        ("steps,quality_loss,latency_s\n", ["no rows"]),
        ("steps,quality_loss,latency_s\n1,2\n1,2,3\n", ["line 2: must have 3 values, got 2"]),
        ("steps,quality_loss,latency_s\n1,2,3\n\n1,x,3\n", ["line 4: quality_loss must be a finite number, got 'x'"]),
        ("steps,quality_loss,latency_s\n1,nan,inf\n", ["quality_loss must be a finite", "latency_s must be a finite"]),
        ("steps,quality_loss,latency_s\n-1,2,-3\n1_0,1,1\n", ["line 2: steps must be >= 0", "line 3: steps"]),
        ('steps,quality_loss,latency_s\n1,"2,3\n', ["line 2: is not CSV"]),
        ("steps,quality_loss,latency_s\n" + "1,2,\n" * 100, ["line 21", "80 more faults"]),
        ("steps,quality_loss,latency_s\n1,1e300,1\n2,-1e300,1\n", ["beyond 1e+100"]),
    ],
)
def test_bad_files_are_refused_by_line(tmp_path, capsys, text, said):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    assert main(["fit", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "Traceback" not in err
    assert all(line.startswith(f"aigc-opt: {path}: ") for line in err.splitlines())
    for words in said:
        assert words in err


def test_bad_calls(tmp_path, capsys):
    path = tmp_path / "m.csv"
    path.write_text(csv_of(measured(CURVES["power"])))
    assert main(["fit", str(path), "--quality", "spline"]) == 2
    assert (
        "--quality must be one of auto, piecewise_linear, exponential, power, got 'spline'" in capsys.readouterr().err
    )
    assert main(["fit", str(tmp_path / "none.csv")]) == 2
    assert "there is no such file" in capsys.readouterr().err
    path.write_bytes(b"\xff\xfe")
    assert main(["fit", str(path)]) == 2
    assert "is not UTF-8" in capsys.readouterr().err


def test_picture(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    from aigc_opt.plot import fitted_curves

    path, picture = tmp_path / "m.csv", tmp_path / "fit.png"
    data = measured(CURVES["power"], noise=1.0, samples=3)
    path.write_text(csv_of(data))
    assert main(["fit", str(path), "--plot", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    axes = fitted_curves(fit(data), read_measurements(path))
    residual = axes[1, 0].lines[1].get_ydata()
    assert residual == pytest.approx(data.quality_loss - fit(data).quality.value(data.steps))
    assert main(["fit", str(path), "--plot", str(tmp_path / "fit.xyz")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_the_digits_are_measured_and_fitted(tmp_path, monkeypatch, capsys):
    """The whole experiment, too short to be good; that more steps are better is left to the committed tables."""
    path = ROOT / "instances" / "measure_digits.py"
    spec = importlib.util.spec_from_file_location("measure_digits", path)
    digits = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(digits)
    small = {"TRAINING": 100, "BATCH": 64, "WIDTH": 64, "SAMPLES": 80, "REPETITIONS": 1, "TIMED": 1, "ROUNDS": 5}
    for name, value in small.items():
        monkeypatch.setattr(digits, name, value)
    monkeypatch.setattr(digits, "COUNTS", (1, 5, 20, 60))
    kept = digits.schedule()
    assert (kept[1:] < kept[:-1]).all() and kept[0] > 0.99 and kept[-1] < 1e-3
    same = np.random.default_rng(0).normal(size=(500, 3))
    assert digits.frechet(same, same) == pytest.approx(0.0, abs=1e-6)
    assert digits.frechet(same + np.array([2.0, 0, 0]), same) == pytest.approx(
        4.0
    )  # equal covariances: distance of the means
    monkeypatch.setattr("sys.argv", ["measure_digits.py", "-o", str(tmp_path)])
    threads = digits.torch.get_num_threads()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the classifier's early end
        digits.main()
    digits.torch.set_num_threads(threads)
    for name in ("frechet", "total-variation", "error"):
        table = read_measurements(tmp_path / f"digits-{name}.csv")
        assert list(table.steps) == [1, 5, 20, 60]
        assert (table.quality_loss > 0).all() and (np.diff(table.latency_s[[0, -1]]) > 0).all()
        assert main(["fit", str(tmp_path / f"digits-{name}.csv"), "-o", str(tmp_path / f"{name}.json")]) == 0
    committed = read_measurements(ROOT / "instances" / "measurements" / "digits-frechet.csv")
    assert committed.quality_loss[committed.steps >= 100].max() < committed.quality_loss[committed.steps <= 5].min()
