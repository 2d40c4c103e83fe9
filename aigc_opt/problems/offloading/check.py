"""The independent checker of offloading: instance and solution alone, no arithmetic shared with the formulations.

It goes from task to task as the problem's statement does, in plain Python, with its own evaluation of the quality
curves, and adds up what each server's tasks use.
"""

from __future__ import annotations

import itertools
import math

from aigc_opt.instance.offloading import OffloadingInstance, User
from aigc_opt.instance.profile import Quality
from aigc_opt.problems.offloading.solution import Assignment, OffloadingSolution
from aigc_opt.result import Check, Violation

TOLERANCE = 1e-6
"""A row g <= b may be broken by max(TOLERANCE, TOLERANCE |b|); steps may be this far from an integer."""


def check(instance: OffloadingInstance, solution: OffloadingSolution) -> Check:
    """Recompute the objective of a solution and find every constraint that it breaks.

    Parameters
    ----------
    instance : OffloadingInstance
    solution : OffloadingSolution

    Returns
    -------
    Check
        `objective` is None where some task has no value: at a place that it cannot reach, on a device that it does not
        have, computing in no time, rejected though it must be served, or with a cost that overflows.

    """
    violations: list[Violation] = []
    used = {server.name: 0.0 for server in instance.servers}
    terms: dict[str, list[float]] = {"quality": [], "delay": [], "energy": [], "rejection": []}
    valued = True
    if len(solution.tasks) != len(instance.users):
        amount = abs(len(solution.tasks) - len(instance.users))
        return Check(None, None, (Violation("one_task_a_user", "tasks", float(amount)),))
    for user, task in zip(instance.users, solution.tasks, strict=True):
        if task.user != user.name:
            violations.append(Violation("order_of_users", user.name, 1.0))
        if task.place == "rejected":
            cost = _rejected(user, task, violations)
        else:
            cost = _served(instance, user, task, used, violations)
        if cost is None:
            valued = False
            continue
        for name, value in cost.items():
            terms[name].append(value)
    for server in instance.servers:
        _row(violations, "server_speed", server.name, used[server.name], server.ghz)
    count = len(instance.users)
    sums = {name: math.fsum(values) / count for name, values in terms.items()}
    if not valued or not all(map(math.isfinite, sums.values())):
        return Check(None, None, tuple(violations))
    return Check(math.fsum(sums.values()), sums, tuple(violations))


def _row(violations: list[Violation], constraint: str, where: str, left: float, right: float) -> None:
    """Note a broken row left <= right; a left side that is no number breaks it."""
    if not left - right <= max(TOLERANCE, TOLERANCE * abs(right)):
        amount = left - right
        violations.append(Violation(constraint, where, amount if math.isfinite(amount) else 1e308))


def _rejected(user: User, task: Assignment, violations: list[Violation]) -> dict[str, float] | None:
    if task.steps is not None or task.computation_s is not None:
        violations.append(Violation("rejected_runs_nothing", user.name, 1.0))
    if user.rejection_penalty is None:
        violations.append(Violation("must_be_served", user.name, 1.0))
        return None
    return {"rejection": user.weight * user.rejection_penalty}


def _served(
    instance: OffloadingInstance, user: User, task: Assignment, used: dict[str, float], violations: list[Violation]
) -> dict[str, float] | None:
    """Weighted terms of a task that is served, or None where it has no value; adds to what its server uses."""
    where = f"{user.name} at {task.place}"
    steps, time = task.steps, task.computation_s
    if steps is None or time is None or not (math.isfinite(steps) and math.isfinite(time)):
        violations.append(Violation("served_has_steps_and_time", where, 1.0))
        return None
    whole = round(steps)
    if abs(steps - whole) > TOLERANCE:
        violations.append(Violation("steps_are_integer", where, abs(steps - whole)))
    grid = instance.steps
    if not grid.min <= whole <= grid.max:
        violations.append(Violation("steps_in_range", where, float(max(grid.min - whole, whole - grid.max))))
        if whole < grid.min:
            return None  # a curve, or the workload, may have no value there
    elif (whole - grid.min) % grid.stride:
        off = (whole - grid.min) % grid.stride
        violations.append(Violation("steps_on_grid", where, float(min(off, grid.stride - off))))
    if not time > 0:
        violations.append(Violation("positive_time", where, -time if time < 0 else 1.0))
        return None
    profile = next(model for model in instance.models if model.name == user.model)
    work = profile.workload.base_gcycles + profile.workload.per_step_gcycles * whole
    speed = work / time
    if task.place == "local":
        if user.device is None:
            violations.append(Violation("has_device", where, 1.0))
            return None
        _row(violations, "device_speed", where, speed, user.device.max_ghz)
        delay, energy = time, user.device.kappa * work * speed * speed
    else:
        names = [server.name for server in instance.servers]
        if task.place not in names:
            violations.append(Violation("known_place", where, 1.0))
            return None
        index = names.index(task.place)
        server = instance.servers[index]
        used[server.name] += speed
        if server.hosts is not None and user.model not in server.hosts:
            violations.append(Violation("hosted", where, 1.0))
        up, down = float(user.uplink_mbps[index]), float(user.downlink_mbps[index])
        if up <= 0 or down <= 0:
            violations.append(Violation("in_reach", where, 1.0))
            return None
        energy = user.transmit_power_w * user.input_mbit / up
        delay = user.input_mbit / up + time + user.output_mbit / down
    _row(violations, "deadline", where, delay, user.max_delay_s)
    _row(violations, "battery", where, energy, user.battery_j)
    weights = instance.weights
    return {
        "quality": user.weight * (weights.quality * _loss(profile.quality, whole)),
        "delay": user.weight * (weights.delay * delay),
        "energy": user.weight * (weights.energy * energy),
    }


def _loss(curve: Quality, steps: int) -> float:
    """Quality loss after `steps` steps."""
    if curve.kind == "exponential":
        return curve.floor + (curve.ceiling - curve.floor) * math.exp(-steps / curve.scale)
    if curve.kind == "power":
        return curve.floor + curve.coefficient / steps**curve.exponent
    points = [(float(s), float(q)) for s, q in curve.points]
    if steps <= points[0][0]:
        return points[0][1]
    for (left, high), (right, low) in itertools.pairwise(points):
        if steps <= right:
            return high + (low - high) * (steps - left) / (right - left)
    return points[-1][1]
