"""Tables of a two-timescale solution: what each frame caches, serves and uses, and what more of anything would save."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from aigc_opt.instance.two_timescale import TwoTimescaleInstance
from aigc_opt.problems.two_timescale.episode import Episode
from aigc_opt.problems.two_timescale.frames import Frames
from aigc_opt.problems.two_timescale.shares import Transfers
from aigc_opt.problems.two_timescale.solution import TwoTimescaleSolution

if TYPE_CHECKING:
    import pandas as pd


def request_report(instance: TwoTimescaleInstance, solution: TwoTimescaleSolution) -> pd.DataFrame:
    """Return one row for each request: what it gets, its delay by part in seconds, and its quality loss.

    The delay's parts are ``uplink_s``, ``downlink_s``, ``backhaul_s`` and ``generation_s``; they and ``loss`` are not
    weighted.
    """
    table = solution.to_frame(instance)
    requests, edge, cloud = instance.requests, instance.edge, instance.cloud
    asked = requests.model >= 0
    noise = 10.0 ** ((edge.noise_dbm_per_hz - 30.0) / 10.0)
    user = np.nonzero(asked)[2]
    for direction, size, gain, watt, mhz in (
        ("uplink", requests.input_mbit, requests.uplink_gain, instance.user_power_w[user], edge.uplink_mhz),
        ("downlink", requests.output_mbit, requests.downlink_gain, edge.power_w, edge.downlink_mhz),
    ):
        width = np.maximum(table[f"{direction}_share"].to_numpy(), 1e-300) * 1e6 * mhz
        rate = width * np.log2(1.0 + watt * gain[asked] / (noise * width))
        sent = size[asked] > 0
        table[f"{direction}_s"] = np.where(sent, 1e6 * size[asked] / np.where(sent, rate, 1.0), 0.0)
    here = table["at_edge"].to_numpy() > 0
    model, steps = requests.model[asked], table["steps"].to_numpy()
    base_s = np.array([profile.latency.base_s for profile in instance.models])[model]
    per_step_s = np.array([profile.latency.per_step_s for profile in instance.models])[model]
    cloud_s = cloud.latency.base_s + cloud.latency.per_step_s * cloud.steps
    megabits = requests.input_mbit[asked] + requests.output_mbit[asked]
    table["backhaul_s"] = np.where(here, 0.0, megabits / edge.backhaul_mbps)
    table["generation_s"] = np.where(here, base_s + per_step_s * steps, cloud_s)
    loss = np.zeros(len(table))
    for index, profile in enumerate(instance.models):
        own = model == index
        loss[own] = profile.quality.value(np.where(here[own], steps[own], cloud.steps))
    table["loss"] = loss
    return table


def frame_report(instance: TwoTimescaleInstance, solution: TwoTimescaleSolution) -> pd.DataFrame:
    """Return one row for each frame, numbered from 1.

    ``cached`` and ``switched`` count models, ``requests`` and ``at_edge`` requests; ``hit_ratio`` is the share of
    requests whose model is cached; ``uplink_s`` to ``generation_s`` and ``loss`` are means over requests;
    ``steps_used``, ``uplink_used``, ``downlink_used`` are shares of what there is, over all slots of the frame.
    """
    import pandas as pd

    frames, slots, _ = instance.requests.model.shape
    table = request_report(instance, solution)
    index = pd.RangeIndex(1, frames + 1, name="frame")
    cached = np.round(solution.cached).astype(int)
    before = np.zeros(cached.shape[1], int) if instance.initial_cache is None else instance.initial_cache
    by_frame = table.groupby(level="frame")
    means = ["uplink_s", "downlink_s", "backhaul_s", "generation_s", "loss"]
    report = pd.DataFrame(
        {
            "cached": cached.sum(axis=1),
            "switched": np.maximum(0, np.diff(cached, axis=0, prepend=before[None])).sum(axis=1),
            "requests": by_frame.size().reindex(index, fill_value=0).to_numpy(),
            "at_edge": by_frame["at_edge"].sum().reindex(index, fill_value=0).to_numpy(),
            "hit_ratio": by_frame["cached"].mean().reindex(index).to_numpy(),
        },
        index=index,
    )
    report[means] = by_frame[means].mean().reindex(index)
    budget = instance.edge.steps_per_slot * slots
    used = np.asarray(solution.steps).sum(axis=(1, 2))
    report["steps_used"] = used / budget if budget > 0 else np.nan
    for direction in ("uplink", "downlink"):
        report[f"{direction}_used"] = np.asarray(getattr(solution, f"{direction}_share")).sum(axis=(1, 2)) / slots
    return report


def price_report(instance: TwoTimescaleInstance, solution: TwoTimescaleSolution) -> pd.DataFrame:
    """Return what more of anything would save of the objective, a row for each frame.

    Slopes of the frames' dual functions at the solution's caches, in units of the objective: ``storage`` for a gigabyte
    of cache in this frame (the value per gigabyte of the model at which the relaxed knapsack is full), ``steps`` for
    one step more in each of the frame's slots, ``uplink`` and ``downlink`` for one megahertz more there.
    """
    import pandas as pd

    e = Episode.of(instance)
    frames, transfers = Frames(e), Transfers.of(e)
    every = np.arange(e.frames)
    _, _, cuts = frames.dual(every, np.round(solution.cached))

    def per_frame(of_slots: np.ndarray) -> np.ndarray:
        return e.scale * of_slots.reshape(e.frames, e.slots).sum(axis=1)

    return pd.DataFrame(
        {
            "storage": e.scale * np.array([_value_of_room(-grad, e) for grad in cuts.grad]),
            "steps": per_frame(cuts.prices.ravel()),
            "uplink": per_frame(e.weight_delay * transfers.uplink.price) / instance.edge.uplink_mhz,
            "downlink": per_frame(e.weight_delay * transfers.downlink.price) / instance.edge.downlink_mhz,
        },
        index=pd.RangeIndex(1, e.frames + 1, name="frame"),
    )


def _value_of_room(reward: np.ndarray, episode: Episode) -> float:
    """Reward per gigabyte of the model that no longer fits whole, best models first; 0 where all that help fit."""
    room = episode.storage_gb
    for m in np.argsort(-reward / episode.size_gb, kind="stable").tolist():
        if reward[m] <= 0:
            break
        if episode.size_gb[m] > room:
            return float(reward[m] / episode.size_gb[m])
        room -= episode.size_gb[m]
    return 0.0


def summary(instance: TwoTimescaleInstance, solution: TwoTimescaleSolution) -> str:
    """Return the frames' table as text, and the means over all requests."""
    import pandas as pd

    report = frame_report(instance, solution)
    report.index = report.index.astype(str)
    weight = report["requests"].to_numpy()
    total = report.mean()
    for name in ("cached", "switched", "requests", "at_edge"):
        total[name] = report[name].sum()
    for name in ("hit_ratio", "uplink_s", "downlink_s", "backhaul_s", "generation_s", "loss"):
        values = report[name].to_numpy()[weight > 0]
        total[name] = np.average(values, weights=weight[weight > 0]) if weight.any() else np.nan
    total["cached"] /= len(report)
    report = pd.concat([report, total.to_frame("all").T])

    def share(value: float) -> str:
        return "-" if np.isnan(value) else f"{100 * value:.0f}%"

    def seconds(value: float) -> str:
        return "-" if np.isnan(value) else f"{value:.3f}"

    show: dict[str, Callable[[float], str]] = {"cached": "{:.1f}".format}
    show |= {name: "{:.0f}".format for name in ("switched", "requests", "at_edge")}
    show |= {name: share for name in ("hit_ratio", "steps_used", "uplink_used", "downlink_used")}
    show |= {name: seconds for name in ("uplink_s", "downlink_s", "backhaul_s", "generation_s", "loss")}
    head = "Per frame (cached and switched: models; delays in seconds and quality losses: means over requests):\n"
    return head + report.to_string(formatters=show, max_rows=24)
