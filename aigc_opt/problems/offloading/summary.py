"""What a person wants to know of a solution: who is where, how busy servers are, what more of a resource is worth."""

from __future__ import annotations

import numpy as np

from aigc_opt.instance.offloading import OffloadingInstance
from aigc_opt.problems.offloading.sensitivity import Sensitivity, sensitivity
from aigc_opt.problems.offloading.solution import LOCAL, REJECTED, OffloadingSolution

MOST_NAMED = 5
"""Users that are named in each list."""


def summary(instance: OffloadingInstance, solution: OffloadingSolution) -> str:
    """Return a table of places, and the prices of resources."""
    import pandas as pd

    frame = solution.to_frame(instance)
    prices = sensitivity(instance, solution)
    places = [LOCAL, *(server.name for server in instance.servers), REJECTED]
    limits = {server.name: server.ghz for server in instance.servers}
    of_server = dict(zip(limits, prices.server_ghz, strict=True))
    groups = frame.groupby("place")
    table = pd.DataFrame(
        {
            "tasks": groups.size(),
            "steps": groups["steps"].mean(),
            "delay_s": groups["delay_s"].mean(),
            "energy_j": groups["energy_j"].mean(),
            "loss": groups["loss"].mean(),
            "ghz": groups["ghz"].sum(),
        }
    ).reindex(places)
    table["tasks"] = table["tasks"].fillna(0).astype(int)
    table["of_ghz"] = [limits.get(place, np.nan) for place in places]
    table["price_of_ghz"] = [of_server.get(place, np.nan) for place in places]
    table.loc[[LOCAL, REJECTED], "ghz"] = np.nan
    table.index.name = None
    text = table.to_string(na_rep="-", float_format=lambda value: f"{value:.4g}")
    return f"Per place (steps, delay, energy and loss: means over its tasks):\n{text}\n{_worth(prices)}"


def _worth(prices: Sensitivity) -> str:
    """Return the largest prices, with the words that say what they are."""
    users = [user.name for user in prices.instance.users]
    lines = ["Fall of the objective for one unit more, with places and steps as they are:"]
    for what, values in (
        ("a second of deadline", prices.deadline_s),
        ("a joule of battery", prices.battery_j),
        ("a GHz of the device", prices.device_ghz),
    ):
        order = [n for n in np.argsort(-values, kind="stable")[:MOST_NAMED] if values[n] > 0]
        named = ", ".join(f"{users[n]} {values[n]:.4g}" for n in order) or "worth nothing to anyone"
        more = int((values > 0).sum()) - len(order)
        lines.append(f"  {what:<21} {named}{f', and {more} more' if more > 0 else ''}")
    return "\n".join(lines)
