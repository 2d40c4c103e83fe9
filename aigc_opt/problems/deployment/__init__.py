"""The deployment problem: which models are stored and loaded at which server in which slot, and who serves whom."""

from __future__ import annotations

from collections.abc import Callable

from aigc_opt.instance.deployment import DeploymentInstance
from aigc_opt.problems.deployment.arrays import DeploymentProgram
from aigc_opt.problems.deployment.check import check
from aigc_opt.problems.deployment.methods import METHODS, bound
from aigc_opt.problems.deployment.solution import DeploymentSolution
from aigc_opt.problems.problem import Problem


def summary(instance: DeploymentInstance, solution: DeploymentSolution) -> str:
    """Return a table of what each server does, summed over the slots, and of who serves the requests."""
    import pandas as pd

    frame = solution.to_frame(instance).reset_index()
    slots = instance.shape[0]
    names = [server.name for server in instance.servers]
    by_server = frame.groupby("server", sort=False)
    generation = {m.name: m.latency.base_s + m.latency.per_step_s * m.nominal_steps for m in instance.models}
    seconds = (frame["serves"] * frame["model"].map(generation)).groupby(frame["server"], sort=False).sum()
    limits = pd.Series({s.name: None if s.gpu_s is None else s.gpu_s * slots for s in instance.servers}, dtype=float)
    table = pd.DataFrame(
        {
            "stored": by_server["stored"].sum() / slots,
            "loaded": by_server["loaded"].sum() / slots,
            "fetches": by_server["fetches"].sum(),
            "loads": by_server["loads"].sum(),
            "arrivals": by_server["arrivals"].sum(),
            "local": by_server["local"].sum(),
            "peers": by_server["peers"].sum(),
            "cloud": by_server["cloud"].sum(),
            "serves": by_server["serves"].sum(),
            "gpu_time": seconds / limits,
        }
    ).loc[names]
    total = table.sum()
    total["gpu_time"] = seconds.sum() / limits.sum() if limits.notna().all() and limits.sum() > 0 else float("nan")
    table.loc["all"] = total
    show: dict[str, Callable[[float], str]] = {name: "{:.0f}".format for name in ("fetches", "loads")}
    show |= {name: "{:.1f}".format for name in ("stored", "loaded", "arrivals", "local", "peers", "cloud", "serves")}
    # As text: pandas gives no formatter a NaN, which here is a server without a limit, or without any time at all.
    table["gpu_time"] = ["-" if pd.isna(share) else f"{100 * share:.0f}%" for share in table["gpu_time"]]
    table.index.name = None
    head = "Per server (stored and loaded: models per slot; the rest: requests over all slots):\n"
    return head + table.to_string(formatters=show)


PROBLEM = Problem(
    name="deployment",
    terms=("delay", "switching", "storage", "gpu_memory"),
    read_solution=DeploymentSolution.from_dict,
    check=check,
    methods=METHODS,
    default_method="exact",
    bound=bound,
    build_program=lambda instance: DeploymentProgram(instance).program,
    summary=summary,
    starts=("exact", "lagrangian"),
    monolith=("monolith", "highs"),
    baselines=("feature-aware", "popularity", "static", "random", "lru", "genetic", "cloud-only"),
)
