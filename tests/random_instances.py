"""Tiny random instances of all problems and every shape, all methods on each, and what must hold between them.

Two in three are ordinary: magnitudes of the literature. The third is wide: magnitudes over several powers of ten,
limits that are null, zero or exactly what is asked for, twins, curves that fall below zero or not at all.
"""

from __future__ import annotations

import math
import random
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aigc_opt
from aigc_opt.certificates.certificate import KINDS
from aigc_opt.certificates.rationals import double_below
from aigc_opt.instance.base import Instance
from aigc_opt.instance.deployment import DeploymentInstance
from aigc_opt.instance.offloading import OffloadingInstance
from aigc_opt.instance.two_timescale import TwoTimescaleInstance
from aigc_opt.problems.problem import problem_of
from tests.deployment import tiny as deployment
from tests.offloading import tiny as offloading
from tests.two_timescale import tiny as two_timescale

PROBLEMS = ("deployment", "offloading", "two_timescale")
GAPS = (0.0, 1e-9, 1e-6, 1e-4, 0.02)
TOLERANCE = 1e-6
"""Relative: that of every checker's own constraints, and of HiGHS."""
ABSOLUTE = 1e-9
ROUNDING = 1e-12
"""Relative to the dearest point that a method finds."""
WIDE_EVERY = 3
"""One in so many instances of each problem is wide."""
SCIP_EVERY = 31
"""SCIP solves one in so many of the instances that it can: each costs the start of a process. (31, 40 and 20 are prime
to `WIDE_EVERY`, so that ordinary and wide instances get all of it.)"""
CERTIFIED_EVERY = 20
"""Of one in so many instances every kind of certificate is made, and checked as a file."""
SLOWEST_S = 10.0
"""Processor time that no method may take for a tiny instance."""
SHORT_EVERY = 7
"""One in so many instances is solved under a time limit that may end any stage."""

LONGEST_S = {"genetic": 0.03, "feature-aware": 0.06, "lagrangian": 0.15}
"""Seconds of methods that go on for a fixed number of rounds; all the time that they want on one in
`UNLIMITED_EVERY` instances."""
UNLIMITED_EVERY = 40

OPTIMUM: dict[str, Callable[[Instance], float | None]] = {
    "deployment": deployment.optimum, "offloading": offloading.optimum, "two_timescale": two_timescale.optimum
}  # fmt: skip
ENUMERATED = {"deployment": 4, "offloading": 2, "two_timescale": 12}
"""Size (see `size_of`) up to which the optimum is enumerated too."""


def random_instance(seed: int) -> Instance:
    """Instance of the problem `seed % 3`: the tiny ones of the problem's own tests, changed further."""
    r = random.Random(seed)
    problem = PROBLEMS[seed % 3]
    if problem == "deployment":
        made = deployment.tiny(seed, r.choice([1, 2, 2, 3]), r.choice([1, 2, 2, 3]), r.choice([1, 2, 2, 3]))
        return _wide_deployment(made, r) if _is_wide(seed) else _changed_deployment(made, r)
    if problem == "offloading":
        if _is_wide(seed):
            return _wide_offloading(offloading.tiny(seed, r.choice([1, 3, 6]), r.choice([1, 3])), r)
        return _changed_offloading(offloading.tiny(seed, r.choice([1, 2, 3, 4]), r.choice([1, 2, 3])), r)
    made = two_timescale.tiny(seed)
    return _wide_two_timescale(made, r) if _is_wide(seed) else made


def _is_wide(seed: int) -> bool:
    return seed // len(PROBLEMS) % WIDE_EVERY == WIDE_EVERY - 1


