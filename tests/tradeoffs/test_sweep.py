"""Sweeps: the same intervals as solves, wherever they run; nothing lost or done twice when they are broken off."""

from __future__ import annotations

import io
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

import aigc_opt
from aigc_opt.cli import main
from aigc_opt.errors import InputError, SolverError
from aigc_opt.problems.deployment import methods
from aigc_opt.tradeoffs import paths
from aigc_opt.tradeoffs.paths import Varied
from aigc_opt.tradeoffs.sweep import ProgressBar
from tests.conftest import ROOT

VARY = {"weights.delay": [0.5, 1.0], "servers[0].storage_gb": [20.0, 30.0, 40.0]}
WORDS = ["--vary", "weights.delay=0.5,1", "--vary", "servers[0].storage_gb=20:40:10"]


@pytest.fixture(scope="module")
def small(examples):
    return aigc_opt.load(examples / "deployment-small.json")


@pytest.fixture(scope="module")
def swept(small):
    return aigc_opt.sweep(small, VARY)


def same(table, other):
    """Whether two tables have the same points and intervals, whatever was found first and however long it took."""
    assert list(table.columns) == list(other.columns)
    for column in (*VARY, "status"):
        assert list(table[column]) == list(other[column])
    tolerance = 1e-12 * other["objective"].abs()
    assert (table["lower_bound"] <= other["objective"] + tolerance).all()
    assert (other["lower_bound"] <= table["objective"] + tolerance).all()
    assert (table["gap"] <= 1e-4).all()


def test_columns_are_those_of_the_format(swept):
    terms = ["term_delay", "term_switching", "term_storage", "term_gpu_memory"]
    assert list(swept.columns) == [*VARY, "objective", "lower_bound", "gap", "status", *terms, "runtime_s"]
    assert len(swept) == 6 and (swept["status"] == "optimal").all()


def test_each_row_is_what_a_solve_gives(small, swept):
    for _, row in swept.iterrows():
        data = small.to_dict()
        data["weights"]["delay"], data["servers"][0]["storage_gb"] = row["weights.delay"], row["servers[0].storage_gb"]
        result = aigc_opt.solve(type(small).from_dict(data))
        # Two intervals of the same optimum overlap.
        assert result.lower_bound <= row["objective"] * (1 + 1e-12) and row["lower_bound"] <= result.objective * (
            1 + 1e-12
        )
        terms = [row[f"term_{name}"] for name in result.terms]
        assert sum(terms) == pytest.approx(row["objective"], rel=1e-9)


def test_more_room_never_costs_more(swept):
    for _, rows in swept.groupby("weights.delay"):
        assert (rows["lower_bound"].to_numpy()[1:] <= rows["objective"].to_numpy()[:-1] + 1e-9).all()


def test_infeasible_points_are_rows(examples):
    table = aigc_opt.sweep(examples / "offloading-infeasible.json", {"weights.delay": [1, 2]})
    assert list(table["status"]) == ["infeasible"] * 2
    assert table[["objective", "lower_bound", "gap", "term_rejection"]].isna().all(axis=None)


