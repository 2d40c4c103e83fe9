"""Tiny episodes of every shape, and their optimum by enumeration with arithmetic of its own."""

from __future__ import annotations

import itertools
import math
import random
from functools import cache

from scipy.optimize import brentq, minimize_scalar

from aigc_opt.instance.two_timescale import TwoTimescaleInstance


def tiny(seed: int, **changes) -> TwoTimescaleInstance:
    """A random episode with the strange things that happen: nulls, empty frames, no steps, models that fit nowhere."""
    r = random.Random(seed)
    frames, slots, users, models = r.randint(1, 3), r.randint(1, 3), r.randint(1, 4), r.randint(1, 4)
    least = r.choice([0, 0, 1, 10, 30])
    most = max(r.choice([60, 60, 120, 200] + [least] * (least > 0)), least)
    flavour = r.choice(["piecewise", "smooth", "mixed"])
    chance = r.choice([0.3, 0.7, 1])

    def curve() -> dict:
        kinds = {"piecewise": ["pieces"], "smooth": ["exp", "pow"], "mixed": ["pieces", "pieces", "exp", "pow"]}[
            flavour
        ]
        kind = r.choice(kinds)
        if kind == "pieces":
            number = r.choice([1, 2, 2, 3, 4, 5])
            loss = sorted((r.uniform(20, 120) for _ in range(number)), reverse=True)
            if number > 2 and r.random() < 0.2:
                loss[1] = loss[0]
            steps = sorted(r.sample(range(221), number))
            return {"kind": "piecewise_linear", "points": [list(point) for point in zip(steps, loss, strict=True)]}
        if kind == "exp" or least < 1:
            return {
                "kind": "exponential",
                "floor": r.uniform(0, 30),
                "ceiling": r.uniform(30, 120),
                "scale": r.uniform(5, 90),
            }
        return {
            "kind": "power",
            "floor": r.uniform(0, 30),
            "coefficient": r.uniform(50, 900),
            "exponent": r.uniform(0.2, 1.5),
        }

    def grid(make) -> list:
        return [[[make() for _ in range(users)] for _ in range(slots)] for _ in range(frames)]

    model = grid(lambda: r.randrange(models) if r.random() <= chance else None)
    if r.random() < 0.3:
        model = [[[None, *slot[1:]] for slot in frame] for frame in model]  # a user who never asks
    if r.random() < 0.3:
        model[0][0] = [None] * users  # a slot in which nobody asks
    data = {
        "format": "aigc-opt/instance", "version": 1, "problem": "two_timescale", "name": f"tiny-{seed}",
        "models": [
            {
                "name": f"m{m}", "storage_gb": round(r.uniform(2, 9), 2), "gpu_memory_gb": r.uniform(1, 8),
                "warmup_s": r.choice([0, 1]),
                "latency": {"base_s": r.uniform(0, 6), "per_step_s": r.choice([0, r.uniform(0.05, 0.3)])},
                "quality": curve(),
            }
            for m in range(models)
        ],
        "edge": {
            "storage_gb": r.choice([0, r.uniform(1, 20), r.uniform(1, 20)]),
            "steps_per_slot": r.choice([0, 20, 100, 200, 400, 1000]), "min_steps": least, "max_steps": most,
            "uplink_mhz": 20, "downlink_mhz": 40, "power_w": 20, "backhaul_mbps": r.choice([0.5, 1, 20]),
            "cloud_gbps": 5, "io_gb_per_s": 2,
        },
        "user_power_w": [r.choice([0.1, 0.2, 1]) for _ in range(users)],
        "cloud": {"steps": r.choice([20, 170]), "latency": {"base_s": r.uniform(0, 8), "per_step_s": 0.12}},
        "serve_all_hits": r.random() < 0.5,
        "initial_cache": None if r.random() < 0.5 else [r.randint(0, 1) for _ in range(models)],
        "weights": {
            "delay": r.choice([0, 0.4, 0.7]), "quality": r.choice([0.3, 0.6]), "switching": r.choice([0, 0, 0.1, 0.5])
        },
        "requests": {
            "model": model,
            "input_mbit": grid(lambda: 0 if r.random() < 0.1 else round(r.uniform(0.1, 10), 3)),
            "output_mbit": grid(lambda: 0 if r.random() < 0.1 else round(r.uniform(0.1, 10), 3)),
            "uplink_gain": grid(lambda: 10 ** r.uniform(-14, -7)),
            "downlink_gain": grid(lambda: 10 ** r.uniform(-14, -7)),
        },
    }  # fmt: skip
    return TwoTimescaleInstance.from_dict(data | changes)


