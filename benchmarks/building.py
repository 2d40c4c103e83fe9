"""Time from an instance in memory to a HiGHS object that holds its deployment program, in aigc_opt and other libraries.

Every (library, size) runs in its own process, interleaved, so that noise hits all alike; nothing is solved while the
clock runs. Afterwards every library's program is taken back from its solver and compared with ours (see `fingerprint`),
so that nobody builds less.

    python benchmarks/building.py --repeat 3 --output table.md
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import highspy
import numpy as np
import scipy.sparse as sp

from aigc_opt.bench.rows import peak_mb
from aigc_opt.bench.table import processor
from aigc_opt.instance.deployment import DeploymentInstance
from aigc_opt.instance.generate import generate_deployment
from aigc_opt.problems.deployment.costs import Costs

SIZES = ("4x10x31", "10x20x38", "16x24x72")
TOLERANCE = 1e-9

# Each function below imports a library, and returns what builds the program and hands it over. Imports are not timed.


def with_aigc_opt() -> Callable:
    """The package's own way: NumPy arrays, one call of HiGHS."""
    from aigc_opt.problems.deployment.arrays import DeploymentProgram
    from aigc_opt.solvers import Highs

    return lambda instance: Highs(DeploymentProgram(instance).program)


def with_linopy() -> Callable:
    """Whole arrays with named dimensions, masks where nothing arrives or is shared, the direct way to HiGHS."""
    import linopy
    import xarray as xr

    linopy.options["semantics"] = "v1"  # the arithmetic of its next major version: measured faster than the old one

    def build(instance: DeploymentInstance) -> highspy.Highs:
        costs = Costs.of(instance)
        slots, servers, models = (np.arange(size) for size in instance.shape)

        def data(values: np.ndarray, *dims: str) -> xr.DataArray:
            known = {"slot": slots, "origin": servers, "server": servers, "model": models}
            return xr.DataArray(values, dims=dims, coords={dim: known[dim] for dim in dims})

        arrivals = data(instance.arrivals, "slot", "origin", "model")
        demand = arrivals > 0
        possible = demand & data(instance.shares, "origin", "server")
        placed = [("slot", slots), ("server", servers), ("model", models)]
        demanded = [("slot", slots), ("origin", servers), ("model", models)]

        m = linopy.Model()
        stored = m.add_variables(binary=True, coords=placed, name="stored")
        loaded = m.add_variables(binary=True, coords=placed, name="loaded")
        fetches = m.add_variables(0, 1, coords=placed, name="fetches")
        loads = m.add_variables(0, 1, coords=placed, name="loads")
        possible = possible.transpose("slot", "origin", "model", "server")
        route = m.add_variables(0, 1, coords=[*demanded, placed[1]], mask=possible, name="route")
        to_cloud = m.add_variables(0, 1, coords=demanded, mask=demand, name="to_cloud")

        serve = np.where(np.isfinite(costs.serve), costs.serve, 0)
        per_request = data(serve[:, :, :-1], "origin", "model", "server")
        m.add_objective(
            (stored * data(costs.hold_stored, "server", "model")).sum()
            + (loaded * data(costs.hold_loaded, "server", "model")).sum()
            + (fetches * data(costs.fetch, "server", "model")).sum()
            + (loads * data(costs.load, "server", "model")).sum()
            + (route * (arrivals * per_request)).sum()
            + (to_cloud * (arrivals * data(serve[:, :, -1], "origin", "model"))).sum()
        )

        def of_servers(values: np.ndarray) -> xr.DataArray:
            return data(np.broadcast_to(values, instance.shape[:2]), "slot", "server")

        size_gb, memory_gb = data(costs.size_gb, "model"), data(costs.memory_gb, "model")
        m.add_constraints((stored * size_gb).sum("model") <= of_servers(costs.storage_gb), name="storage")
        m.add_constraints((loaded * memory_gb).sum("model") <= of_servers(costs.gpu_memory_gb), name="gpu_memory")
        m.add_constraints(loaded - stored <= 0, name="on_disk")
        for name, state, switch, before in (
            ("fetching", stored, fetches, instance.initial_stored),
            ("loading", loaded, loads, instance.initial_loaded),
        ):
            start = np.zeros(instance.shape)
            start[0] = before
            changes = state - switch - state.shift(slot=1).fillna(0)
            m.add_constraints(changes <= data(start, "slot", "server", "model"), name=name)
        m.add_constraints(route.sum("server") + to_cloud == 1, mask=demand, name="served")
        m.add_constraints(route - loaded <= 0, mask=possible, name="only_loaded")
        for name, limit, work, per_load in (
            ("gpu_time", costs.gpu_s, costs.work_s, None),
            ("energy", costs.energy_j, costs.work_j, costs.load_j),
        ):
            limited = np.isfinite(limit)
            if limited.any():
                use = (route * (arrivals * data(work, "model"))).sum(["origin", "model"])
                if per_load is not None:
                    use = use + (loads * data(per_load, "model")).sum("model")
                mask = of_servers(limited)
                m.add_constraints(use <= of_servers(np.where(limited, limit, 0)), mask=mask, name=name)
        return m.to_highspy()

    return build


