"""SCIP in a process of its own: its interval so far is kept, and it ends at the limit whatever it is doing.

SCIP looks at its clock only between steps, and Pyomo not at all while it builds a model; a long presolve or a large
model may overrun any limit. So a child process builds the Pyomo model of an instance, hands it to SCIP, and writes a
line whenever the incumbent or the bound moves; it is ended from outside when the time is over or on Ctrl-C.
"""

from __future__ import annotations

import importlib.util
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from aigc_opt.control import Control
from aigc_opt.errors import MissingSolverError, SolverError
from aigc_opt.instance.base import Instance
from aigc_opt.instance.files import save
from aigc_opt.program import Label
from aigc_opt.result import Limit
from aigc_opt.solvers import GRACE_S, Answer

POLL_S = 0.1
INFINITE = 1e19
"""SCIP's infinity is 1e20."""

STATUS = {
    "optimal": Answer.OPTIMAL,
    "gaplimit": Answer.OPTIMAL,
    "infeasible": Answer.INFEASIBLE,
    "timelimit": Answer.STOPPED,
    "userinterrupt": Answer.STOPPED,
    "unbounded": Answer.UNBOUNDED,
    "inforunbd": Answer.UNKNOWN,
}
"""What SCIP's own words for its end mean."""


Values = dict[tuple[str, Label], float]
"""Values of a Pyomo model's variables, by component and index."""


@dataclass(frozen=True)
class ScipOutcome:
    """What SCIP said, and when it ended.

    Attributes
    ----------
    answer : Answer
    limit : Limit or None
        What stopped it.
    objective, bound : float or None
        Of its incumbent, and its dual bound: SCIP's words, within its tolerances.
    values : dict or None
        Nonzero variables of the incumbent: (name of the Pyomo variable, index) -> value.

    """

    answer: Answer
    limit: Limit | None
    objective: float | None
    bound: float | None
    values: Values | None


def require_scip() -> None:
    """Refuse to go on without PySCIPOpt.

    Raises
    ------
    MissingSolverError
        With the line that installs it.

    """
    if importlib.util.find_spec("pyscipopt") is None:
        raise MissingSolverError('SCIP is not installed; get it with: pip install "aigc_opt[scip]"')


def solve_with_scip(
    instance: Instance,
    gap: float,
    control: Control,
    seed: int = 0,
    on_news: Callable[[ScipOutcome], None] = lambda outcome: None,
) -> ScipOutcome:
    """Solve the Pyomo model of an instance to global optimality.

    Parameters
    ----------
    instance : Instance
        Of a problem whose `build_global` or `build_model` makes a minimisation.
    gap : float
        Relative gap at which SCIP may end.
    control : Control
        Clock and stop signals, enforced from outside.
    seed : int
    on_news : callable
        Called, in this thread, with the state of every line that SCIP's process writes.

    Returns
    -------
    ScipOutcome

    Raises
    ------
    MissingSolverError
        If PySCIPOpt is not installed.
    SolverError
        If SCIP's process fails.

    """
    require_scip()
    with tempfile.TemporaryDirectory(prefix="aigc-opt-") as folder:
        path = Path(folder) / "instance.json"
        save(instance, path)
        return _run(path, gap, control, seed, on_news)


def _run(path: Path, gap: float, control: Control, seed: int, on_news: Callable[[ScipOutcome], None]) -> ScipOutcome:
    """Run the child until it ends or has to."""
    limit_s = control.remaining_s
    child = subprocess.Popen(
        [sys.executable, "-m", "aigc_opt.scip", str(path), repr(gap), repr(limit_s), str(seed % 2**31)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # so that Ctrl-C reaches only this process, which ends the child in order
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": _search_path()},
    )
    stdout, stderr = child.stdout, child.stderr
    assert stdout is not None and stderr is not None  # both are pipes
    lines: queue.Queue[bytes | None] = queue.Queue()
    errors: list[bytes] = []
    readers = [
        threading.Thread(target=_read_lines, args=(stdout, lines), daemon=True),
        threading.Thread(target=lambda: errors.append(stderr.read()), daemon=True),
    ]
    for reader in readers:
        reader.start()
    last: dict[str, Any] = {}
    stopped_at: float | None = None
    try:
        while True:
            try:
                line = lines.get(timeout=POLL_S)
            except queue.Empty:
                line = b""
            if line is None:
                break
            if line:
                last |= {key: value for key, value in _parsed(line).items() if value is not None}
                on_news(_outcome(last, control))
            if control.stop is not None:
                stopped_at = stopped_at or time.perf_counter()
                grace = GRACE_S if control.stop is Limit.TIME else 0.0
                if time.perf_counter() - stopped_at >= grace:
                    break
    finally:
        if child.poll() is None and "status" not in last:
            child.kill()
        child.wait()
        for reader in readers:
            reader.join(1.0)
        stdout.close()
        stderr.close()
    if "status" not in last and control.stop is None:
        message = b"".join(errors).decode(errors="replace").strip().splitlines()
        raise SolverError(f"SCIP's process failed: {message[-1] if message else f'exit status {child.returncode}'}")
    return _outcome(last, control)


def _search_path() -> str:
    """Where the child finds this package, however this process did."""
    here = str(Path(__file__).resolve().parent.parent)
    return os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")]))


def _read_lines(stream: IO[bytes], lines: queue.Queue[bytes | None]) -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)