def _changed_deployment(instance: DeploymentInstance, r: random.Random) -> DeploymentInstance:
    data = instance.to_dict()
    if r.random() < 0.05:  # nobody asks
        data["arrivals"] = [[[0 for _ in row] for row in slot] for slot in data["arrivals"]]
    if r.random() < 0.1:  # a slot in which nobody asks
        data["arrivals"][-1] = [[0 for _ in row] for row in data["arrivals"][-1]]
    if r.random() < 0.05:
        data["weights"] = dict.fromkeys(data["weights"], 0)
    if r.random() < 0.1:
        data["cloud_delay_s"] = [0 for _ in data["cloud_delay_s"]]
    if r.random() < 0.1:  # models that differ in their names only
        data["models"] = [data["models"][0] | {"name": model["name"]} for model in data["models"]]
    if r.random() < 0.1:  # everything fits everywhere
        for server in data["servers"]:
            server |= {"storage_gb": 1000, "gpu_memory_gb": 1000}
    if r.random() < 0.1:  # one limit exactly at what is asked
        server = r.choice(data["servers"])
        server["storage_gb"] = sum(model["storage_gb"] for model in data["models"])
    if r.random() < 0.1:
        scale = r.choice([1e-4, 1e4])
        data["arrivals"] = [[[scale * x for x in row] for row in slot] for slot in data["arrivals"]]
        for server in data["servers"]:
            for key in ("gpu_s", "energy_j"):
                if server[key] is not None:
                    server[key] *= scale
    return DeploymentInstance.from_dict(data)


def _changed_offloading(instance: OffloadingInstance, r: random.Random) -> OffloadingInstance:
    data = instance.to_dict()
    for model in data["models"]:
        if r.random() < 0.3:
            model["quality"] = r.choice(
                [
                    {"kind": "exponential", "floor": r.uniform(0, 0.3), "ceiling": r.uniform(0.3, 1), "scale": 15},
                    {"kind": "power", "floor": r.uniform(0, 0.2), "coefficient": 3, "exponent": r.uniform(0.3, 1.5)},
                    {"kind": "piecewise_linear", "points": [[0, 0.9], [r.randint(5, 40), 0.2]]},
                    {"kind": "piecewise_linear", "points": [[20, 0.5]]},
                ]
            )
    for server in data["servers"]:
        if r.random() < 0.15:
            server["hosts"] = [r.choice(data["models"])["name"]]
        if r.random() < 0.1:
            server["ghz"] *= r.choice([0.1, 10])
    for user in data["users"]:
        if r.random() < 0.1:
            user["uplink_mbps"] = [0 for _ in user["uplink_mbps"]]
        if r.random() < 0.1:
            user["input_mbit"] = user["output_mbit"] = 0
        if r.random() < 0.1:
            user["battery_j"] = 0
    if r.random() < 0.1:
        data["weights"] = {key: 0 for key in data["weights"]}
    if r.random() < 0.1:  # twins
        data["users"] = [data["users"][0] | {"name": user["name"]} for user in data["users"]]
    if r.random() < 0.1:
        data["steps"]["max"] = data["steps"]["min"]
    return OffloadingInstance.from_dict(data)


def _power(r: random.Random, least: float, most: float) -> float:
    """Number between two powers of ten, of even chance in each decade, often a round one."""
    value = 10 ** r.uniform(least, most)
    return r.choice([value, float(f"{value:.2g}"), float(f"{value:.0e}")])


def _weights(r: random.Random, keys: Any) -> dict[str, float]:
    return {key: r.choice([0, 1, _power(r, -3, 3)]) for key in keys}


def _just(r: random.Random, needed: float, most: float) -> float:
    """Limit at what is needed, a little to either side, nothing, or somewhere below `most`."""
    return r.choice([needed, needed, 0.999 * needed, 1.001 * needed, 0, r.uniform(0, most), 1000 * most])


def _some(r: random.Random, sizes: list[float]) -> float:
    """Sum of some of the sizes, in any order: the last digit may be another one than in the checker's."""
    return sum(r.sample(sizes, r.randint(1, len(sizes))))


def _twins(things: list[dict]) -> list[dict]:
    return [things[0] | {"name": thing["name"]} for thing in things]


