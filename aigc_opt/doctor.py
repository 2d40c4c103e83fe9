"""``aigc-opt doctor``: what is installed here, and whether it works: versions, extras, solvers, hardware, a self-test.

Nothing but the standard library is imported before it is looked at, so that a broken installation can be described.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import metadata
from typing import Any, NamedTuple

PACKAGE = "aigc_opt"
TOLERANCE = 1e-6
"""Relative distance that objective and bound of the self-test may have from the optimum computed by hand."""


class Finding(NamedTuple):
    """One line of the report.

    Attributes
    ----------
    section : str
    name : str
    text : str
    good : bool
        False = the package cannot be relied on like this; what is merely optional and missing is good.

    """

    section: str
    name: str
    text: str
    good: bool = True


class Requirement(NamedTuple):
    """One line of a package's metadata: a distribution, its lowest version and the extra that asks for it."""

    name: str
    lowest: str | None
    extra: str | None


def examine() -> Iterator[Finding]:
    """Look at everything, one finding at a time, so that each can be shown when it is there."""
    yield from _versions()
    yield from _extras()
    yield from _solvers()
    yield from _hardware()
    yield from _self_test()


# ------------------------------------------------------------------------------------------------------- versions


def requirements() -> list[Requirement]:
    """Return what the installed package's metadata asks for; nothing where it is imported from a bare folder."""
    try:
        lines = metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:
        return []
    found = []
    for line in lines:
        name = re.match(r"[A-Za-z0-9._-]+", line)
        lowest = re.search(r">=\s*([0-9][0-9A-Za-z.]*)", line.partition(";")[0])
        extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)", line)
        if name is not None:
            found.append(Requirement(name[0], lowest and lowest[1], extra and extra[1]))
    return found


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version without trailing zeros: 1.15.0rc1 -> (1, 15)."""
    numbers = [int(part) for part in re.findall(r"^\d*(?:\.\d+)*", version)[0].split(".") if part]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _fault_of(requirement: Requirement) -> str | None:
    """Return why a requirement is not met, or None."""
    found = _version(requirement.name)
    if found is None:
        return f"{requirement.name} is missing"
    if requirement.lowest is not None and _numbers(found) < _numbers(requirement.lowest):
        return f"{requirement.name} {found} is older than {requirement.lowest}"
    return None


def _versions() -> Iterator[Finding]:
    own = _version(PACKAGE)
    yield Finding("Versions", PACKAGE, own or "imported from a folder, not installed")
    yield Finding("Versions", "python", f"{platform.python_version()} ({sys.executable})")
    for requirement in requirements():
        if requirement.extra is None:
            fault = _fault_of(requirement)
            text = _version(requirement.name) or ""
            yield Finding("Versions", requirement.name, text if fault is None else f"NOT OK: {fault}", fault is None)


def _extras() -> Iterator[Finding]:
    asked = requirements()
    for extra in dict.fromkeys(requirement.extra for requirement in asked if requirement.extra is not None):
        faults = [_fault_of(requirement) for requirement in asked if requirement.extra == extra]
        lacking = ", ".join(fault for fault in faults if fault is not None)
        install = f'{lacking}; get it with: pip install "{PACKAGE}[{extra}]"'
        yield Finding("Extras", extra, install if lacking else "installed")


# -------------------------------------------------------------------------------------------------------- solvers


def _highs() -> str:
    import highspy

    numbers = (highspy.HIGHS_VERSION_MAJOR, highspy.HIGHS_VERSION_MINOR, highspy.HIGHS_VERSION_PATCH)
    return ".".join(map(str, numbers))


def _scip() -> str | None:
    try:
        from pyscipopt import Model
    except ModuleNotFoundError:
        return None
    return f"{Model().version()} (PySCIPOpt {_version('pyscipopt')})"


def _ipopt() -> str | None:
    from aigc_opt.errors import MissingSolverError
    from aigc_opt.problems.offloading.fixed import find_ipopt

    try:
        path = find_ipopt()
    except MissingSolverError:
        return None
    said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20, check=False).stdout
    return f"{said.partition(chr(10))[0].strip() or 'of unknown version'} ({path})"


SOLVERS: tuple[tuple[str, Callable[[], str | None], str], ...] = (
    ("HiGHS", _highs, ""),
    ("SCIP", _scip, "scip"),
    ("Ipopt-compatible", _ipopt, "ipopt"),
)
"""Name, what finds its version (None = not installed), and the extra that brings it."""


def _solvers() -> Iterator[Finding]:
    for name, look, extra in SOLVERS:
        try:
            found = look()
        except Exception as error:
            yield Finding("Solvers", name, f"NOT OK: {_words(error)}", False)
            continue
        missing = f'not installed; optional: pip install "{PACKAGE}[{extra}]"'
        yield Finding("Solvers", name, missing if found is None else found)


# ------------------------------------------------------------------------------------------------------- hardware


def _hardware() -> Iterator[Finding]:
    yield Finding("Hardware", "system", f"{platform.system()} {platform.release()}, {platform.machine()}")
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding("Hardware", "processors", f"{usable} usable of {os.cpu_count()}: {processor()}")
    try:
        size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        return
    yield Finding("Hardware", "memory", f"{size / 1e9:.1f} GB")


def processor() -> str:
    """Return the processor's own name where the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as stream:
            for line in stream:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