def with_pyoptinterface() -> Callable:
    """Loops over plain Python numbers; each row's function made in one call from its coefficients and columns."""
    import pyoptinterface as poi
    from pyoptinterface import highs

    def build(instance: DeploymentInstance) -> highs.Model:
        costs = Costs.of(instance)
        slots, servers, models = (range(size) for size in instance.shape)
        m = highs.Model()
        add_row, function = m.add_linear_constraint, poi.ScalarAffineFunction
        objective_costs, objective_columns = [], []

        def family(binary: bool, cost: np.ndarray) -> list:
            domain = poi.VariableDomain.Binary if binary else poi.VariableDomain.Continuous
            table = [[[m.add_variable(domain, 0.0, 1.0).index for _ in models] for _ in servers] for _ in slots]
            objective_costs.extend(np.broadcast_to(cost, instance.shape).ravel().tolist())
            objective_columns.extend(column for slot in table for server in slot for column in server)
            return table

        stored, loaded = family(True, costs.hold_stored), family(True, costs.hold_loaded)
        fetches, loads = family(False, costs.fetch), family(False, costs.load)

        arrivals, serve = instance.arrivals.tolist(), costs.serve.tolist()
        reach = [np.flatnonzero(row).tolist() for row in instance.shares]
        work_s, work_j, load_j = costs.work_s.tolist(), costs.work_j.tolist(), costs.load_j.tolist()
        limits = [
            (limit.tolist(), work, per_load)
            for limit, work, per_load in ((costs.gpu_s, work_s, None), (costs.energy_j, work_j, load_j))
        ]
        leq, equal, continuous = poi.Leq, poi.Eq, poi.VariableDomain.Continuous
        pair, triple = [1.0, -1.0], [1.0, -1.0, -1.0]
        sizes, memories = costs.size_gb.tolist(), costs.memory_gb.tolist()
        storage, gpu_memory = costs.storage_gb.tolist(), costs.gpu_memory_gb.tolist()
        before_stored = np.asarray(instance.initial_stored, float).tolist()
        before_loaded = np.asarray(instance.initial_loaded, float).tolist()

        # All columns first: HiGHS turns its matrix over each time that a column follows a row.
        routes, routed = [], [[([], []) for _ in servers] for _ in slots]
        for t in slots:
            for i in servers:
                for k in models:
                    amount = arrivals[t][i][k]
                    if amount <= 0:
                        continue
                    columns = [m.add_variable(continuous, 0.0, 1.0).index for _ in range(len(reach[i]) + 1)]
                    routes.append((t, reach[i], k, columns))
                    objective_columns.extend(columns)
                    cost = serve[i][k]
                    objective_costs.extend([amount * cost[j] for j in reach[i]])
                    objective_costs.append(amount * cost[-1])
                    for j, column in zip(reach[i], columns, strict=False):
                        routed[t][j][0].append((amount, k))
                        routed[t][j][1].append(column)

        for t, to, k, columns in routes:
            add_row(function([1.0] * len(columns), columns), equal, 1.0)
            for j, column in zip(to, columns, strict=False):
                add_row(function(pair, [column, loaded[t][j][k]]), leq, 0.0)
        for t in slots:
            for j in servers:
                add_row(function(sizes, stored[t][j]), leq, storage[j])
                add_row(function(memories, loaded[t][j]), leq, gpu_memory[j])
                for limit, work, per_load in limits:
                    if math.isfinite(limit[j]):
                        use = [amount * work[k] for amount, k in routed[t][j][0]]
                        columns = routed[t][j][1]
                        if per_load is not None:
                            use, columns = use + per_load, columns + loads[t][j]
                        add_row(function(use, columns), leq, limit[j])
                for k in models:
                    add_row(function(pair, [loaded[t][j][k], stored[t][j][k]]), leq, 0.0)
                    for state, switch, before in ((stored, fetches, before_stored), (loaded, loads, before_loaded)):
                        if t:
                            columns = [state[t][j][k], switch[t][j][k], state[t - 1][j][k]]
                            add_row(function(triple, columns), leq, 0.0)
                        else:
                            add_row(function(pair, [state[t][j][k], switch[t][j][k]]), leq, before[j][k])
        m.set_objective(function(objective_costs, objective_columns))
        return m

    return build