def loss_at(curve: dict, steps: float) -> float:
    """Quality loss, straight from the format page."""
    if curve["kind"] == "exponential":
        return curve["floor"] + (curve["ceiling"] - curve["floor"]) * math.exp(-steps / curve["scale"])
    if curve["kind"] == "power":
        return curve["floor"] + curve["coefficient"] * steps ** -curve["exponent"]
    points = curve["points"]
    if steps <= points[0][0]:
        return points[0][1]
    for (a, x), (b, y) in itertools.pairwise(points):
        if steps <= b:
            return x + (y - x) * (steps - a) / (b - a)
    return points[-1][1]


def transfer_s(sizes, gains, powers, hertz: float, noise: float) -> float:
    """Least total transfer time of one slot and direction: bisection on the price of bandwidth."""
    sent = [(size, gain * power) for size, gain, power in zip(sizes, gains, powers, strict=True) if size > 0]
    if not sent:
        return 0.0

    def time(b, size, signal):
        return 1e6 * size / (b * hertz * math.log1p(signal / (noise * b * hertz)) / math.log(2))

    def saving(b, size, signal):
        x = signal / (noise * b * hertz)
        log = math.log1p(x)
        excess = log - x / (1 + x) if x > 1e-5 else x * x / 2 - 2 * x**3 / 3
        return 1e6 * size * math.log(2) / hertz * excess / (b * log) ** 2

    def share(price, size, signal):
        if saving(1.0, size, signal) >= price:
            return 1.0
        gap = lambda y: math.log(saving(math.exp(y), size, signal)) - math.log(price)  # noqa: E731
        return math.exp(brentq(gap, -60, 0, xtol=1e-14, maxiter=1000))

    if len(sent) == 1:
        return time(1.0, *sent[0])
    low = min(saving(1.0, *item) for item in sent)
    high = max(saving(1e-3, *item) for item in sent)
    total = lambda y: sum(share(math.exp(y), *item) for item in sent) - 1  # noqa: E731
    price = math.exp(brentq(total, math.log(low) - 1, math.log(high) + 5, xtol=1e-14, maxiter=1000))
    shares = [share(price, *item) for item in sent]
    return sum(time(b / sum(shares), *item) for b, item in zip(shares, sent, strict=True))


def steps_cost(models: list[dict], served: tuple[int, ...], weights: dict, edge: dict) -> float:
    """Least weighted generation delay and loss of requests for the models `served`; inf where they do not fit.

    Some optimal allocation has each request at an end, a breakpoint or, on smooth convex pieces, at a common price, and
    at most one inside a linear piece. All choices are tried.
    """
    least, most, budget = edge["min_steps"], edge["max_steps"], edge["steps_per_slot"]
    if len(served) * least > budget + 1e-9:
        return math.inf

    def cost(m, s):
        latency = models[m]["latency"]
        delay = latency["base_s"] + latency["per_step_s"] * s
        return weights["delay"] * delay + weights["quality"] * loss_at(models[m]["quality"], s)

    pieces = [m for m in served if models[m]["quality"]["kind"] == "piecewise_linear"]
    smooth = [m for m in served if models[m]["quality"]["kind"] != "piecewise_linear"]
    vertices = {
        m: sorted({least, most} | {s for s, _ in models[m]["quality"]["points"] if least < s < most})
        for m in set(pieces)
    }

    @cache
    def at_price(m, price):
        found = minimize_scalar(
            lambda s: cost(m, s) + price * s, bounds=(least, most), method="bounded", options={"xatol": 1e-11}
        )
        return min((cost(m, s) + price * s, s) for s in (least, most, found.x))[1]

    def share_smooth(room):
        if not smooth:
            return 0.0
        if len(smooth) * least > room + 1e-9:
            return math.inf
        steps = [at_price(m, 0.0) for m in smooth]
        if sum(steps) > room:
            low, high = -14.0, 7.0  # logarithms of the price
            for _ in range(60):
                middle = 0.5 * (low + high)
                fits = sum(at_price(m, 10**middle) for m in smooth) <= room
                low, high = (low, middle) if fits else (middle, high)
            steps = [at_price(m, 10**high) for m in smooth]
            left = room - sum(steps)
            steps = [min(most, s + left / len(smooth)) for s in steps]
        return sum(cost(m, s) for m, s in zip(smooth, steps, strict=True))

    best = math.inf
    for odd in [None, *range(len(pieces))]:
        rest = [m for i, m in enumerate(pieces) if i != odd]
        for steps in itertools.product(*(vertices[m] for m in rest)):
            room = budget - sum(steps)
            if room < -1e-9:
                continue
            base = sum(cost(m, s) for m, s in zip(rest, steps, strict=True))
            if odd is None:
                best = min(best, base + share_smooth(room))
                continue
            m = pieces[odd]
            if not smooth:
                if room >= least - 1e-9:
                    places = [v for v in vertices[m] if v <= room] + [min(max(room, least), most)]
                    best = min(best, base + min(cost(m, s) for s in places))
                continue
            for a, b in itertools.pairwise(vertices[m]):  # inside a piece smooth ones stand at the piece's slope
                price = -(cost(m, b) - cost(m, a)) / (b - a)
                if price >= 0:
                    others = [at_price(k, price) for k in smooth]
                    s = room - sum(others)
                    if a <= s <= b:
                        best = min(best, base + cost(m, s) + sum(map(cost, smooth, others)))
    return best