# ------------------------------------------------------------------------------------------------------ self-test

_HEAD = {"format": "aigc-opt/instance", "version": 1}

# Each optimum is computed by hand from docs/formulations.md, so that a wrong formulation shows, not only a broken
# installation.

# Only one model fits. `big`: the cloud is worth 10 - (1 + 10 * 0.1) = 8 s of each request, 80 s a slot, `small` 20 s.
# Delay in each of two slots 10 * 2 + 5 * 6 = 50; switching once 8 * 8 / 8 + 8 / 4 + 1 = 11; per slot 8 / 10 of the
# disk and 8 / 8 of the GPU memory. 2 * 50 + 11 + 2 * 0.8 + 2 * 1 = 114.6.
DEPLOYMENT = {
    **_HEAD, "problem": "deployment", "name": "doctor-deployment", "slot_s": 300,
    "models": [
        {"name": name, "storage_gb": 8, "gpu_memory_gb": 8, "warmup_s": 1, "nominal_steps": 10,
         "latency": {"base_s": 1, "per_step_s": 0.1}, "energy": {"base_j": 1, "per_step_j": 1}}
        for name in ("big", "small")
    ],
    "servers": [{"name": "edge", "storage_gb": 10, "gpu_memory_gb": 8, "cloud_gbps": 8, "io_gb_per_s": 4}],
    "cloud_delay_s": [10, 6], "peer_delay_s": None, "arrivals": [[[10, 5]], [[10, 5]]],
}  # fmt: skip

# More steps cost more delay than they gain. Two tasks of 9 and 16 gigacycles share 10 GHz by the square-root rule:
# (3 + 4)^2 / 10 = 4.9 s together, and 1 s of transfers each; loss 0.5 each; 0.2 W for 0.5 s each.
# (6.9 + 1 + 0.2) / 2 = 4.05.
OFFLOADING = {
    **_HEAD, "problem": "offloading", "name": "doctor-offloading",
    "models": [
        {"name": name, "workload": {"base_gcycles": base, "per_step_gcycles": each},
         "quality": {"kind": "piecewise_linear", "points": [[10, 0.5], [20, 0.1]]}}
        for name, base, each in (("light", 4, 0.5), ("heavy", 6, 1))
    ],
    "users": [
        {"name": f"user of {name}", "model": name, "input_mbit": 5, "output_mbit": 5, "max_delay_s": 20,
         "battery_j": 10, "transmit_power_w": 0.2, "uplink_mbps": [10], "downlink_mbps": [10], "device": None}
        for name in ("light", "heavy")
    ],
    "servers": [{"name": "edge", "ghz": 10, "hosts": None}],
    "steps": {"min": 10, "max": 20, "stride": 10}, "weights": {"quality": 1, "delay": 1, "energy": 1},
}  # fmt: skip