def _standard_form(model) -> highspy.Highs:
    """Hand a Pyomo model over through its compiler to sparse arrays, the fastest way that Pyomo has."""
    from pyomo.repn.plugins.standard_form import LinearStandardFormCompiler

    form = LinearStandardFormCompiler().write(model, mixed_form=True)
    bounds = np.array([variable.bounds for variable in form.columns], dtype=float).reshape(-1, 2)
    kinds = np.array([row.bound_type for row in form.rows])  # 1: <=, -1: >=, 0: ==
    integer = np.array([variable.is_integer() for variable in form.columns], dtype=np.int32)
    matrix = sp.csc_array(form.A)
    solver = highspy.Highs()
    solver.setOptionValue("output_flag", False)
    solver.passModel(
        matrix.shape[1], matrix.shape[0], matrix.nnz, int(highspy.MatrixFormat.kColwise),
        int(highspy.ObjSense.kMinimize), float(form.c_offset[0]), form.c.toarray().ravel(), bounds[:, 0], bounds[:, 1],
        np.where(kinds == 1, -np.inf, form.rhs), np.where(kinds == -1, np.inf, form.rhs),
        matrix.indptr, matrix.indices, matrix.data, integer,
    )  # fmt: skip
    return solver


def _persistent(model) -> highspy.Highs:
    """Hand a Pyomo model over through its persistent interface to HiGHS."""
    from pyomo.contrib.solver.solvers.highs import Highs

    interface = Highs()
    interface.set_instance(model)
    return interface._solver_model


def _readable(instance: DeploymentInstance):
    from aigc_opt.problems.deployment.model import build_model

    return build_model(instance)


