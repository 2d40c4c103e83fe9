r"""Two timescales: the Lagrangian dual at given prices of steps and switches, as a rational lower bound of it.

With a price p_tk >= 0 per denoising step of slot (t, k), and prices mu_tm of switches between 0 and their cost ::

    D = sum over frames of [ sum_k (sum_u cloud - p F) + min over caches x of sum_m (grad_tm + mu_tm - mu_(t+1)m) x_m ]
        - sum_m mu_1m x_0m + transfers

in which ``grad_tm`` adds up, over the frame's requests for m, what the edge at its cheapest steps (steps paid) costs
more than the cloud; where hits may go to the cloud, at most 0. The minimum over caches is a knapsack. A Benders bound
is of this kind: cuts weighted by a master's multipliers are a cut at averaged prices or below one.

Transfers do not depend on the caches. A transfer takes ``time(b) = a / (b ln(1 + gamma / b))`` at share b, which is
convex; so a slot's total is at least ``sum_u (time(b_u) - time'(b_u) b_u) - max_u (-time'(b_u))`` at ANY shares b.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache
from typing import Any

from aigc_opt.certificates.curves import cheapest, quality
from aigc_opt.certificates.rationals import SLACK, Enclosure, ceil_to, exp, floor_to, ln
from aigc_opt.errors import Fault

NODES = 100_000
"""Nodes of a knapsack's search; beyond, the bound of what is left counts."""


def faults(data: dict[str, Any], multipliers: dict[str, Any]) -> list[Fault]:
    """Shares of 0 where something is sent."""
    found = []
    for key, size in (("uplink_share", "input_mbit"), ("downlink_share", "output_mbit")):
        for t, k, u in _requests(data):
            if data["requests"][size][t][k][u] > 0 and multipliers[key][t][k][u] == 0:
                found.append(Fault(f"multipliers.{key}[{t}][{k}][{u}]", "must be > 0 where something is sent"))
    return found


def evaluate(data: dict[str, Any], multipliers: dict[str, Any]) -> Fraction:
    """Return a lower bound of D."""
    frames, slots = len(data["requests"]["model"]), len(data["requests"]["model"][0])
    models, edge, weights = data["models"], data["edge"], data["weights"]
    sizes, room = [Fraction(m["storage_gb"]) for m in models], Fraction(edge["storage_gb"]) * (1 + SLACK)
    switch = [slots * Fraction(weights["switching"]) * _switch_s(model, edge) for model in models]
    paid = [
        [min(Fraction(price), most) for price, most in zip(row, switch, strict=True)] for row in multipliers["switches"]
    ]
    const, grad = _cuts(data, multipliers["steps"])
    total = Fraction(0)
    for t in range(frames):
        later = paid[t + 1] if t + 1 < frames else [Fraction(0)] * len(models)
        cost = [g + now - then for g, now, then in zip(grad[t], paid[t], later, strict=True)]
        total += const[t] - most_earned([-c for c in cost], sizes, room)
    initial = data["initial_cache"] or [0] * len(models)
    total -= sum((price for price, there in zip(paid[0], initial, strict=True) if there), Fraction(0))
    seconds = _transfers(data, multipliers["uplink_share"], "input_mbit", "uplink_gain", "uplink_mhz", None)
    seconds += _transfers(
        data, multipliers["downlink_share"], "output_mbit", "downlink_gain", "downlink_mhz", edge["power_w"]
    )
    return (total + Fraction(weights["delay"]) * seconds) / (frames * slots)