def _wide_deployment(instance: DeploymentInstance, r: random.Random) -> DeploymentInstance:
    data = instance.to_dict()
    models, servers = data["models"], data["servers"]
    for model in models:
        size = _power(r, -1, 2) if r.random() < 0.5 else 1
        model |= {
            "storage_gb": size * model["storage_gb"], "gpu_memory_gb": size * model["gpu_memory_gb"],
            "warmup_s": r.choice([0, model["warmup_s"], _power(r, 0, 4)]),
            "load_j": r.choice([0, model["load_j"], _power(r, 0, 4)]),
            "nominal_steps": r.choice([0, 1, r.randint(2, 200)]),
            "latency": {"base_s": r.choice([0, _power(r, -3, 2)]), "per_step_s": r.choice([0, _power(r, -4, 0)])},
            "energy": {"base_j": r.choice([0, _power(r, -2, 3)]), "per_step_j": r.choice([0, _power(r, -3, 1)])},
        }  # fmt: skip
    data["cloud_delay_s"] = [r.choice([0, _power(r, -2, 3), _power(r, 0, 1)]) for _ in models]
    if r.random() < 0.3:
        models = data["models"] = _twins(models)
        data["cloud_delay_s"] = [data["cloud_delay_s"][0] for _ in models]
    many, each = _power(r, 0, 7), r.random() < 0.5
    data["arrivals"] = [
        [[asked * (_power(r, 0, 5) if each else many) / 5 for asked in row] for row in slot]
        for slot in data["arrivals"]
    ]
    if r.random() < 0.3:
        data["arrivals"] = [[[float(round(x)) for x in row] for row in slot] for slot in data["arrivals"]]
    if r.random() < 0.1:
        data["arrivals"] = [[[0 for _ in row] for row in slot] for slot in data["arrivals"]]
    work = [m["latency"]["base_s"] + m["latency"]["per_step_s"] * m["nominal_steps"] for m in models]
    joules = [m["energy"]["base_j"] + m["energy"]["per_step_j"] * m["nominal_steps"] for m in models]
    slot = r.choice(data["arrivals"])
    for j, server in enumerate(servers):
        for key in ("storage_gb", "gpu_memory_gb"):
            sizes = [model[key] for model in models]
            server[key] = _just(r, _some(r, sizes), sum(sizes))
        server["cloud_gbps"], server["io_gb_per_s"] = _power(r, -2, 3), _power(r, -2, 3)
        for key, use, extra in (("gpu_s", work, 0), ("energy_j", joules, models[0]["load_j"])):
            asked = sum(x * u for x, u in zip(slot[j], use, strict=True))
            everywhere = sum(x * u for row in slot for x, u in zip(row, use, strict=True))
            server[key] = None if r.random() < 0.5 else _just(r, asked + r.choice([0, extra]), everywhere)
    if r.random() < 0.3:  # just room for everything, and no other limit
        for server in servers:
            server |= {key: sum(model[key] for model in models) for key in ("storage_gb", "gpu_memory_gb")}
            server |= {"gpu_s": None, "energy_j": None}
    if r.random() < 0.3:
        servers = data["servers"] = _twins(servers)
        data["arrivals"] = [[slot[0] for _ in slot] for slot in data["arrivals"]]
        if data["peer_delay_s"] is not None:
            delay = r.choice([0, _power(r, -2, 2)])
            data["peer_delay_s"] = [[0 if i == j else delay for j in range(len(servers))] for i in range(len(servers))]
    elif data["peer_delay_s"] is not None:
        data["peer_delay_s"] = [[x and x * _power(r, -2, 2) for x in row] for row in data["peer_delay_s"]]
    if r.random() < 0.2:  # everything is there before, whether it fits or not
        full = [[1 for _ in models] for _ in servers]
        data["initial"] = {"stored": full, "loaded": full}
    data["weights"] = _weights(r, data["weights"])
    return DeploymentInstance.from_dict(data)


def _wide_curve(r: random.Random, least_steps: float, scale: float) -> dict:
    """Quality curve of any kind; some fall below zero, some do not fall."""
    low = r.choice([0, 0, -1, 0.5]) * scale
    high = low + r.choice([0, 1, r.random()]) * scale
    kind = r.choice(["exponential", "power", "points", "points"])
    if kind == "exponential":
        return {"kind": kind, "floor": low, "ceiling": high, "scale": _power(r, -1, 3)}
    if kind == "power" and least_steps >= 1:
        return {"kind": kind, "floor": low, "coefficient": scale * _power(r, -2, 2), "exponent": r.uniform(0.05, 3)}
    steps = sorted(r.sample(range(100), r.randint(1, 4)))
    loss = sorted((r.choice([low, high, r.uniform(low, high)]) for _ in steps), reverse=True)
    return {"kind": "piecewise_linear", "points": [list(point) for point in zip(steps, loss, strict=True)]}