def _lean(instance: DeploymentInstance):
    """Build the program in Pyomo for speed alone: plain lists, float coefficients, no expression trees."""
    import pyomo.environ as pyo
    from pyomo.core.expr.numeric_expr import LinearExpression

    costs = Costs.of(instance)
    slots, servers, models = (range(size) for size in instance.shape)
    m = pyo.ConcreteModel()
    objective_costs, objective_variables = [], []

    def family(name: str, cost: np.ndarray, domain=pyo.UnitInterval) -> list:
        variable = pyo.Var(range(len(cost)), domain=domain)
        setattr(m, name, variable)
        flat = list(variable.values())
        objective_costs.extend(cost.tolist())
        objective_variables.extend(flat)
        return flat

    def placed(name: str, cost: np.ndarray, domain=pyo.UnitInterval) -> list:
        flat = iter(family(name, np.broadcast_to(cost, instance.shape).ravel(), domain))
        return [[[next(flat) for _ in models] for _ in servers] for _ in slots]

    stored = placed("stored", costs.hold_stored, pyo.Binary)
    loaded = placed("loaded", costs.hold_loaded, pyo.Binary)
    fetches, loads = placed("fetches", costs.fetch), placed("loads", costs.load)
    d_slot, d_origin, d_model = np.nonzero(instance.arrivals > 0)
    amount = instance.arrivals[d_slot, d_origin, d_model]
    k_demand, k_server = np.nonzero(instance.shares[d_origin])
    per_route = amount[k_demand] * costs.serve[d_origin[k_demand], d_model[k_demand], k_server]
    route = family("route", per_route)
    to_cloud = family("to_cloud", amount * costs.serve[d_origin, d_model, -1])
    m.cost = pyo.Objective(
        expr=LinearExpression(constant=0, linear_coefs=objective_costs, linear_vars=objective_variables)
    )
    rows = []

    def add(coefficients: list, variables: list, upper: float, lower: float | None = None) -> None:
        expression = LinearExpression(constant=0, linear_coefs=coefficients, linear_vars=variables)
        rows.append((lower, expression, upper) if lower is None else (expression, upper))

    triples = list(zip(d_slot.tolist(), d_origin.tolist(), d_model.tolist(), strict=True))
    work_s, work_j, load_j = costs.work_s.tolist(), costs.work_j.tolist(), costs.load_j.tolist()
    requests = amount.tolist()
    served = [([], []) for _ in triples]
    at = [[([], []) for _ in servers] for _ in slots]
    for variable, d, j in zip(route, k_demand.tolist(), k_server.tolist(), strict=True):
        t, _, k = triples[d]
        served[d][1].append(variable)
        at[t][j][0].append((requests[d], k))
        at[t][j][1].append(variable)
        add([1.0, -1.0], [variable, loaded[t][j][k]], 0.0)
    for d, (_, variables) in enumerate(served):
        variables.append(to_cloud[d])
        add([1.0] * len(variables), variables, 1.0, 1.0)
    for t in slots:
        for j in servers:
            add(costs.size_gb.tolist(), stored[t][j], float(costs.storage_gb[j]))
            add(costs.memory_gb.tolist(), loaded[t][j], float(costs.gpu_memory_gb[j]))
            if math.isfinite(costs.gpu_s[j]):
                add([a * work_s[k] for a, k in at[t][j][0]], at[t][j][1], float(costs.gpu_s[j]))
            if math.isfinite(costs.energy_j[j]):
                use = [a * work_j[k] for a, k in at[t][j][0]] + load_j
                add(use, at[t][j][1] + loads[t][j], float(costs.energy_j[j]))
            for k in models:
                add([1.0, -1.0], [loaded[t][j][k], stored[t][j][k]], 0.0)
                for state, switch, before in (
                    (stored, fetches, instance.initial_stored),
                    (loaded, loads, instance.initial_loaded),
                ):
                    if t:
                        add([1.0, -1.0, -1.0], [state[t][j][k], switch[t][j][k], state[t - 1][j][k]], 0.0)
                    else:
                        add([1.0, -1.0], [state[t][j][k], switch[t][j][k]], float(before[j, k]))
    m.rows = pyo.Constraint(range(len(rows)), rule=lambda _, index: rows[index])
    return m


def _with_pyomo(build: Callable, hand_over: Callable) -> Callable:
    def importing() -> Callable:
        import pyomo.contrib.solver.solvers.highs
        import pyomo.environ
        import pyomo.repn.plugins.standard_form  # noqa: F401

        import aigc_opt.problems.deployment.model  # noqa: F401

        return lambda instance: hand_over(build(instance))

    return importing


LIBRARIES = {
    "aigc_opt": ("highspy", with_aigc_opt),
    "linopy": ("linopy", with_linopy),
    "PyOptInterface": ("pyoptinterface", with_pyoptinterface),
    "Pyomo, lean, standard form": ("pyomo", _with_pyomo(_lean, _standard_form)),
    "Pyomo, lean, persistent": ("pyomo", _with_pyomo(_lean, _persistent)),
    "Pyomo, `build_model`, standard form": ("pyomo", _with_pyomo(_readable, _standard_form)),
}