def optimum(instance: TwoTimescaleInstance) -> float:
    """Optimal objective: every cache of every frame, every choice of places, dynamic programming over frames."""
    data = instance.to_dict()
    models, edge, away, requests = data["models"], data["edge"], data["cloud"], data["requests"]
    weights = data["weights"]
    frames, slots = len(requests["model"]), len(requests["model"][0])
    noise = 10 ** ((edge["noise_dbm_per_hz"] - 30) / 10)

    @cache
    def steps(served):
        return steps_cost(models, served, weights, edge)

    transfers, asked = 0.0, []
    for t in range(frames):
        asked.append([])
        for k in range(slots):
            wanted = [None if m is None else int(m) for m in requests["model"][t][k]]
            who = [u for u, m in enumerate(wanted) if m is not None]
            of = lambda key: [requests[key][t][k][u] for u in who]  # noqa: B023, E731
            powers = [data["user_power_w"][u] for u in who]
            up = transfer_s(of("input_mbit"), of("uplink_gain"), powers, 1e6 * edge["uplink_mhz"], noise)
            power = [edge["power_w"]] * len(who)
            down = transfer_s(of("output_mbit"), of("downlink_gain"), power, 1e6 * edge["downlink_mhz"], noise)
            transfers += weights["delay"] * (up + down)
            seconds = away["latency"]["base_s"] + away["latency"]["per_step_s"] * away["steps"]
            cloud = []
            for u, size in zip(who, map(sum, zip(of("input_mbit"), of("output_mbit"), strict=True)), strict=True):
                loss = weights["quality"] * loss_at(models[wanted[u]]["quality"], away["steps"])
                cloud.append(weights["delay"] * (size / edge["backhaul_mbps"] + seconds) + loss)
            asked[-1].append(list(zip([wanted[u] for u in who], cloud, strict=True)))
    size = [m["storage_gb"] for m in models]
    caches = [
        x for x in itertools.product((0, 1), repeat=len(models))
        if sum(itertools.compress(size, x)) <= edge["storage_gb"]
    ]  # fmt: skip

    def slot(requests, x):
        hits = [i for i, (m, _) in enumerate(requests) if x[m]]
        places = [(True,) * len(hits)] if data["serve_all_hits"] else itertools.product((True, False), repeat=len(hits))
        best = math.inf
        for place in places:
            edge_side = set(itertools.compress(hits, place))
            generation = steps(tuple(sorted(requests[i][0] for i in edge_side)))
            best = min(best, generation + sum(c for i, (_, c) in enumerate(requests) if i not in edge_side))
        return best

    switch = [
        slots * weights["switching"]
        * (8 * m["storage_gb"] / edge["cloud_gbps"] + m["gpu_memory_gb"] / edge["io_gb_per_s"] + m["warmup_s"])
        for m in models
    ]  # fmt: skip

    def change(before, after):
        return sum(s for s, a, b in zip(switch, before, after, strict=True) if b and not a)

    initial = data["initial_cache"] or [0] * len(models)
    total = {initial_cache: 0.0 for initial_cache in [tuple(initial)]}
    for t in range(frames):
        total = {
            x: sum(slot(requests, x) for requests in asked[t]) + min(c + change(b, x) for b, c in total.items())
            for x in caches
        }
    return (min(total.values()) + transfers) / (frames * slots)