def _parsed(line: bytes) -> dict[str, Any]:
    """Return a line's object; a line cut off by the end of the process is nothing."""
    try:
        return json.loads(line)
    except ValueError:
        return {}


def _outcome(last: dict[str, Any], control: Control) -> ScipOutcome:
    answer = STATUS.get(last.get("status", "timelimit"), Answer.UNKNOWN)
    limit = (control.stop or Limit.TIME) if answer is Answer.STOPPED else None
    values = last.get("values")
    if values is not None:
        values = {(name, tuple(index)): value for name, index, value in values}
    return ScipOutcome(answer, limit, last.get("primal"), last.get("dual"), values)


# ----------------------------------------------------------------------------------------------- in the child


def _child(path: str, gap: float, limit_s: float, seed: int) -> None:
    """Build and solve an instance's model, and write what is known, a line each time, to standard output."""
    started = time.perf_counter()
    from pyomo.repn.plugins.nl_writer import NLWriter
    from pyscipopt import SCIP_EVENTTYPE, SCIP_PARAMSETTING, Eventhdlr, Model

    from aigc_opt.instance.files import load
    from aigc_opt.problems.problem import problem_of

    instance = load(path)
    program = Path(path).with_suffix(".nl")
    problem = problem_of(instance)
    build = problem.build_global or problem.build_model
    built = build(instance)  # kept: variables know their component only as long as their model lives
    with open(program, "w", newline="") as stream:
        info = NLWriter().write(built, stream, linear_presolve=False, scale_model=False)
    indices = [(variable.parent_component().local_name, _index(variable.index())) for variable in info.variables]
    model = Model()
    model.hideOutput()
    model.readProblem(str(program))
    limit_s -= time.perf_counter() - started
    model.setParam("limits/gap", gap)
    model.setParam("limits/absgap", 0.0)
    # A nonlinear row may be violated by this much, so that SCIP's point can cost less than the best real one; that
    # must not take more of the gap than what is left for it.
    model.setParam("numerics/feastol", min(1e-6, max(0.1 * gap, 1e-9)))
    if limit_s < float("inf"):
        model.setParam("limits/time", max(limit_s, 0.01))
    model.setParam("randomization/randomseedshift", seed)
    # Many rounds of cuts at every node cost more than the nodes that they save on these programs.
    model.setSeparating(SCIP_PARAMSETTING.FAST)
    # The reader names variables x3, b4, i5 by their place in the file, and adds one for a constant in the objective.
    own = [variable for variable in model.getVars() if variable.name != "objconstant"]
    variables = sorted(own, key=lambda variable: int(variable.name.lstrip("xbi")))

    def tell(**more: Any) -> None:
        line = {"primal": _finite(model.getPrimalbound()), "dual": _finite(model.getDualbound()), **more}
        print(json.dumps(line), flush=True)

    def values() -> list[tuple[str, Label, float]] | None:
        if not model.getNSols():
            return None
        best = model.getBestSol()
        found = [(*at, model.getSolVal(best, v)) for at, v in zip(indices, variables, strict=True)]
        return [item for item in found if item[2] != 0]

    class Stream(Eventhdlr):
        last: tuple[float, float] | None = None
        told_s = 0.0

        def eventinit(self) -> None:
            for kind in (SCIP_EVENTTYPE.BESTSOLFOUND, SCIP_EVENTTYPE.NODESOLVED, SCIP_EVENTTYPE.LPSOLVED):
                model.catchEvent(kind, self)

        def eventexec(self, event: Any) -> None:
            if event.getType() == SCIP_EVENTTYPE.BESTSOLFOUND:
                tell(values=values())
            elif time.monotonic() - self.told_s > POLL_S:
                self.told_s = time.monotonic()
                now = (model.getPrimalbound(), model.getDualbound())
                if now != self.last:
                    self.last = now
                    tell()

    model.includeEventhdlr(Stream(), "stream", "writes the interval")
    model.optimize()
    tell(values=values(), status=model.getStatus())


def _index(index: Any) -> Label:
    """Return an index as a tuple, the only one's of a variable without indices being empty."""
    return index if isinstance(index, tuple) else () if index is None else (index,)


def _finite(value: float) -> float | None:
    return value if abs(value) < INFINITE else None


if __name__ == "__main__":
    _child(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
