"""LaTeX of a formulation, printed from the Pyomo model itself, with the names of its parts."""

from __future__ import annotations

import re

import pyomo.environ as pyo
from pyomo.common.collections import ComponentMap
from pyomo.contrib.latex_printer import latex_printer

_HEAD = r"""\documentclass{article}
\usepackage[a2paper,landscape,margin=1cm]{geometry}
\usepackage{amsmath,amssymb,dsfont}
\begin{document}
"""


def latex_of(model: pyo.ConcreteModel) -> str:
    """Return a LaTeX document of a model: objective, each family of constraints, bounds of variables.

    Families without members are taken off the model.
    """
    # The printer fails on a family without members.
    for family in list(model.component_objects((pyo.Constraint, pyo.Var))):
        if len(family) == 0:
            model.del_component(family)
    shown = ComponentMap()
    for item in model.component_objects((pyo.Var, pyo.Param)):
        shown[item] = _name(item.local_name)
    for item in model.component_objects((pyo.Set, pyo.RangeSet)):
        shown[item] = [_name(item.local_name), []]
    body = latex_printer(model, latex_component_map=shown)
    # A name at the end of each row, as people refer to it, instead of a label that nothing points to.
    body = re.sub(r"\\label\{(con|obj):[^}]*\}", "", body)
    return _HEAD + body + "\n\\end{document}\n"


def _name(name: str) -> str:
    return rf"\mathrm{{{name.replace('_', chr(92) + '_')}}}"
