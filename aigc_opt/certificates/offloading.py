r"""Offloading: the Lagrangian dual at given prices of server speed, as a rational lower bound of it.

With a price mu_i >= 0 per GHz of server i ::

    D = sum_n min(rejection, own device, servers) - sum_i mu_i F_i

where a server and a step count cost ``fixed + loss + min over f of k / f + mu f`` with ``k = w_n w_delay W`` and f
between ``W / (seconds left)`` and F. All of it is rational but for ``2 sqrt(k mu)`` where neither end of f is the
minimum, a cube root where neither end of a device's time is, and smooth quality curves: those are rounded down.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from aigc_opt.certificates.curves import quality
from aigc_opt.certificates.rationals import SLACK, cbrt_below, sqrt_below
from aigc_opt.errors import Fault

PLACES = 160
"""Binary places of the integers that say quickly which options cannot be the cheapest."""


def faults(data: dict[str, Any], multipliers: dict[str, Any]) -> list[Fault]:
    """Nothing beyond shapes and signs can be wrong."""
    return []


def evaluate(data: dict[str, Any], multipliers: dict[str, Any]) -> Fraction | None:
    """Return a lower bound of D over N; None where some user has no option at all."""
    prices = [Fraction(price) for price in multipliers["ghz"]]
    grid = range(int(data["steps"]["min"]), int(data["steps"]["max"]) + 1, int(data["steps"]["stride"]))
    models = {model["name"]: _Profile(model, grid) for model in data["models"]}
    capacity = [Fraction(server["ghz"]) for server in data["servers"]]
    hosts = [None if server["hosts"] is None else set(server["hosts"]) for server in data["servers"]]
    roots = [_floor(sqrt_below(price)) for price in prices]
    total = -sum((price * ghz for price, ghz in zip(prices, capacity, strict=True)), Fraction(0))
    for user in data["users"]:
        profile = models[user["model"]]
        best = _outside(user, data["weights"], profile)
        ours = _User(user, data["weights"], profile)
        for i, ghz in enumerate(capacity):
            hosted = hosts[i]
            if hosted is None or user["model"] in hosted:
                best = ours.at_server(i, prices[i], roots[i], ghz, best)
        if best is None:
            return None
        total += best
    return total / len(data["users"])


class _Profile:
    """Work and quality loss, rounded down, of each step count."""

    def __init__(self, model: dict[str, Any], grid: range):
        workload = model["workload"]
        base, slope = Fraction(workload["base_gcycles"]), Fraction(workload["per_step_gcycles"])
        self.work = [base + slope * s for s in grid]
        self.loss = [quality(model["quality"], Fraction(s))[0] for s in grid]


class _User:
    def __init__(self, user: dict[str, Any], weights: dict[str, Any], profile: _Profile):
        self.user, self.work = user, profile.work
        weight = Fraction(user["weight"])
        self.delay, self.energy = weight * Fraction(weights["delay"]), weight * Fraction(weights["energy"])
        self.loss = [weight * Fraction(weights["quality"]) * loss for loss in profile.loss]
        self.quick = [
            (_floor(loss), _floor(sqrt_below(self.delay * work)))
            for loss, work in zip(self.loss, self.work, strict=True)
        ]

    def at_server(self, i: int, price: Fraction, root: int, ghz: Fraction, best: Fraction | None) -> Fraction | None:
        """Return the cheaper of `best` (None = nothing yet) and the best step count at server i."""
        user = self.user
        up, down = Fraction(user["uplink_mbps"][i]), Fraction(user["downlink_mbps"][i])
        if up == 0 or down == 0:
            return best
        sending = Fraction(user["input_mbit"]) / up
        transfer = sending + Fraction(user["output_mbit"]) / down
        joules = Fraction(user["transmit_power_w"]) * sending
        left = Fraction(user["max_delay_s"]) * (1 + SLACK) - transfer
        if left <= 0 or joules > Fraction(user["battery_j"]) * (1 + SLACK):
            return best
        fixed = self.delay * transfer + self.energy * joules
        least = _floor(fixed)
        most = None if best is None else -_floor(-best)
        for s, (loss, own_root) in enumerate(self.quick):
            # Without its ends the minimum over f is 2 sqrt(k mu): rounded down it already says that most are no good.
            if most is not None and least + loss + (own_root * root >> PLACES - 1) >= most:
                continue
            work = self.work[s]
            slowest = work / left
            if slowest > ghz * (1 + SLACK):
                continue
            cost = fixed + self.loss[s] + _shared(self.delay * work, price, min(slowest, ghz), ghz)
            if best is None or cost < best:
                best, most = cost, -_floor(-cost)
        return best


def _shared(k: Fraction, price: Fraction, least: Fraction, most: Fraction) -> Fraction:
    """Return a lower bound of ``k / f + price f`` over least <= f <= most."""
    if k <= price * least * least:
        return k / least + price * least
    if k >= price * most * most:
        return k / most + price * most
    return 2 * sqrt_below(k * price)


def _outside(user: dict[str, Any], weights: dict[str, Any], profile: _Profile) -> Fraction | None:
    """Return a lower bound of the cheaper of rejection and the own device; None = neither is possible.

    On the device ``w_delay t + w_energy kappa W^3 / t^2`` is convex in the time t, which speed and battery bound from
    below and the deadline from above.
    """
    weight = Fraction(user["weight"])
    penalty, device = user["rejection_penalty"], user["device"]
    best = None if penalty is None else weight * Fraction(penalty)
    if device is None:
        return best
    delay, energy = Fraction(weights["delay"]), Fraction(weights["energy"])
    deadline, battery = Fraction(user["max_delay_s"]) * (1 + SLACK), Fraction(user["battery_j"]) * (1 + SLACK)
    for work, loss in zip(profile.work, profile.loss, strict=True):
        cubic = Fraction(device["kappa"]) * work**3
        first = work / Fraction(device["max_ghz"])
        if cubic > 0:
            if battery == 0:
                continue
            first = max(first, sqrt_below(cubic / battery))
        if first > deadline:
            continue
        # The derivative in t is w_delay - 2 w_energy kappa W^3 / t^3.
        falling = 2 * energy * cubic
        if falling <= delay * first**3:
            spent = delay * first + energy * cubic / first**2
        elif falling >= delay * deadline**3:
            spent = delay * deadline + energy * cubic / deadline**2
        else:
            spent = Fraction(3, 2) * delay * cbrt_below(falling / delay)
        cost = weight * (Fraction(weights["quality"]) * loss + spent)
        best = cost if best is None else min(best, cost)
    return best


def _floor(value: Fraction) -> int:
    """Return the integer part of ``value 2^PLACES``."""
    return math.floor(value * (1 << PLACES))
