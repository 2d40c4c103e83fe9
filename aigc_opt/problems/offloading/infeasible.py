"""Tasks that no place can serve, and what stops each place: a proof of infeasibility that needs no solver."""

from __future__ import annotations

import numpy as np

from aigc_opt.instance.offloading import OffloadingServer, User
from aigc_opt.problems.offloading.tables import Tables


def unservable(tables: Tables) -> tuple[str, ...]:
    """Return a line for each place of each task that has no place at all; empty where every task has one by itself.

    Fewer steps are less work, so that the least work of the grid decides whether a place meets deadline and battery.
    """
    lines: list[str] = []
    stuck = np.flatnonzero(tables.must & (np.diff(tables.start) == 0))
    for n in stuck:
        user = tables.instance.users[n]
        least = int(tables.work[n].argmin())
        work, steps = float(tables.work[n, least]), int(tables.grid[least])
        lines.append(f"task of {user.name}: no place can serve it, and it must not be rejected")
        lines.append(f"task of {user.name}, local: {_device(user, work, steps)}")
        for i, server in enumerate(tables.instance.servers):
            lines.append(f"task of {user.name}, {server.name}: {_server(user, server, i, work, steps)}")
        lines.append(f"task of {user.name}, rejected: not allowed (rejection_penalty is null)")
    return tuple(lines)


def _device(user: User, work: float, steps: int) -> str:
    if user.device is None:
        return "no device"
    by_speed = work / user.device.max_ghz
    cubic = user.device.kappa * work**3
    if cubic > 0 and user.battery_j == 0:
        return "computing takes energy, and the battery holds none"
    by_battery = (cubic / user.battery_j) ** 0.5 if cubic > 0 else 0.0
    what = "speed" if by_speed >= by_battery else "battery"
    return (
        f"even {steps} steps take {max(by_speed, by_battery):.4g} s with its {what}, "
        f"the deadline is {user.max_delay_s:g} s"
    )


def _server(user: User, server: OffloadingServer, i: int, work: float, steps: int) -> str:
    up, down = float(user.uplink_mbps[i]), float(user.downlink_mbps[i])
    if up <= 0 or down <= 0:
        return "out of reach (a rate is 0)"
    if server.hosts is not None and user.model not in server.hosts:
        return f"does not host {user.model}"
    energy = user.transmit_power_w * user.input_mbit / up
    if energy > user.battery_j:
        return f"the upload takes {energy:.4g} J, the battery holds {user.battery_j:g} J"
    transfer = user.input_mbit / up + user.output_mbit / down
    if transfer >= user.max_delay_s:
        return f"the transfers alone take {transfer:.4g} s, the deadline is {user.max_delay_s:g} s"
    need = work / (user.max_delay_s - transfer)
    return f"even {steps} steps need {need:.4g} GHz to meet the deadline, the server has {server.ghz:g} GHz"