OURS = "aigc_opt"
SLOW = ("Pyomo, lean, persistent",)
"""Ways of a library that has a faster one here: measured at the smallest size only, unless `--all` is given."""


# ------------------------------------------------------------------------------------------------- the same program


def held_program(solver) -> highspy.HighsLp:
    """Take the program back from whatever holds it; from PyOptInterface's own HiGHS through an MPS file."""
    solver = getattr(solver, "_highs", solver)
    if not isinstance(solver, highspy._Highs):
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "held.mps")
            solver.write(path)
            solver = highspy.Highs()
            solver.setOptionValue("output_flag", False)
            solver.readModel(path)
    return solver.getLp()


def fingerprint(lp: highspy.HighsLp, optimum: bool) -> dict[str, float]:
    """Numbers that two programs share if they are the same but for the order and names of columns and rows.

    The common point is x = c / (1 + |c|) for a column with cost c, which needs no names; its cost and the squares of
    its rows' values tie costs, coefficients and bounds to each other.

    """
    columns, rows = lp.num_col_, lp.num_row_
    parts = (np.array(lp.a_matrix_.value_), np.array(lp.a_matrix_.index_), np.array(lp.a_matrix_.start_))
    by_rows = lp.a_matrix_.format_ == highspy.MatrixFormat.kRowwise
    matrix = (sp.csr_array if by_rows else sp.csc_array)(parts, shape=(rows, columns))
    cost, upper = np.array(lp.col_cost_), np.array(lp.row_upper_)
    lower = np.array(lp.row_lower_)
    integer = np.array([int(kind) for kind in lp.integrality_])
    x = cost / (1 + np.abs(cost))
    value = matrix @ x
    result = {
        "columns": columns,
        "rows": rows,
        "nonzeros": int(np.count_nonzero(matrix.data)),
        "integer columns": int(np.count_nonzero(integer)),
        "equations": int((lower == upper).sum()),
        "rows without a lower side": int(np.isinf(lower).sum()),
        "column bounds": float(np.sum(lp.col_upper_) - np.sum(lp.col_lower_)),
        "coefficients": float(np.abs(matrix.data).sum()),
        "right sides": float(upper.sum()),
        "objective at the point": float(cost @ x) + lp.offset_,
        "squared rows at the point": float(value @ value),
        "rows times right sides": float(value @ upper),
        "integer cost at the point": float(cost[integer == 1] @ x[integer == 1]) if integer.size else 0.0,
    }
    if optimum:
        solver = highspy.Highs()
        solver.setOptionValue("output_flag", False)
        lp.integrality_ = []
        solver.passModel(lp)
        solver.run()
        if solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            raise SystemExit("the relaxation was not solved to optimality")
        result["optimum of the relaxation"] = solver.getObjectiveValue()
    return result


def differences(theirs: dict[str, float], ours: dict[str, float]) -> list[str]:
    return [
        f"{name}: {theirs.get(name)} instead of {value}"
        for name, value in ours.items()
        if not math.isclose(theirs.get(name, math.nan), value, rel_tol=TOLERANCE)
    ]


# ------------------------------------------------------------------------------------------------------- measuring


def make(size: str) -> DeploymentInstance:
    servers, models, slots = map(int, size.split("x"))
    return generate_deployment(servers, models, slots, "balanced", seed=1)


def measure(name: str, size: str, check: bool, optimum: bool) -> dict:
    """Build once in this process."""
    build = LIBRARIES[name][1]()
    build(make("2x3x2"))  # what a library imports or compiles at its first use is not counted
    instance = make(size)
    gc.collect()
    gc.disable()  # for all alike; it would cost most where every term is a Python object
    start = time.perf_counter()
    solver = build(instance)
    seconds = time.perf_counter() - start
    # Linux counts what the parent had when it made this process as this one's, in `ru_maxrss`.
    counted = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    peak = peak_mb() * 2**20 or counted
    found = fingerprint(held_program(solver), optimum) if check else None
    return {"seconds": seconds, "peak_mb": peak / 1e6, "fingerprint": found}