def _wide_offloading(instance: OffloadingInstance, r: random.Random) -> OffloadingInstance:
    data = instance.to_dict()
    low = r.choice([0, 1, 10])
    stride = r.choice([5, 10, 100])
    data["steps"] = {"min": low, "max": low + r.choice([0, 0, stride, 2 * stride + 3]), "stride": stride}
    if data["steps"]["max"] > 60:
        data["steps"]["max"] = low
    seconds, loss = _power(r, -2, 2), _power(r, -2, 3)
    for model in data["models"]:
        model["quality"] = _wide_curve(r, low, loss)
        work = model["workload"]
        for key in work:
            work[key] *= seconds * r.choice([1, 1, _power(r, -1, 1)])
        if r.random() < 0.1:
            work["per_step_gcycles"] = 0
    models = {model["name"]: model["workload"] for model in data["models"]}
    for server in data["servers"]:
        server["ghz"] *= r.choice([1, 1, _power(r, -2, 3)])
        if r.random() < 0.3:
            server["hosts"] = r.choice([None, [r.choice(data["models"])["name"]]])
    if data["servers"] and r.random() < 0.3:
        data["servers"] = _twins(data["servers"])
    for user in data["users"]:
        work = models[user["model"]]
        least = work["base_gcycles"] + work["per_step_gcycles"] * low
        user["max_delay_s"] *= seconds
        user["input_mbit"] *= r.choice([0, 1, seconds, _power(r, -3, 3)])
        user["output_mbit"] *= r.choice([0, 1, seconds, _power(r, -3, 3)])
        for key in ("uplink_mbps", "downlink_mbps"):
            user[key] = [x * r.choice([1, 1, 1, 0, _power(r, -2, 3)]) for x in user[key]]
        user["weight"] = r.choice([0, 1, 1, user["weight"], _power(r, -3, 3)])
        user["rejection_penalty"] = r.choice([None, 0, user["rejection_penalty"], loss, _power(r, -3, 4)])
        user["transmit_power_w"] = _power(r, -3, 1)
        if user["device"]:
            user["device"]["max_ghz"] *= r.choice([1, 1, _power(r, -1, 1)])
            user["device"]["kappa"] *= r.choice([0, 1, 1, _power(r, -3, 3)])
        if r.random() < 0.1:
            user["device"] = None
        ways = [
            (user["input_mbit"] / up, user["input_mbit"] / up + user["output_mbit"] / down + least / server["ghz"])
            for up, down, server in zip(user["uplink_mbps"], user["downlink_mbps"], data["servers"], strict=True)
            if up > 0 and down > 0
        ]
        if ways and r.random() < 0.4:  # a deadline, a battery that just do for a server of one's own
            sending, all_told = r.choice(ways)
            user["max_delay_s"] = r.choice([1, 1, 1.001, 0.999, 2]) * all_told
            user["battery_j"] = r.choice([user["battery_j"], 0, user["transmit_power_w"] * sending])
        elif user["device"] and r.random() < 0.4:  # for the device at its highest speed
            speed = user["device"]["max_ghz"]
            user["max_delay_s"] = r.choice([1, 1, 1.001, 0.999, 2]) * least / speed
            user["battery_j"] = r.choice([1, 1, 1.001, 0.999, 0]) * user["device"]["kappa"] * least * speed**2
    if r.random() < 0.2:
        data["users"] = _twins(data["users"])
    if r.random() < 0.2:  # servers that the least speeds of all users fill exactly
        for i, server in enumerate(data["servers"]):
            needed = 0.0
            for user in data["users"]:
                up, down, work = user["uplink_mbps"][i], user["downlink_mbps"][i], models[user["model"]]
                rest = user["max_delay_s"] - user["input_mbit"] / up - user["output_mbit"] / down if up and down else 0
                if rest > 0:
                    needed += (work["base_gcycles"] + work["per_step_gcycles"] * low) / rest
            server["ghz"] = needed or server["ghz"]
    data["weights"] = _weights(r, data["weights"])
    return OffloadingInstance.from_dict(data)