# Alone on 1 MHz at a ratio of signal to noise of 3, 2 Mbit take 1 s each way. At the edge 1 + 20 * 0.1 = 3 s, loss 10,
# and 1 + 1 + 1 s of switching; in the cloud 4 + 5 + 2 s and loss 10. 2 + 3 + 10 + 3 = 18.
TWO_TIMESCALE = {
    **_HEAD, "problem": "two_timescale", "name": "doctor-two-timescale",
    "models": [
        {"name": "model", "storage_gb": 1, "gpu_memory_gb": 2, "warmup_s": 1,
         "latency": {"base_s": 1, "per_step_s": 0.1},
         "quality": {"kind": "piecewise_linear", "points": [[10, 50], [20, 10]]}}
    ],
    "edge": {"storage_gb": 1, "steps_per_slot": 20, "min_steps": 1, "max_steps": 20, "uplink_mhz": 1,
             "downlink_mhz": 1, "power_w": 1, "noise_dbm_per_hz": -60, "backhaul_mbps": 1, "cloud_gbps": 8,
             "io_gb_per_s": 2},
    "user_power_w": [1], "cloud": {"steps": 20, "latency": {"base_s": 5, "per_step_s": 0.1}},
    "weights": {"delay": 1, "quality": 1, "switching": 1},
    "requests": {"model": [[[0]]], "input_mbit": [[[2]]], "output_mbit": [[[2]]], "uplink_gain": [[[3e-3]]],
                 "downlink_gain": [[[3e-3]]]},
}  # fmt: skip

CASES: tuple[tuple[dict[str, Any], float], ...] = ((DEPLOYMENT, 114.6), (OFFLOADING, 4.05), (TWO_TIMESCALE, 18.0))
"""One tiny instance of each problem, with its optimum."""


def _self_test() -> Iterator[Finding]:
    for data, optimum in CASES:
        yield _tested(str(data["problem"]), partial(solve_case, data, optimum))
    if _version("pyscipopt") is not None:
        yield _tested("offloading, SCIP", lambda: solve_case(OFFLOADING, CASES[1][1], "scip"))
    if _ipopt() is not None:
        yield _tested("shares, Ipopt", _times_by_ipopt)


def _times_by_ipopt() -> str:
    """Compare an Ipopt-compatible solver's computing times with the square-root rule: 9 / f and 16 / f of f = 3 : 4."""
    from aigc_opt import api
    from aigc_opt.instance.offloading import OffloadingInstance
    from aigc_opt.problems.offloading.fixed import solve_fixed
    from aigc_opt.problems.offloading.solution import OffloadingSolution

    instance = OffloadingInstance.from_dict(OFFLOADING)
    solution = api.solve(instance).solution
    assert isinstance(solution, OffloadingSolution)
    times = [task.computation_s for task in solve_fixed(instance, solution).solution.tasks]
    for time_s, expected in zip(times, (9 * 7 / 30, 16 * 7 / 40), strict=True):
        if time_s is None or abs(time_s - expected) > 1e-4:
            raise ValueError(f"computing times {times}, expected 2.1 and 2.8 s")
    return "computing times 2.1 and 2.8 s"


def _tested(name: str, run: Callable[[], str]) -> Finding:
    began = time.perf_counter()
    try:
        text = run()
    except Exception as error:
        return Finding("Self-test", name, f"FAILED: {_words(error)}", False)
    return Finding("Self-test", name, f"ok: {text}, {time.perf_counter() - began:.2f} s")


def solve_case(data: dict[str, Any], optimum: float, solver: str | None = None) -> str:
    """Solve an instance, check its point again, and compare both ends of the interval with the known optimum.

    Returns
    -------
    str
        The interval.

    Raises
    ------
    AigcOptError
        If the package refuses something itself.
    ValueError
        If an end of the interval is not where it has to be.

    """
    from aigc_opt import api
    from aigc_opt.instance.files import INSTANCES

    instance = INSTANCES[data["problem"]].from_dict(data, data["name"])
    result = api.solve(instance, solver=solver, gap=TOLERANCE / 10, time_limit=30)
    if result.objective is None or result.lower_bound is None:
        raise ValueError(f"no interval within 30 s, but {result.status}")
    checked = api.check(instance, result)
    if not checked.feasible:
        raise ValueError(f"the checker refuses the point: {checked.violations[0]}")
    slack = TOLERANCE * abs(optimum)
    if abs(result.objective - optimum) > slack:
        raise ValueError(f"the best point costs {result.objective:.10g}, the optimum is {optimum:.10g}")
    if abs(result.lower_bound - optimum) > slack:
        raise ValueError(f"the lower bound is {result.lower_bound:.10g}, the optimum is {optimum:.10g}")
    return f"optimum {optimum:g} in [{result.lower_bound:.8g}, {result.objective:.8g}]"


def _words(error: Exception) -> str:
    first = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
