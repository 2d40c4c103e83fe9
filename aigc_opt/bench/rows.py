"""One row of the benchmark: what is asked, a process that does it and is ended in time, and what came of it."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aigc_opt import api
from aigc_opt.errors import Fault, InputError
from aigc_opt.instance.fields import describe
from aigc_opt.instance.files import SOLUTION_BYTES, read_json

LATE_S = 6.0
"""Seconds beyond its limit after which a process is asked to end: it may start (1 to 2 s, more on a busy machine), and
every method may end within 2 s of its limit."""

ENDING_S = 3.0
"""Seconds that it then has to give what it has, before it is killed."""

SAMPLE_EVERY_S = 1.0
"""Seconds between samples of the machine's speed while a process runs: a twentieth of one core's time."""


class _Found:
    """How a case and its row are found again in another run."""

    name: str
    problem: str
    label: str

    @property
    def key(self) -> tuple[str, str]:
        """What a row of another run is found by."""
        return self.place, self.label

    @property
    def place(self) -> str:
        """Problem and name of the instance: names of two problems' instances may be the same."""
        return f"{self.problem}/{self.name}"


@dataclass(frozen=True)
class Case(_Found):
    """What is asked of one process: an instance file, a method, a limit.

    Attributes
    ----------
    name : str
        Of the instance.
    label : str
        What the table calls the method: ``ours``, ``monolith``, or a baseline's name.
    bound : bool
        Whether a baseline's point gets a bound.

    """

    name: str
    problem: str
    sha256: str
    path: str
    label: str
    method: str
    solver: str
    gap: float
    time_limit: float
    bound: bool = True

    @property
    def words(self) -> list[str]:
        """The command line's words."""
        words = ["solve", self.path, "--method", self.method, "--solver", self.solver]
        words += ["--gap", f"{self.gap:g}", "--time-limit", f"{self.time_limit:g}"]
        return words if self.bound else [*words, "--no-bound"]


@dataclass(frozen=True)
class Row(_Found):
    """What came of a case.

    Attributes
    ----------
    status : str
        The result's; ``killed`` or ``failed`` where there is no result.
    checked : bool
        Whether the checker accepts the result as it was read from its file, with its own claims; False without a point.
    wall_s, processor_s, peak_mb : float
        Of the whole process and of those that it started: start, reading, solving, checking, writing.
    calibration_s : float
        Processor seconds of a fixed computation (`Calibration`), the mean over the time of the row.
    fault : str or None
        What is wrong, a line.

    """

    name: str
    problem: str
    sha256: str
    label: str
    method: str
    solver: str
    gap_asked: float
    time_limit: float
    status: str
    limit: str | None
    objective: float | None
    lower_bound: float | None
    gap: float | None
    proof: str
    checked: bool
    wall_s: float
    processor_s: float
    peak_mb: float
    calibration_s: float
    fault: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object."""
        return asdict(self)


def measure(case: Case) -> Row:
    """Run a case in a process of its own and check what it gives.

    The process is asked to end `LATE_S` after its limit, as by Ctrl-C, and is killed `ENDING_S` later, whatever it is
    doing. Ctrl-C here ends it in the same way and is raised again.
    """
    with tempfile.TemporaryDirectory(prefix="aigc-opt-bench-") as folder:
        output = Path(folder) / "result.json"
        ended = run_limited(
            [sys.executable, "-m", "aigc_opt", *case.words, "--quiet", "-o", str(output)], case.time_limit
        )
        return _row(case, output, ended)


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit status (None = killed), standard error, and what it took."""

    status: int | None
    said: str
    wall_s: float
    processor_s: float
    peak_mb: float
    calibration_s: float


def run_limited(command: list[str], time_limit: float) -> Ended:
    """Run a command on one thread, end it from outside where it does not end itself, and measure it."""
    calibration = Calibration()
    calibration.sample()
    with tempfile.TemporaryFile() as errors:
        began = time.monotonic()
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors,
            env={**os.environ, "OMP_NUM_THREADS": "1"}, start_new_session=True,
        )  # fmt: skip
        try:
            usage, seen_mb, killed = _waited_for(child, began + time_limit + LATE_S, calibration)
        except BaseException:
            _end(child, signal.SIGKILL)
            child.wait()
            raise
        wall = time.monotonic() - began
        calibration.sample()
        errors.seek(0)
        said = errors.read().decode(errors="replace")
    # Linux counts what this process had when it made the other one as that one's, so what is not more says nothing.
    counted_mb, own_mb = _mb_of(usage), _mb_of(resource.getrusage(resource.RUSAGE_SELF))
    peak_mb = counted_mb if seen_mb == 0.0 or counted_mb > own_mb else seen_mb
    return Ended(
        None if killed else child.returncode, said, wall, usage.ru_utime + usage.ru_stime, peak_mb, calibration.mean_s
    )


def _mb_of(usage: resource.struct_rusage) -> float:
    return usage.ru_maxrss / (2.0**20 if sys.platform == "darwin" else 1024.0)