def test_processes_give_the_same(small, swept, tmp_path):
    same(aigc_opt.sweep(small, VARY, tmp_path / "s.csv", workers=2), swept)
    written = pd.read_csv(tmp_path / "s.csv").sort_values(list(VARY)).reset_index(drop=True)
    same(written[swept.columns], swept)


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="threads are counted where Linux lists them")
def test_processes_are_copies_without_threads_of_the_solver(examples, tmp_path):
    """A copy made while HiGHS's threads wait would wait for them for ever."""
    script = tmp_path / "copies.py"
    script.write_text(
        "import os, sys, aigc_opt\n"
        "from aigc_opt.tradeoffs.sweep import _context\n"
        "threads = lambda: len(os.listdir('/proc/self/task'))\n"
        "first = aigc_opt.solve(sys.argv[1]).objective\n"
        "print(_context().get_start_method(), threads())\n"
        "table = aigc_opt.sweep(sys.argv[1], {'weights.delay': [1.0, 2.0]}, workers=2)\n"
        "print(table['status'].tolist(), aigc_opt.solve(sys.argv[1]).objective == first)\n"
    )
    done = subprocess.run(
        [sys.executable, str(script), str(examples / "deployment-small.json")],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["fork 1", "['optimal', 'optimal'] True"], done.stderr


def test_any_executor_will_do(small, swept):
    with ThreadPoolExecutor(2) as pool:
        same(aigc_opt.sweep(small, VARY, workers=pool), swept)
        assert pool.submit(int).result() == 0  # it is left open


def test_the_command(small, examples, swept, tmp_path, capsys):
    output = tmp_path / "s.csv"
    words = ["sweep", str(examples / "deployment-small.json"), *WORDS, "-o", str(output)]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert out == "" and "6 of 6 points" in err
    same(pd.read_csv(output), swept)
    before = output.read_bytes()
    assert main(words) == 0 and output.read_bytes() == before  # nothing is done twice


def test_the_command_on_standard_output(examples, swept, capsys):
    assert main(["sweep", str(examples / "deployment-small.json"), *WORDS, "--quiet", "-o", "-"]) == 0
    same(pd.read_csv(io.StringIO(capsys.readouterr().out)), swept)


@pytest.mark.parametrize("cut", [1, 25, -3, -1])
def test_a_file_cut_anywhere_goes_on(small, swept, tmp_path, cut):
    output = tmp_path / "s.csv"
    aigc_opt.sweep(small, VARY, output)
    whole = output.read_bytes()
    lines = whole.splitlines(keepends=True)
    output.write_bytes(whole[: len(lines[0]) + len(lines[1]) + cut] if cut > 0 else whole[:cut])
    done = []
    same(aigc_opt.sweep(small, VARY, output, progress=lambda *count: done.append(count)), swept)
    assert done[0][0] == output.read_bytes().count(b"\n") - 1 - (done[-1][0] - done[0][0])
    assert done[0][0] >= 1 and done[-1][:2] == (6, 6)
    table = pd.read_csv(output)
    assert len(table) == 6 and not table.duplicated(list(VARY)).any()
    assert output.read_bytes().startswith(whole[: len(lines[0]) + len(lines[1])])  # rows that were there stay


def test_another_sweep_is_not_mixed_in(small, tmp_path):
    output = tmp_path / "s.csv"
    aigc_opt.sweep(small, {"weights.delay": [1.0]}, output)
    before = output.read_bytes()
    data = small.to_dict()
    data["weights"]["storage"] = 5.0
    with pytest.raises(InputError, match=r"instance of s.csv.json"):
        aigc_opt.sweep(type(small).from_dict(data), {"weights.delay": [1.0]}, output)
    with pytest.raises(InputError, match=r"vary of s.csv.json"):
        aigc_opt.sweep(small, {"weights.delay": [1.0, 2.0]}, output)
    with pytest.raises(InputError, match=r"gap of s.csv.json"):
        aigc_opt.sweep(small, {"weights.delay": [1.0]}, output, gap=1e-2)
    assert output.read_bytes() == before
    (tmp_path / "s.csv.json").unlink()
    with pytest.raises(InputError, match="is there already"):
        aigc_opt.sweep(small, {"weights.delay": [1.0]}, output)
    (tmp_path / "mine.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="is there already"):
        aigc_opt.sweep(small, {"weights.delay": [1.0]}, tmp_path / "mine.csv")


def test_a_file_that_another_sweep_writes_is_left_alone(small, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    output = tmp_path / "s.csv"
    aigc_opt.sweep(small, {"weights.delay": [1.0]}, output)
    with open(output) as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="being written by another"):
            aigc_opt.sweep(small, {"weights.delay": [1.0]}, output)


@pytest.mark.parametrize("output", ["nowhere/s.csv", "."])
def test_output_that_cannot_be_written(small, tmp_path, monkeypatch, output):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError):
        aigc_opt.sweep(small, {"weights.delay": [1.0]}, output)


def test_faults_are_told_before_anything_is_solved(small, tmp_path):
    output = tmp_path / "s.csv"
    with pytest.raises(InputError, match="must be >= 0, got -1"):
        aigc_opt.sweep(small, {"weights.delay": [1.0, -1.0]}, output)
    for wrong in ({"method": "none"}, {"gap": -1.0}, {"time_limit": -1.0}, {"seed": -1}, {"workers": 0}):
        with pytest.raises(InputError, match=f"{next(iter(wrong)).replace('_', ' ')}:? must be"):
            aigc_opt.sweep(small, {"weights.delay": [1.0]}, output, **wrong)
    assert not output.exists()


def test_command_errors_have_one_line(examples, tmp_path, capsys):
    words = ["sweep", str(examples / "deployment-small.json"), "-o", str(tmp_path / "s.csv"), "--vary"]
    for word in ("weights.none=1", "weights.delay=1:2", "weights.delay", "weights[0]=1"):
        assert main([*words, word]) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1 and err.startswith("aigc-opt: vary:")
    assert main(["sweep", str(examples / "two-timescale-process.json"), *words[2:], "edge.storage_gb=1"]) == 2


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_killed_sweep_goes_on(tmp_path, workers):
    """Killed without warning while it works, then run again: every point once, in the end."""
    output, instance = tmp_path / "s.csv", ROOT / "instances" / "examples" / "deployment-medium.json"
    command = [
        sys.executable, "-m", "aigc_opt", "sweep", str(instance), "--vary", "weights.delay=0.5:1:0.1",
        "--gap", "1e-2", "--workers", workers, "--quiet", "-o", str(output),
    ]  # fmt: skip
    running = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    while (not output.exists() or output.read_bytes().count(b"\n") < 4) and running.poll() is None:
        time.sleep(0.01)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    killed = output.read_bytes()
    assert killed.count(b"\n") >= 4
    assert subprocess.run(command, cwd=ROOT).returncode == 0
    table = pd.read_csv(output)
    assert sorted(table["weights.delay"]) == pytest.approx(np.arange(0.5, 1.05, 0.1)) and len(table) == 6
    assert output.read_bytes().startswith(killed[: killed.rfind(b"\n") + 1])


@pytest.mark.parametrize("workers", ["1", "2"])
def test_interrupt_keeps_what_is_done(tmp_path, workers):
    output, instance = tmp_path / "s.csv", ROOT / "instances" / "deployment" / "melbourne-cbd-small.json"
    command = [
        sys.executable, "-m", "aigc_opt", "sweep", str(instance), "--vary", "weights.delay=0.1:1:0.1", "--gap", "0.5",
        "--workers", workers, "-o", str(output),
    ]  # fmt: skip
    running = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while (not output.exists() or output.read_bytes().count(b"\n") < 2) and running.poll() is None:
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=30)
    assert running.returncode == 0 and "goes on with the others" in err and "Traceback" not in err
    assert 1 <= len(pd.read_csv(output)) < 10