def most_earned(rewards: list[Fraction], sizes: list[Fraction], room: Fraction) -> Fraction:
    """Return the most that models within `room` earn, or what they certainly do not exceed.

    Depth first in integers, the densest first; a node is left when filling its room with parts of models (Dantzig) does
    not exceed the best set.
    """
    items = [(r, s) for r, s in zip(rewards, sizes, strict=True) if r > 0 and s <= room]
    items.sort(key=lambda item: item[0] / item[1], reverse=True)
    if sum((s for _, s in items), Fraction(0)) <= room:
        return sum((r for r, _ in items), Fraction(0))
    scale = math.lcm(*(r.denominator for r, _ in items))
    unit = math.lcm(room.denominator, *(s.denominator for _, s in items))
    gain, size = [int(r * scale) for r, _ in items], [int(s * unit) for _, s in items]

    def dantzig(k: int, left: int) -> int:
        value = 0
        for g, s in zip(gain[k:], size[k:], strict=True):
            if s > left:
                return value - (-g * left // s)
            left, value = left - s, value + g
        return value

    best, nodes, stack = 0, 0, [(0, int(room * unit), 0)]
    while stack:
        k, left, value = stack.pop()
        best = max(best, value)
        if k == len(items) or value + dantzig(k, left) <= best:
            continue
        nodes += 1
        if nodes > NODES:
            stack.append((k, left, value))
            best = max(best, *(v + dantzig(i, free) for i, free, v in stack))
            break
        stack.append((k + 1, left, value))
        if size[k] <= left:
            stack.append((k + 1, left - size[k], value + gain[k]))
    return Fraction(best, scale)


def _requests(data: dict[str, Any]) -> list[tuple[int, int, int]]:
    """Places (t, k, u) of the requests."""
    return [
        (t, k, u)
        for t, frame in enumerate(data["requests"]["model"])
        for k, slot in enumerate(frame)
        for u, model in enumerate(slot)
        if model is not None
    ]


def _switch_s(model: dict[str, Any], edge: dict[str, Any]) -> Fraction:
    fetch = 8 * Fraction(model["storage_gb"]) / Fraction(edge["cloud_gbps"])
    return fetch + Fraction(model["gpu_memory_gb"]) / Fraction(edge["io_gb_per_s"]) + Fraction(model["warmup_s"])


def _cuts(data: dict[str, Any], prices: list[list[float]]) -> tuple[list[Fraction], list[list[Fraction]]]:
    """Constants [T] and coefficients [T][M] at prices [T][K]: no cache costs a frame less."""
    requests, edge, away, models = data["requests"], data["edge"], data["cloud"], data["models"]
    delay, loss_weight = Fraction(data["weights"]["delay"]), Fraction(data["weights"]["quality"])
    steps = Fraction(away["steps"])
    generation = Fraction(away["latency"]["base_s"]) + Fraction(away["latency"]["per_step_s"]) * steps
    in_cloud = [delay * generation + loss_weight * quality(model["quality"], steps)[0] for model in models]
    backhaul, budget = delay / Fraction(edge["backhaul_mbps"]), Fraction(edge["steps_per_slot"])
    least, most = Fraction(edge["min_steps"]), Fraction(edge["max_steps"])

    @cache
    def at_edge(m: int, price: float) -> Fraction:
        latency = models[m]["latency"]
        slope = delay * Fraction(latency["per_step_s"]) + Fraction(price)
        generated = cheapest(models[m]["quality"], loss_weight, slope, least, most)
        return delay * Fraction(latency["base_s"]) + generated

    const = [-sum(map(Fraction, row), Fraction(0)) * budget for row in prices]
    grad = [[Fraction(0)] * len(models) for _ in prices]
    for t, k, u in _requests(data):
        m = int(requests["model"][t][k][u])
        sent = Fraction(requests["input_mbit"][t][k][u]) + Fraction(requests["output_mbit"][t][k][u])
        cloud = backhaul * sent + in_cloud[m]
        const[t] += cloud
        more = at_edge(m, prices[t][k]) - cloud
        grad[t][m] += more if data["serve_all_hits"] else min(more, Fraction(0))
    return const, grad


def _transfers(
    data: dict[str, Any], shares: list[Any], size: str, gain: str, bandwidth: str, power_w: float | None
) -> Fraction:
    """Return a lower bound of the seconds of all transfers in one direction; power None = the users' own."""
    requests, edge = data["requests"], data["edge"]
    hertz = Fraction(edge[bandwidth]) * 10**6
    ten, two = Fraction(10), Fraction(2)
    bels = (Fraction(edge["noise_dbm_per_hz"]) - 30) / 10
    log_ten = ln((ten, ten))
    noise = exp((min(bels * log_ten[0], bels * log_ten[1]), max(bels * log_ten[0], bels * log_ten[1])))
    per_mbit = tuple(10**6 * end / hertz for end in ln((two, two)))
    by_slot: dict[tuple[int, int], list[tuple[Fraction, Enclosure]]] = {}
    for t, k, u in _requests(data):
        mbit = requests[size][t][k][u]
        if mbit > 0:
            power = Fraction(data["user_power_w"][u] if power_w is None else power_w)
            signal = power * Fraction(requests[gain][t][k][u]) / hertz
            share = Fraction(shares[t][k][u])
            ratio = floor_to(signal / noise[1] / share), ceil_to(signal / noise[0] / share)
            work = Fraction(mbit) * per_mbit[0], Fraction(mbit) * per_mbit[1]
            by_slot.setdefault((t, k), []).append(_tangent(work, share, ratio))
    total = Fraction(0)
    for tangents in by_slot.values():
        bound = sum(height for height, _ in tangents) - max(slope[1] for _, slope in tangents)
        total += max(bound, Fraction(0))
    return total


def _tangent(work: Enclosure, share: Fraction, ratio: Enclosure) -> tuple[Fraction, Enclosure]:
    """Return a lower bound of the tangent's height at share 0, and an enclosure of what it falls by per share.

    With L = ln(1 + x), x = gamma / b: time = a / (b L) and -time' = time (L - x / (1 + x)) / (b L).
    """
    log = ln((1 + ratio[0], 1 + ratio[1]))
    seconds = floor_to(work[0] / (share * log[1])), ceil_to(work[1] / (share * log[0]))
    excess = log[0] - ratio[1] / (1 + ratio[1]), log[1] - ratio[0] / (1 + ratio[0])
    falls = (
        floor_to(seconds[0] * max(excess[0], Fraction(0)) / (share * log[1])),
        ceil_to(seconds[1] * excess[1] / (share * log[0])),
    )
    return seconds[0] + falls[0] * share, falls