def peak_mb(process: int | str = "self") -> float:
    """Return the most memory that a running process has had, MB; 0 where the system does not tell."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0.0
    return next((float(line.split()[1]) / 1024.0 for line in status.splitlines() if line.startswith("VmHWM:")), 0.0)


def _waited_for(
    child: subprocess.Popen[bytes], until: float, calibration: Calibration
) -> tuple[resource.struct_rusage, float, bool]:
    """Wait for a process, ending it when its time is over; return its resources, MB seen, and whether it was killed."""
    asked = killed = False
    seen_mb = 0.0
    sampled = time.monotonic()
    while True:
        pid, status, usage = os.wait4(child.pid, os.WNOHANG)
        if pid:
            child.returncode = os.waitstatus_to_exitcode(status)
            return usage, seen_mb, killed
        seen_mb = max(seen_mb, peak_mb(child.pid))
        now = time.monotonic()
        if now > until + ENDING_S and not killed:
            killed = True
            _end(child, signal.SIGKILL)
        elif now > until and not asked:
            asked = True
            _end(child, signal.SIGINT)
        elif now > sampled + SAMPLE_EVERY_S:
            calibration.sample()
            sampled = time.monotonic()
        time.sleep(0.02)


def _end(child: subprocess.Popen[bytes], how: signal.Signals) -> None:
    try:
        os.killpg(child.pid, how)
    except ProcessLookupError:
        pass  # it has ended by itself


def _row(case: Case, output: Path, ended: Ended) -> Row:
    """Read and check what a process left."""
    data: dict[str, Any] = {}
    fault, checked = None, False
    said = [line for line in ended.said.splitlines() if line.strip()]
    if ended.status is None:
        status, fault = "killed", f"did not end within {LATE_S + ENDING_S:g} s after its limit"
    elif not output.exists():
        status, fault = "failed", f"exit status {ended.status}: {said[-1] if said else 'without a word'}"
    else:
        try:
            data = read_json(output, SOLUTION_BYTES)
            status = data["status"]
            if data["solution"] is not None:
                found = api.check(case.path, output)
                checked = found.feasible
                if not checked:
                    fault = f"the checker refuses it: {found.violations[0]}"
            elif data["objective"] is not None:
                fault = "has an objective without a point"
        except (InputError, KeyError) as error:
            status, fault = "failed", f"its file is not a result: {error}"
    return Row(
        case.name, case.problem, case.sha256, case.label, case.method, case.solver, case.gap, case.time_limit,
        status, data.get("limit"), data.get("objective"), data.get("lower_bound"), data.get("gap"),
        data.get("certificate", {}).get("bound", "none"), checked,
        round(ended.wall_s, 3), round(ended.processor_s, 3), round(ended.peak_mb, 1),
        round(ended.calibration_s, 5), fault,
    )  # fmt: skip


class Calibration:
    """Processor seconds of a fixed computation of the same kind as a solve: the unit in which runs are compared.

    Loops of Python, arrays of NumPy, and a linear program for HiGHS, about a third each. It is sampled before, during
    and after what it is the unit of: a machine that others use too may change its speed by half within seconds.
    """

    def __init__(self) -> None:
        import numpy as np
        import scipy.sparse as sp

        from aigc_opt.program import LinearProgram

        random = np.random.Generator(np.random.PCG64(0))
        self._numbers = random.random(260_000)
        matrix = sp.csc_array(np.where(random.random((150, 300)) < 0.1, random.random((150, 300)), 0.0))
        self._covering = LinearProgram(
            cost=random.random(300) + 0.5, offset=0.0, lower=np.zeros(300), upper=np.ones(300),
            integer=np.zeros(300, bool), matrix=matrix, row_lower=np.full(150, 0.5), row_upper=np.full(150, np.inf),
        )  # fmt: skip
        self._samples: list[float] = []
        self.sample()
        self._samples.clear()  # the first one also loads libraries

    def sample(self, times: int = 1) -> None:
        """Do the computation so many times and keep what each took."""
        import numpy as np

        from aigc_opt.solvers import Highs

        for _ in range(times):
            began = time.process_time()
            total = 0
            for i in range(330_000):
                total += i & 7
            np.sort(self._numbers)
            np.exp(self._numbers).sum()
            Highs(self._covering).solve()
            self._samples.append(time.process_time() - began)

    @property
    def mean_s(self) -> float:
        """Mean of the samples."""
        return sum(self._samples) / len(self._samples)


_TEXT, _NUMBER = ((str,), "text"), ((int, float), "a number")
_COMPARED: dict[str, tuple[tuple[type, ...], str]] = {
    **dict.fromkeys(("name", "problem", "label", "sha256", "status"), _TEXT),
    **dict.fromkeys(("processor_s", "calibration_s", "time_limit"), _NUMBER),
    "gap": ((int, float, type(None)), "a number or null"),
    "limit": ((str, type(None)), "text or null"),
}
"""What runs are compared by, and what it must be in a file."""


def read_rows(path: str | os.PathLike[str]) -> tuple[dict[str, Any], list[Row]]:
    """Read the results of a run: what was written about it, and its rows.

    Raises
    ------
    InputError
        If the file is not one of a benchmark.

    """
    data = read_json(path)
    try:
        rows = [Row(**row) for row in data["rows"]]
    except (KeyError, TypeError) as error:
        raise InputError(str(path), [f"is not the results of a benchmark: {error}"]) from None
    faults = [
        Fault(f"rows[{index}].{key}", f"must be {what}, got {describe(getattr(row, key))}")
        for index, row in enumerate(rows)
        for (key, (types, what)) in _COMPARED.items()
        if type(getattr(row, key)) not in types
    ]
    if faults:
        raise InputError(str(path), faults)
    return data, rows


def dumped(data: dict[str, Any]) -> str:
    """Return the JSON text of a run's results, a row a line."""
    head = {key: value for key, value in data.items() if key != "rows"}
    rows = ",\n".join(f"  {json.dumps(row)}" for row in data["rows"])
    return json.dumps(head, indent=1)[:-2] + f',\n "rows": [\n{rows}\n ]\n}}\n'
