"""Every picture beside a baseline image; ``python -m tests.plot.test_pictures`` writes the baselines anew.

The data are made by hand, so that only the drawing is compared: root mean square of the pixels' differences, which
another version of matplotlib or FreeType moves a little, and another picture a lot.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402
from matplotlib.testing.compare import compare_images  # noqa: E402

from aigc_opt import fit, plot  # noqa: E402
from aigc_opt.instance.measurements import Measurements  # noqa: E402
from aigc_opt.problems.deployment.solution import DeploymentSolution  # noqa: E402
from aigc_opt.problems.offloading.solution import Assignment, OffloadingSolution  # noqa: E402
from aigc_opt.problems.two_timescale.solution import TwoTimescaleSolution  # noqa: E402
from aigc_opt.tradeoffs.front import Front, Solved  # noqa: E402

BASELINE = Path(__file__).parent / "baseline"
TOLERANCE = 12.0


def two_timescale(cached=((1, 0, 1), (1, 1, 0), (0, 1, 0))):
    steps = np.zeros((3, 1, 4))
    steps[0, 0] = [100, 0, 50, 150]
    share = np.full((3, 1, 4), 0.25)
    at_edge = (steps > 0).astype(int)
    return TwoTimescaleSolution(np.array(cached), at_edge, steps, share, share[..., ::-1] * [0.5, 1.5, 1.2, 0.8])


def front():
    rows = (((1, 0), 0, (0, 4)), ((0, 1), 0, (4, 0)), ((0.5, 0.5), 1, (1, 1)), ((0.25, 0.75), 0.75, (2, 0.6)))
    return Front(("delay", "quality"), tuple(Solved(w, bound, point, None) for w, bound, point in rows), 0.0)


def draw_front():
    return plot.front(front())


def draw_convergence():
    moments = ((0.1, None, 2.0), (0.5, 10.0, 4.0), (1.0, 6.0, 4.0), (2.0, 6.0, 5.9))
    rows = [dict(elapsed_s=s, objective=up, lower_bound=low, event="") for s, up, low in moments]
    return plot.convergence({"trace": rows, "runtime_s": 2.5, "instance": {"name": "a $ b"}, "method": "exact"})


def draw_cache_timeline():
    return plot.cache_timeline(two_timescale())


def draw_deployment_timeline():
    stored = np.array([[[1, 1, 0]], [[1, 1, 0]], [[0, 1, 1]], [[0, 1, 1]]])
    loaded = np.array([[[1, 0, 0]], [[1, 1, 0]], [[0, 1, 0]], [[0, 0, 1]]])
    return plot.deployment_timeline(DeploymentSolution(stored, loaded, np.zeros((4, 1, 3, 2))))


def draw_slot():
    return plot.slot(two_timescale())


def draw_offloading_map():
    users = [SimpleNamespace(name=f"user-{n}") for n in range(1, 6)]
    servers = [SimpleNamespace(name="site-1"), SimpleNamespace(name="site-2")]
    places = ("site-1", "site-1", "local", "rejected", "site-2")
    tasks = tuple(Assignment(user.name, place, 1.0, 1.0) for user, place in zip(users, places, strict=True))
    at = {f"user-{n}": (-37.81 + 0.001 * n, 144.96 + 0.002 * (n % 3)) for n in range(1, 6)}
    at |= {"site-1": (-37.808, 144.961), "site-2": (-37.806, 144.964)}
    return plot.offloading_map(SimpleNamespace(users=users, servers=servers), OffloadingSolution(tasks), at)


def draw_prices():
    frames = pd.RangeIndex(1, 5, name="frame")
    return plot.prices(pd.DataFrame({"storage": [0.1, 0.2, 0.0, 0.4], "steps": [5.0, 4.0, 3.0, 2.0]}, index=frames))


def draw_prices_of_servers():
    return plot.prices(pd.Series([0.3, 0.1, 0.0], ["site-1", "site-2", "a site with a long name, cut"]), "GHz")


def draw_policy_gaps():
    policies = [
        {"name": "popular", "gap": {"mean": 0.05, "ci": [0.04, 0.06]}},
        {"name": "random-average", "gap": {"mean": 0.25, "ci": [0.2, 0.3]}},
        {"name": "offline", "gap": {"mean": 0.0, "ci": None}},
    ]
    bounds = {"hindsight": {"mean": 100.0}, "nonanticipative": {"lower": {"mean": 103.0, "ci": [102.5, 103.5]}}}
    head = {"instance": {"name": "x"}, "episodes": 20, "confidence": 0.95, "bounds": bounds}
    return plot.policy_gaps(head | {"policies": policies})


def draw_policy_gaps_of_one_episode():
    policies = [{"name": "popular", "gap": {"mean": 0.05, "ci": None}}]
    bounds = {"hindsight": {"mean": 100.0, "ci": None}, "nonanticipative": None}
    head = {"instance": {"name": "x"}, "episodes": 1, "confidence": 0.95, "bounds": bounds}
    return plot.policy_gaps(head | {"policies": policies})


def draw_curves():
    profile = {"quality": {"kind": "exponential", "floor": 0.1, "ceiling": 1.0, "scale": 20.0}}
    profile |= {"latency": {"base_s": 0.3, "per_step_s": 0.05}, "fit": {"r2": {"quality": 0.987}}}
    steps = np.array([5, 10, 20, 40, 80])
    return plot.curves(
        profile, measurements=pd.DataFrame({"steps": steps, "quality_loss": 0.12 + 0.85 * np.exp(-steps / 19)})
    )


def draw_curves_over_many_steps():
    profile = {"quality": {"kind": "power", "floor": 0.1, "coefficient": 1.0, "exponent": 1.0}}
    return plot.curves(profile, steps=(1.0, 200.0))


def draw_latency():
    profile = {"latency": {"base_s": 0.3, "per_step_s": 0.05}, "fit": {"r2": {"latency": 0.9}}}
    steps = np.array([5, 10, 20, 40, 80])
    measured = pd.DataFrame({"steps": steps, "latency_s": 0.3 + 0.05 * steps + 0.1 * (-1) ** steps})
    return plot.curves(profile, "latency", measured)


def draw_fitted_curves():
    steps = np.array([1.0, 2, 5, 10, 20, 40, 80, 100])
    measured = Measurements(
        steps, 0.1 + np.exp(-steps / 15) + 0.01 * (-1) ** steps, 0.2 + 0.01 * steps + 0.02 * (steps == 20)
    )
    return plot.fitted_curves(fit(measured, "exponential"), measured)[1, 0]


def draw_sweep():
    rows = [(w, s, 10 / s + w, 9 / s + w, "feasible") for w in (1.0, 2.0) for s in (1.0, 2.0, 4.0)]
    return plot.sweep(
        pd.DataFrame(rows, columns=["weights.delay", "edge.storage_gb", "objective", "lower_bound", "status"])
    )


def test_a_sweep_runs_along_the_path_of_most_values():
    rows = [(s, w, s + w, s + w - 1.0, "feasible") for s in range(100) for w in (1.0, 2.0, 3.0)]
    ax = plot.sweep(
        pd.DataFrame(rows, columns=["edge.steps_per_slot", "weights.delay", "objective", "lower_bound", "status"])
    )
    assert ax.get_xlabel() == "edge.steps_per_slot"
    lines = {line.get_label(): line.get_xydata() for line in ax.get_lines()}
    assert list(lines) == [f"weights.delay = {w}" for w in (1, 2, 3)]
    assert np.array_equal(lines["weights.delay = 2"], [(s, s + 2.0) for s in range(100)])
    pyplot.close(ax.figure)


PICTURES = {name.removeprefix("draw_"): made for name, made in list(globals().items()) if name.startswith("draw_")}


def save(name: str, path: Path, **changes) -> None:
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, "backend": "Agg", "figure.figsize": (5, 3.6), **changes}):
        ax = PICTURES[name]()
        ax.figure.savefig(path, dpi=60, metadata={"Software": None})
        pyplot.close(ax.figure)


@pytest.mark.parametrize("name", PICTURES)
def test_picture_is_the_baseline(name, tmp_path):
    save(name, tmp_path / f"{name}.png")
    assert compare_images(str(BASELINE / f"{name}.png"), str(tmp_path / f"{name}.png"), TOLERANCE) is None


def test_another_picture_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setitem(PICTURES, "cache_timeline", lambda: plot.cache_timeline(two_timescale(((0, 1, 1),) * 3)))
    save("cache_timeline", tmp_path / "other.png")
    assert compare_images(str(BASELINE / "cache_timeline.png"), str(tmp_path / "other.png"), TOLERANCE) is not None


@pytest.mark.parametrize("name", PICTURES)
def test_axes_are_labelled_and_legends_cover_nothing(name):
    ax = PICTURES[name]()
    figure = ax.figure
    figure.canvas.draw()
    assert ax.get_xlabel()
    if (legend := ax.get_legend()) is not None:
        inside = ax.get_window_extent()
        assert legend.get_window_extent().y1 <= inside.y0 + 1  # below the axes
    pyplot.close(figure)


@pytest.mark.parametrize("name", ["front", "slot", "policy_gaps"])
def test_axes_that_are_given_are_used(name):
    figure, axes = pyplot.subplots(1, 2)
    before = pyplot.get_fignums()
    made = {"front": lambda ax: plot.front(front(), ax), "slot": lambda ax: plot.slot(two_timescale(), ax=ax)}
    made["policy_gaps"] = lambda ax: plot.policy_gaps(
        {"instance": {"name": "x"}, "episodes": 1, "confidence": 0.95, "policies": []}, ax
    )
    assert made[name](axes[1]) is axes[1]
    assert not axes[0].has_data() and pyplot.get_fignums() == before
    pyplot.close(figure)


def test_colours_stay_apart_in_grey():
    from aigc_opt.plot.style import DARK, LIGHT, MIDDLE

    def luminance(colour):
        return float(np.dot(matplotlib.colors.to_rgb(colour), [0.299, 0.587, 0.114]))

    tones = sorted(map(luminance, (DARK, MIDDLE, LIGHT)))
    assert np.diff(tones).min() > 0.2


if __name__ == "__main__":
    BASELINE.mkdir(exist_ok=True)
    for name in PICTURES:
        save(name, BASELINE / f"{name}.png")