def _wide_two_timescale(instance: TwoTimescaleInstance, r: random.Random) -> TwoTimescaleInstance:
    data = instance.to_dict()
    edge, models, requests = data["edge"], data["models"], data["requests"]
    loss, seconds = _power(r, -3, 3), _power(r, -2, 2)
    edge["min_steps"] = least = r.choice([0, 1, 7.5, edge["min_steps"]])
    edge["max_steps"] = most = max(least + r.choice([0, 0.5, 50, _power(r, 0, 4)]), 1)
    data["cloud"] = {
        "steps": r.choice([0, 1, 50]),
        "latency": {"base_s": r.choice([0, _power(r, -1, 2)]), "per_step_s": r.choice([0, _power(r, -3, 0)])},
    }
    for model in models:
        size = _power(r, -1, 2) if r.random() < 0.5 else 1
        model |= {
            "storage_gb": size * model["storage_gb"], "gpu_memory_gb": size * model["gpu_memory_gb"],
            "warmup_s": r.choice([0, 1, _power(r, -2, 4)]),
            "latency": {"base_s": r.choice([0, seconds]), "per_step_s": r.choice([0, seconds * _power(r, -3, 0)])},
            "quality": _wide_curve(r, min(least, data["cloud"]["steps"]), loss),
        }  # fmt: skip
    if r.random() < 0.3:
        models = data["models"] = _twins(models)
    size = [model["storage_gb"] for model in models]
    edge["storage_gb"] = _just(r, _some(r, size), sum(size))
    asked = max(sum(m is not None for m in slot) for frame in requests["model"] for slot in frame)
    edge["steps_per_slot"] = r.choice([_just(r, asked * least, asked * most), _just(r, asked * most, asked * most)])
    edge |= {
        "uplink_mhz": _power(r, -1, 3), "downlink_mhz": _power(r, -1, 3), "power_w": _power(r, -1, 2),
        "noise_dbm_per_hz": r.choice([-174, -174, -150, -200]), "backhaul_mbps": _power(r, -2, 4),
        "cloud_gbps": _power(r, -2, 3), "io_gb_per_s": _power(r, -2, 3),
    }  # fmt: skip
    data["user_power_w"] = [_power(r, -2, 1) for _ in data["user_power_w"]]
    large = r.choice([1, _power(r, -3, 3)])
    for key in ("input_mbit", "output_mbit"):
        requests[key] = [[[x and x * r.choice([1, large]) for x in s] for s in frame] for frame in requests[key]]
    for key in ("uplink_gain", "downlink_gain"):
        far = r.choice([1, _power(r, -3, 3)])
        requests[key] = [[[x and x * r.choice([1, far]) for x in s] for s in frame] for frame in requests[key]]
    if r.random() < 0.1:  # nobody asks
        requests["model"] = [[[None for _ in slot] for slot in frame] for frame in requests["model"]]
    if r.random() < 0.2:  # users who are all alike
        data["user_power_w"] = [data["user_power_w"][0] for _ in data["user_power_w"]]
        for key, values in requests.items():
            requests[key] = [[[slot[0] for _ in slot] for slot in frame] for frame in values]
    if r.random() < 0.2:  # everything is there before, whether it fits or not
        data["initial_cache"] = [1 for _ in models]
    data["weights"] = _weights(r, data["weights"])
    return TwoTimescaleInstance.from_dict(data)


def size_of(instance: Instance) -> int:
    """Size that the enumeration's time goes with."""
    if instance.problem == "deployment":
        slots, servers, models = instance.shape
        return slots * servers * models
    if instance.problem == "offloading":
        return len(instance.users)
    frames, slots, users = instance.requests.model.shape
    return frames * slots * users


def check_all_methods(seed: int) -> None:
    """Solve instance `seed` by every method; AssertionError names the first thing that does not hold."""
    instance = random_instance(seed)
    r = random.Random(-seed - 1)
    problem = problem_of(instance)
    gap = r.choice(GAPS)
    limit = r.choice([1e-3, 0.01, 0.05]) if seed % SHORT_EVERY == 0 else None
    ends = Ends(instance.name)
    bounded = r.choice(list(problem.methods))
    calls = [(name, None) for name in problem.methods if (name, problem.name) != ("exact", "two_timescale")]
    if "scip" in problem.solvers and seed // 3 % SCIP_EVERY == 0:
        calls.append((problem.method_of_solver["scip"], "scip"))
    longest = LONGEST_S if problem.name == "deployment" and seed // 3 % UNLIMITED_EVERY else {}
    saved = r.randrange(len(calls))
    for index, (name, solver) in enumerate(calls):
        began = time.process_time()
        # SCIP needs longer than that to start, and then has nothing to say.
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            result = aigc_opt.solve(
                instance, name, solver, gap=max(gap, 1e-6) if solver == "scip" else gap,
                time_limit=60 if solver == "scip" else limit or longest.get(name), seed=seed % 5,
                bound=name == bounded or name in (problem.default_method, "exact"),
            )  # fmt: skip
        refuted = any("left out" in str(warning.message) for warning in told)
        spent = time.process_time() - began
        assert spent <= SLOWEST_S, f"{instance.name}: {name} took {spent:.1f} s"
        ends.add(f"{name} {solver or ''}".strip(), result, refuted)
        if index == saved and result.solution is not None:
            with tempfile.TemporaryDirectory() as folder:
                result.save(Path(folder) / "result.json")
                checked = aigc_opt.check(instance, Path(folder) / "result.json")
            assert checked.feasible, f"{instance.name}: {name}'s file is refused: {checked.violations[0]}"
    ends.add("bound", aigc_opt.bound(instance, time_limit=limit))
    if seed % CERTIFIED_EVERY == 0:
        add_certificates(instance, ends)
    if size_of(instance) <= ENUMERATED[problem.name]:
        optimum = OPTIMUM[problem.name](instance)
        if optimum is None or math.isinf(optimum):
            ends.infeasible.append("enumeration")
        else:
            ends.lower["enumeration"] = ends.upper["enumeration"] = optimum
    ends.compare()