class Breaking(Executor):
    """Solves the first points, and then its processes die."""

    _max_workers = 1

    def __init__(self, after: int):
        self.left = after

    def submit(self, function, *arguments):
        from concurrent.futures.process import BrokenProcessPool

        future = Future()
        self.left -= 1
        if self.left < 0:
            future.set_exception(BrokenProcessPool("gone"))
        else:
            future.set_result(function(*arguments))
        return future


def test_a_pool_that_breaks_is_told_and_its_rows_stay(small, swept, tmp_path):
    output = tmp_path / "s.csv"
    with pytest.raises(SolverError, match="died"):
        aigc_opt.sweep(small, VARY, output, workers=Breaking(3))
    assert len(pd.read_csv(output)) == 3
    same(aigc_opt.sweep(small, VARY, output), swept)


def test_a_point_at_which_the_solver_fails_does_not_end_the_sweep(small, tmp_path, monkeypatch):
    honest, output = methods.METHODS["popularity"], tmp_path / "s.csv"

    def failing(task):
        if task.instance.weights.delay == 0.5:
            raise SolverError("failed for the test")
        return honest(task)

    monkeypatch.setitem(methods.METHODS, "popularity", failing)
    vary = {"weights.delay": [0.25, 0.5, 1.0]}
    with pytest.warns(UserWarning, match=r"weights.delay=0\.5: failed for the test"):
        table = aigc_opt.sweep(small, vary, output, method="popularity")
    assert table["status"].tolist() == ["feasible", "failed", "feasible"]
    assert table["objective"].isna().tolist() == [False, True, False]
    again = aigc_opt.sweep(small, vary, output, method="popularity")  # from the file, nothing solved again
    pd.testing.assert_frame_equal(again, table)


