"""The Pyomo formulation and the arrays are one program; and what is exported is that program too."""

from __future__ import annotations

import highspy
import numpy as np
import pyomo.environ as pyo
import pytest
from pyomo.repn.plugins.standard_form import LinearStandardFormCompiler

import aigc_opt
from aigc_opt.instance.generate import DEPLOYMENT_FAMILIES, generate_deployment
from aigc_opt.problems.deployment.arrays import DeploymentProgram
from aigc_opt.problems.deployment.model import build_model
from aigc_opt.program import LinearProgram
from aigc_opt.solvers import Highs
from tests.deployment.tiny import tiny


def canonical_arrays(program: LinearProgram) -> tuple[dict, dict]:
    """Columns (cost, bounds, kind) and rows (coefficients, sides) by name; rows without a variable are left out."""
    columns = {
        name: (program.cost[k], program.lower[k], program.upper[k], bool(program.integer[k]))
        for k, name in enumerate(program.column_names)
    }
    rows = {}
    matrix = program.matrix.tocsr()
    for r, name in enumerate(program.row_names):
        part = slice(matrix.indptr[r], matrix.indptr[r + 1])
        entries = {program.column_names[c]: v for c, v in zip(matrix.indices[part], matrix.data[part], strict=True)}
        if entries:
            rows[name] = (entries, program.row_lower[r], program.row_upper[r])
    return columns, rows


def canonical_pyomo(model: pyo.ConcreteModel) -> tuple[dict, dict]:
    form = LinearStandardFormCompiler().write(model, mixed_form=True)
    names = [variable.name for variable in form.columns]
    cost = form.c.toarray()[0]
    columns = {
        name: (cost[k], variable.lb, variable.ub, variable.is_binary())
        for k, (name, variable) in enumerate(zip(names, form.columns, strict=True))
    }
    rows: dict[str, tuple] = {}
    matrix = form.A.tocsr()
    for r, (constraint, bound_type) in enumerate(form.rows):
        part = slice(matrix.indptr[r], matrix.indptr[r + 1])
        entries = {names[c]: v for c, v in zip(matrix.indices[part], matrix.data[part], strict=True) if v != 0}
        side = form.rhs[r]
        assert bound_type in (0, 1)  # 0: equality, 1: upper
        rows[constraint.name] = (entries, side if bound_type == 0 else -np.inf, side)
    return columns, rows


def cases():
    yield from (generate_deployment(3, 4, 3, family=family, seed=s) for family in DEPLOYMENT_FAMILIES for s in (0, 1))
    yield from (tiny(seed, 2, 2, 3) for seed in range(20))
    yield from (tiny(seed, 1, 1, 1) for seed in range(20, 24))


@pytest.mark.parametrize("instance", list(cases()), ids=lambda instance: instance.name)
def test_arrays_are_the_pyomo_program(instance):
    columns, rows = canonical_arrays(DeploymentProgram(instance).program)
    their_columns, their_rows = canonical_pyomo(build_model(instance))
    # Pyomo leaves out variables that are in no row and cost nothing; there must be no other difference.
    used = {name for entries, _, _ in rows.values() for name in entries}
    columns = {name: value for name, value in columns.items() if name in used or value[0] != 0}
    assert columns.keys() == their_columns.keys()
    for name, value in columns.items():
        assert value == pytest.approx(their_columns[name], rel=1e-12, abs=1e-12), name
    assert rows.keys() == their_rows.keys()
    for name, (entries, low, high) in rows.items():
        their_entries, their_low, their_high = their_rows[name]
        assert entries == pytest.approx(their_entries, rel=1e-12), name
        assert (low, high) == pytest.approx((their_low, their_high), rel=1e-12), name


@pytest.mark.parametrize("ending", ["lp", "mps"])
def test_export_is_the_same_program(tmp_path, ending):
    instance = generate_deployment(2, 4, 3, seed=4)
    path = tmp_path / f"model.{ending}"
    aigc_opt.export(instance, path)
    highs = highspy.Highs()
    highs.setOptionValue("output_flag", False)
    highs.setOptionValue("mip_rel_gap", 1e-9)
    assert highs.readModel(str(path)) == highspy.HighsStatus.kOk
    program = DeploymentProgram(instance).program
    lp = highs.getLp()
    assert (lp.num_col_, lp.num_row_) == (program.cost.size, program.row_upper.size)
    assert "stored(1,edge_1,text_to_image)" in lp.col_names_
    highs.run()
    best = Highs(program).solve(gap=1e-9).objective
    assert highs.getInfo().objective_function_value == pytest.approx(best, rel=1e-7)
    assert list(tmp_path.iterdir()) == [path]


def test_names_that_no_file_could_hold_are_exported(tmp_path):
    data = generate_deployment(1, 2, 1, seed=0).to_dict()
    data["models"][0]["name"], data["models"][1]["name"] = "é x", "e\u0301 x"
    data["servers"][0]["name"] = "a,b]"
    instance = type(generate_deployment(1, 1, 1)).from_dict(data)
    aigc_opt.export(instance, tmp_path / "model.lp")
    highs = highspy.Highs()
    highs.setOptionValue("output_flag", False)
    assert highs.readModel(str(tmp_path / "model.lp")) == highspy.HighsStatus.kOk
    assert highs.getLp().num_col_ == DeploymentProgram(instance).program.cost.size


def test_latex_comes_from_the_model(tmp_path):
    instance = generate_deployment(2, 3, 2, seed=4)
    path = tmp_path / "model.tex"
    aigc_opt.export(instance, path)
    text = path.read_text()
    model = build_model(instance)
    for component in model.component_objects((pyo.Var, pyo.Param)):
        if component.local_name not in ("initial",):
            assert component.local_name.replace("_", r"\_") in text, component.local_name
    # one line a family of constraints, each with its sets: nothing is written out entry by entry
    families = list(model.component_objects(pyo.Constraint))
    assert text.count(r"\forall") == len(families)
    assert "edge-1" not in text


def test_point_of_a_solution_costs_what_the_checker_says():
    for seed in range(10):
        instance = tiny(seed, 3, 2, 3)
        built = DeploymentProgram(instance)
        result = aigc_opt.solve(instance, method="popularity", bound=False)
        x = built.point(result.solution)
        assert built.program.cost @ x == pytest.approx(result.objective, rel=1e-12, abs=1e-12)
        assert (built.program.matrix @ x <= built.program.row_upper + 1e-6 * (1 + abs(built.program.row_upper))).all()
        stored, loaded = built.placement(x)
        assert (stored == result.solution.stored).all() and (loaded == result.solution.loaded).all()