def in_own_process(name: str, size: str, check: bool, optimum: bool) -> dict:
    task = json.dumps([name, size, check, optimum])
    done = subprocess.run([sys.executable, __file__, "--task", task], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name} failed at {size}:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def run(sizes: list[str], names: list[str], repeat: int, everything: bool) -> tuple[dict, dict]:
    """Return the runs of each (size, name), and our fingerprint of each size."""
    runs: dict[tuple[str, str], list[dict]] = {
        (size, name): [] for size in sizes for name in names if everything or size == sizes[0] or name not in SLOW
    }
    prints: dict[str, dict] = {}
    for repetition in range(repeat):
        first = repetition == 0
        for size, name in runs:
            one = in_own_process(name, size, first, first and size == sizes[0])
            runs[size, name].append(one)
            print(f"{repetition + 1}/{repeat} {size} {name}: {one['seconds']:.3f} s", file=sys.stderr, flush=True)
            if first:
                faults = differences(one["fingerprint"], prints.setdefault(size, one["fingerprint"]))
                if faults:
                    raise SystemExit(f"{name} does not build the same program at {size}: {'; '.join(faults)}")
    return runs, prints


# ----------------------------------------------------------------------------------------------------------- report


def table(runs: dict, prints: dict, names: list[str], repeat: int) -> str:
    lines = [
        "| Columns | Rows | Nonzeros | Library | Time (s), median | Range (s) | Times ours | Peak memory (MB) |",
        "|---:|---:|---:|---|---:|---:|---:|---:|",
    ]
    for size, ours in prints.items():
        base = statistics.median(one["seconds"] for one in runs[size, OURS])
        for name in (name for name in names if (size, name) in runs):
            seconds = [one["seconds"] for one in runs[size, name]]
            peak = statistics.median(one["peak_mb"] for one in runs[size, name])
            middle = statistics.median(seconds)
            lines.append(
                f"| {ours['columns']:,} | {ours['rows']:,} | {ours['nonzeros']:,} | {name} | {middle:.3f} "
                f"| {min(seconds):.3f} to {max(seconds):.3f} | {middle / base:.1f} | {peak:,.0f} |"
            )
    packages = sorted({LIBRARIES[name][0] for name in names} | {"highspy", "numpy", "scipy"})
    if "PyOptInterface" in names:
        packages.append("highsbox")
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    lines += [
        "",
        f"{repeat} repetitions, each in its own process, interleaved. {os.cpu_count()} cores, {processor()}; "
        f"{platform.system()}, Python {platform.python_version()}, {versions}. "
        f"Same program in every library at every size: {min(map(len, prints.values()))} numbers of it agree to "
        f"{TOLERANCE:g} relative, and at the smallest size the optimum of the relaxation "
        f"({next(iter(prints.values()))['optimum of the relaxation']:.6f}).",
    ]
    return "\n".join(lines) + "\n"


def available() -> list[str]:
    """Return the libraries that are installed, and say which are not."""
    names = []
    for name, (module, _) in LIBRARIES.items():
        # PyOptInterface loads the library of HiGHS from the package highsbox
        needed = [module, "highsbox"] if module == "pyoptinterface" else [module]
        missing = [package for package in needed if importlib.util.find_spec(package) is None]
        if missing:
            print(f"skipped: {name} ({' and '.join(missing)} not installed)", file=sys.stderr)
        else:
            names.append(name)
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--sizes", nargs="+", default=list(SIZES), metavar="SERVERSxMODELSxSLOTS", help="smallest first"
    )
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--all", action="store_true", help="also the slow ways at all sizes")
    parser.add_argument("--output", type=Path, metavar="FILE.md", help="also write the table here")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        print(json.dumps(measure(*json.loads(options.task))))
        return
    names = available()
    runs, prints = run(options.sizes, names, options.repeat, options.all)
    text = table(runs, prints, names, options.repeat)
    print(text)
    if options.output:
        options.output.write_text(text)


if __name__ == "__main__":
    main()
