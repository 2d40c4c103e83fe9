"""Cost against users, storage, bandwidth and steps, as papers draw it, with both bounds drawn in.

    python benchmarks/bounds_figure.py --episodes 10 --output docs/pictures/bounds.png

Every point is an evaluation of the paper-sized process with one number changed, by `aigc_opt.evaluation.evaluate`, on
the same seeds. The agents are those of `instances/agents`, trained at the nominal point only: their networks serve any
number of users, and elsewhere they act under a law that they have not seen. Heuristics and bounds know each law.
Points that the data file has already are not computed again.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PROCESS = ROOT / "instances" / "examples" / "two-timescale-process.json"
DATA = Path(__file__).with_suffix(".json")
SEED = 70_000

AXES = {  # name: label, unit's factor, values
    "users": ("users", [6, 8, 10, 12]),
    "storage": ("storage of the edge (GB)", [10, 15, 21.1, 27]),
    "bandwidth": ("bandwidth upwards (MHz), twice that downwards", [10, 15, 20, 30]),
    "steps": ("denoising steps a slot", [600, 800, 1000, 1300]),
}
T2DRL, DDPG = "instances/agents/t2drl", "instances/agents/ddpg"
POLICIES = {  # name in the report: label, dashes, marker
    "random-average": ("random cache, equal shares", ":", "v"),
    "popular-genetic": ("popular cache, genetic shares", "-.", "^"),
    "lru": ("LRU cache, optimal allocation", "--", "s"),
    DDPG: ("plain actor (DDPG)", "--", "x"),
    T2DRL: ("T2DRL (diffusion actor)", "-", "o"),
    f"{T2DRL}:cache": ("T2DRL's cache, optimal allocation", "-", "D"),
}


def changed(law: dict[str, Any], axis: str, value: float) -> dict[str, Any]:
    """Return the law's file with one number changed."""
    edge = dict(law["edge"])
    if axis == "users":
        return law | {"user_power_w": law["user_power_w"][:1] * int(value)}
    if axis == "storage":
        edge["storage_gb"] = value
    elif axis == "bandwidth":
        edge |= {"uplink_mhz": value, "downlink_mhz": 2 * value}
    else:
        edge["steps_per_slot"] = value
    return law | {"edge": edge}


def nominal(law: dict[str, Any]) -> dict[str, float]:
    """Return where the agents were trained."""
    edge = law["edge"]
    return {
        "users": len(law["user_power_w"]), "storage": edge["storage_gb"], "bandwidth": edge["uplink_mhz"],
        "steps": edge["steps_per_slot"],
    }  # fmt: skip


def compute(arguments: argparse.Namespace) -> None:
    """Evaluate the points that are missing."""
    from aigc_opt.evaluation import evaluate, nonanticipative
    from aigc_opt.instance.two_timescale import TwoTimescaleInstance

    # Smaller samples than by default, once for each of many points: the bounds get wider, not wrong.
    nonanticipative.REPLICATIONS, nonanticipative.SLOTS, nonanticipative.TRAINING_SLOTS = 8, 200, 800
    law = json.loads(PROCESS.read_text())
    center = nominal(law)
    done = json.loads(DATA.read_text()) if DATA.exists() else {}
    for axis, (_, values) in AXES.items():
        for value in values:
            key = "nominal" if value == center[axis] else f"{axis}={value:g}"
            if key in done:
                continue
            started = time.perf_counter()
            instance = TwoTimescaleInstance.from_dict(changed(law, axis, value))
            told = evaluate(instance, list(POLICIES), arguments.episodes, SEED, workers=arguments.workers).to_dict()
            done[key] = {
                "episodes": told["episodes"], "bounds": told["bounds"],
                "cost": {p["name"]: p["cost"] for p in told["policies"]},
                "refused": sum(told["episodes"] - p["feasible_episodes"] for p in told["policies"]),
            }  # fmt: skip
            DATA.write_text(json.dumps(done, indent=1) + "\n")
            print(f"{key}: {time.perf_counter() - started:.0f} s", flush=True)


def draw(path: str) -> None:
    """Draw the four panels; line styles and markers tell lines apart without colours."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    done, center = json.loads(DATA.read_text()), nominal(json.loads(PROCESS.read_text()))
    figure, panels = plt.subplots(2, 2, figsize=(10, 8.6), layout="constrained")
    for panel, (axis, (label, values)) in zip(panels.flat, AXES.items(), strict=True):
        points = [done["nominal" if v == center[axis] else f"{axis}={v:g}"] for v in values]
        for name, (title, dashes, marker) in POLICIES.items():
            costs = [point["cost"][name] for point in points]
            half = [cost["mean"] - cost["ci"][0] for cost in costs]
            learned = name.startswith("instances")
            panel.errorbar(values, [c["mean"] for c in costs], half, label=title, linestyle=dashes, marker=marker,
                           color="black" if learned else "0.5", markersize=5, linewidth=1.2, capsize=2,
                           markerfacecolor="black" if marker == "o" else "white")  # fmt: skip
        reach = [point["bounds"]["nonanticipative"] for point in points]
        for kind, dashes in (("upper", (0, (6, 2))), ("lower", "-")):
            means = [r[kind]["mean"] for r in reach]
            title = f"reachable without the future: {kind} bound"
            panel.plot(values, means, color="#0072B2", linewidth=2.2, linestyle=dashes, label=title)
        hindsight = [point["bounds"]["hindsight"]["mean"] for point in points]
        panel.plot(values, hindsight, color="#D55E00", linewidth=2.2, linestyle=(0, (1, 1)), label="hindsight bound")
        least = min(hindsight)
        panel.set_ylim(bottom=least - 0.02 * abs(least))
        panel.fill_between(values, hindsight, least - 0.1 * abs(least), color="0.93")
        panel.axvline(center[axis], color="0.8", linewidth=1, zorder=0)
        panel.set_xlabel(label)
        panel.set_ylabel("cost (lower is better)")
    handles, titles = panels.flat[0].get_legend_handles_labels()
    order = sorted(range(len(titles)), key=lambda i: "bound" in titles[i])
    figure.legend([handles[i] for i in order], [titles[i] for i in order], loc="outside lower center", ncols=3,
                  fontsize=9)  # fmt: skip
    episodes = done["nominal"]["episodes"]
    figure.suptitle(
        f"Two timescales, {episodes} episodes a point, 95% intervals. Grey: below every policy, the future known.\n"
        "Agents were trained at the thin vertical lines only; bounds and heuristics know each law.", fontsize=10,
    )  # fmt: skip
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=12)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--output", required=True, help="the picture")
    arguments = parser.parse_args()
    os.chdir(ROOT)  # names of agents are relative
    compute(arguments)
    draw(arguments.output)


if __name__ == "__main__":
    main()
