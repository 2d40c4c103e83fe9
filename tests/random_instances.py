"""Tiny random instances of all problems and every shape, all methods on each, and what must hold between them."""

from __future__ import annotations

import math
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import aigc_opt
from aigc_opt.instance.base import Instance
from aigc_opt.instance.deployment import DeploymentInstance
from aigc_opt.instance.offloading import OffloadingInstance
from aigc_opt.problems.problem import problem_of
from tests.deployment import tiny as deployment
from tests.offloading import tiny as offloading
from tests.two_timescale import tiny as two_timescale

PROBLEMS = ("deployment", "offloading", "two_timescale")
GAPS = (0.0, 1e-9, 1e-6, 1e-4, 0.02)
TOLERANCE = 1e-6
"""Relative: that of every checker's own constraints, and of HiGHS."""
ABSOLUTE = 1e-9
SCIP_EVERY = 30
"""SCIP solves one in so many of the instances that it can: each costs the start of a process."""
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
        return _changed_deployment(made, r)
    if problem == "offloading":
        return _changed_offloading(offloading.tiny(seed, r.choice([1, 2, 3, 4]), r.choice([1, 2, 3])), r)
    return two_timescale.tiny(seed)


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
        # SCIP needs longer than that to start, and then has nothing to say.
        result = aigc_opt.solve(
            instance, name, solver, gap=max(gap, 1e-6) if solver == "scip" else gap,
            time_limit=60 if solver == "scip" else limit or longest.get(name), seed=seed % 5,
            bound=name == bounded or name in (problem.default_method, "exact"),
        )  # fmt: skip
        ends.add(f"{name} {solver or ''}".strip(), result)
        if index == saved and result.solution is not None:
            with tempfile.TemporaryDirectory() as folder:
                result.save(Path(folder) / "result.json")
                checked = aigc_opt.check(instance, Path(folder) / "result.json")
            assert checked.feasible, f"{instance.name}: {name}'s file is refused: {checked.violations[0]}"
    ends.add("bound", aigc_opt.bound(instance, time_limit=limit))
    if size_of(instance) <= ENUMERATED[problem.name]:
        optimum = OPTIMUM[problem.name](instance)
        if optimum is None or math.isinf(optimum):
            ends.infeasible.append("enumeration")
        else:
            ends.lower["enumeration"] = ends.upper["enumeration"] = optimum
    ends.compare()


class Ends:
    """Both ends of the intervals of several methods on one instance."""

    def __init__(self, name: str):
        self.name = name
        self.lower: dict[str, float] = {}
        self.upper: dict[str, float] = {}
        self.infeasible: list[str] = []

    def add(self, method: str, result: aigc_opt.Result) -> None:
        """Take a result's ends, which must be those of an interval."""
        if result.lower_bound is not None:
            self.lower[method] = result.lower_bound
        if result.objective is not None:
            assert result.checked
            self.upper[method] = result.objective
        if result.status == "infeasible":
            assert result.objective is None and result.reasons
            self.infeasible.append(method)
        if result.status == "optimal":
            assert result.gap is not None and result.gap <= result.gap_tolerance
        if result.limit is None and method in EXACT:
            ended = ("optimal", "infeasible")
            assert result.status in ended or _tiny_gap(result), f"{self.name}: {method} ends with {result!r}"

    def compare(self) -> None:
        """No bound above a point, no point where there is none."""
        assert not (self.infeasible and self.upper), f"{self.name}: {self.infeasible} infeasible, but {self.upper}"
        if self.infeasible or not (self.lower and self.upper):
            return
        low, high = max(self.lower, key=self.lower.__getitem__), min(self.upper, key=self.upper.__getitem__)
        most = self.upper[high] + TOLERANCE * abs(self.upper[high]) + ABSOLUTE
        assert self.lower[low] <= most, (
            f"{self.name}: {low}'s bound {self.lower[low]!r} is above {high}'s point {self.upper[high]!r}"
        )


EXACT = ("exact", "monolith", "exact scip", "decomposition", "outer-approximation", "benders")


def _tiny_gap(result: aigc_opt.Result) -> bool:
    """Whether an interval is as narrow as sums of doubles allow, where less was asked for."""
    if result.objective is None or result.lower_bound is None:
        return False
    return result.objective - result.lower_bound <= TOLERANCE * max(abs(result.objective), 1e-3)