def add_certificates(instance: Instance, ends: Ends) -> None:
    """Certify a bound in every way that there is; the files must be accepted, and the bounds are valid ones."""
    for kind in KINDS[instance.problem]:
        certificate = aigc_opt.certify(instance, kind)
        if certificate is None:
            assert instance.problem == "offloading", f"{instance.name}: no certificate by {kind}"
            continue
        with tempfile.TemporaryDirectory() as folder:
            certificate.save(Path(folder) / "made.certificate.json")
            verdict = aigc_opt.check_certificate(instance, Path(folder) / "made.certificate.json")
        assert verdict.accepted and verdict.value is not None, f"{instance.name}: {kind}: {verdict.reason}"
        ends.lower[f"certificate by {kind}"] = double_below(verdict.value)


class Ends:
    """Both ends of the intervals of several methods on one instance."""

    def __init__(self, name: str):
        self.name = name
        self.lower: dict[str, float] = {}
        self.upper: dict[str, float] = {}
        self.infeasible: list[str] = []

    def add(self, method: str, result: aigc_opt.Result, refuted: bool = False) -> None:
        """Take a result's ends, which must be those of an interval.

        Where a solver's word was refuted by a checked point (it says so), the interval need not be closed.
        """
        if result.lower_bound is not None:
            self.lower[method] = result.lower_bound
        if result.objective is not None:
            assert result.checked
            self.upper[method] = result.objective
        if result.status != "infeasible":
            said = [row.lower_bound for row in result.trace if row.lower_bound is not None]
            assert not said or (result.lower_bound is not None and max(said) <= result.lower_bound)
        if result.status == "infeasible":
            assert result.objective is None and result.reasons
            self.infeasible.append(method)
        if result.status == "optimal":
            assert result.gap is not None and result.gap <= result.gap_tolerance
        if result.limit is None and method in EXACT:
            done = result.status in ("optimal", "infeasible") or _tiny_gap(result)
            assert done or refuted, f"{self.name}: {method} ends with {result!r}"

    def compare(self) -> None:
        """No bound above a point, no point where there is none."""
        assert not (self.infeasible and self.upper), f"{self.name}: {self.infeasible} infeasible, but {self.upper}"
        if self.infeasible or not (self.lower and self.upper):
            return
        low, high = max(self.lower, key=self.lower.__getitem__), min(self.upper, key=self.upper.__getitem__)
        # Sums of doubles as large as the dearest point's are no better than their digits, where the best costs nothing.
        rounding = max(ABSOLUTE, ROUNDING * max(abs(upper) for upper in self.upper.values()))
        most = self.upper[high] + TOLERANCE * abs(self.upper[high]) + rounding
        assert self.lower[low] <= most, (
            f"{self.name}: {low}'s bound {self.lower[low]!r} is above {high}'s point {self.upper[high]!r}"
        )


EXACT = ("exact", "monolith", "exact scip", "decomposition", "outer-approximation", "benders")


def _tiny_gap(result: aigc_opt.Result) -> bool:
    """Whether an interval is as narrow as sums of doubles allow, where less was asked for."""
    if result.objective is None or result.lower_bound is None:
        return False
    return result.objective - result.lower_bound <= TOLERANCE * max(abs(result.objective), 1e-3)