def test_workers_end_with_a_sweep_that_was_killed_alone(tmp_path):
    output, instance = tmp_path / "s.csv", ROOT / "instances" / "examples" / "deployment-small.json"
    command = [
        sys.executable, "-m", "aigc_opt", "sweep", str(instance), "--vary", "weights.delay=0.001:1:0.001",
        "--workers", "2", "-o", str(output), "--quiet",
    ]  # fmt: skip
    running = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    while (not output.exists() or output.read_bytes().count(b"\n") < 3) and running.poll() is None:
        time.sleep(0.01)
    running.kill()
    running.wait()
    until = time.monotonic() + 20
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < until:  # the group is there as long as one of its processes is
            os.killpg(running.pid, 0)
            time.sleep(0.05)


def test_instances_are_kept_within_bounds_and_never_sent(small, monkeypatch):
    grid = {"weights.delay": (0.5, 1.0)}
    kept = Varied(small, grid)
    first = kept.at((0.5,))
    assert kept.at((0.5,)) is first and kept.at((1.0,)).weights.delay == 1.0
    sent = pickle.loads(pickle.dumps(kept))
    assert sent.at((0.5,)) is not first and sent.at((0.5,)).sha256 == first.sha256
    monkeypatch.setattr(paths, "KEPT_BYTES", first.arrivals.nbytes - 1)
    made = Varied(small, grid)
    assert made.at((0.5,)) is not made.at((0.5,))


def test_warm_starts_are_offered_and_only_checked_ones_used(small):
    result = aigc_opt.solve(small)
    again = aigc_opt.solve(small, start=result.solution)
    assert any(row.event == "starting point" for row in again.trace)
    assert again.objective == pytest.approx(result.objective, rel=1e-4)
    full = type(result.solution)(
        result.solution.stored * 0 + 1, result.solution.loaded * 0 + 1, result.solution.routing
    )
    refused = aigc_opt.solve(small, start=full)  # more than fits: the checker refuses it, the solve goes on
    assert refused.objective == pytest.approx(result.objective, rel=1e-4)
    assert not any(row.event == "starting point" for row in refused.trace)
    with pytest.raises(InputError, match="start"):
        aigc_opt.solve(small, method="static", start=result.solution)


@pytest.mark.parametrize("method", ["exact", "lagrangian"])
def test_large_deployments_begin_from_a_start_too(small, method, monkeypatch):
    """There `exact` leaves all to prices: with no time for anything else the start is what is given back."""
    result = aigc_opt.solve(small)
    monkeypatch.setattr(methods, "BEYOND_LINEAR", 1)
    again = aigc_opt.solve(small, method=method, start=result.solution, time_limit=1e-6)
    assert any(row.event == "starting point" for row in again.trace)
    assert again.objective <= result.objective * (1 + 1e-9)


def test_settings_beside_the_rows(small, tmp_path):
    aigc_opt.sweep(small, {"weights.delay": [1.0]}, tmp_path / "s.csv", gap=1e-2)
    beside = json.loads((tmp_path / "s.csv.json").read_text())
    assert beside["instance"]["sha256"] == small.sha256 and beside["vary"] == {"weights.delay": [1.0]}
    assert beside["gap"] == 1e-2


def test_progress_bar(capsys):
    bar = ProgressBar(sys.stderr)
    bar(0, 4, 0.0)
    bar(4, 4, 2.0)
    assert "4 of 4 points, 2.0 s" in capsys.readouterr().err.splitlines()[-1]
