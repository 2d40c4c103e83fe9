"""The benchmark: what it calls an error, its command line, and known intervals of committed instances."""

from __future__ import annotations

import json
import shutil
import sys
import time

import numpy as np
import pytest

import aigc_opt
from aigc_opt.bench import run as bench_run
from aigc_opt.bench.bounds import End, Known, contradictions, improved, read_bounds, write_bounds
from aigc_opt.bench.compare import outdated, regressions, slowed
from aigc_opt.bench.rows import ENDING_S, LATE_S, Calibration, Case, Row, dumped, measure, read_rows, run_limited
from aigc_opt.bench.run import Entry, Run, cases_of, entries_of_folder
from aigc_opt.cli import main
from aigc_opt.errors import InputError
from benchmarks import __main__ as everything
from tests.conftest import ROOT

BOUNDS = ROOT / "instances" / "bounds.json"


def row(**changes) -> Row:
    values = {
        "name": "a", "problem": "deployment", "sha256": "0" * 64, "label": "ours", "method": "exact", "solver": "highs",
        "gap_asked": 1e-4, "time_limit": 10.0, "status": "optimal", "limit": None, "objective": 100.0,
        "lower_bound": 100.0, "gap": 0.0, "proof": "dual", "checked": True, "wall_s": 5.0, "processor_s": 5.0,
        "peak_mb": 100.0, "calibration_s": 0.1, "fault": None,
    }  # fmt: skip
    return Row(**values | changes)


def known(lower: float | None, upper: float | None, infeasible: bool = False) -> Known:
    ends = [None if value is None else End(value, "command", "0", "2026-01-01") for value in (lower, upper)]
    return Known("deployment", "0" * 64, *ends, End(0.0, "command", "0", "2026-01-01") if infeasible else None)


@pytest.mark.parametrize(
    ("changes", "best", "words"),
    [
        ({}, (100, 100), None),
        ({"lower_bound": 100.01, "objective": None}, (99, 100), "bound 100.01 is above the known point 100"),
        ({"lower_bound": 99, "objective": 99.99}, (100, 100), "point 99.99 is below the known bound 100"),
        ({"lower_bound": 99, "objective": 99.99, "checked": False}, (100, 100), None),
        ({"sha256": "1" * 64}, (100, 100), "another instance of this name"),
        ({"status": "infeasible", "objective": None, "lower_bound": None}, (90, 100), "has a point of 100"),
        ({}, (None, None, True), "known to be infeasible"),
        ({"lower_bound": 100.00001}, (None, None), None),
    ],
)
def test_contradictions_with_what_is_known(changes, best, words):
    lines = contradictions([row(**changes)], {"deployment/a": known(*best)})
    assert (lines == []) if words is None else (len(lines) == 1 and words in lines[0]), lines


def test_contradictions_between_rows():
    rows = [row(objective=100, lower_bound=90), row(label="b", objective=None, lower_bound=100.01)]
    assert "is above the checked point" in contradictions(rows, {})[0]
    rows = [row(), row(label="b", status="infeasible", objective=None, lower_bound=None)]
    assert "says that there is no point" in contradictions(rows, {})[0]
    assert contradictions([row(), row(problem="offloading", objective=3, lower_bound=3)], {}) == []


def test_better_ends_are_taken_and_keep_where_they_came_from(tmp_path):
    rows = [row(objective=99, lower_bound=95), row(label="b", objective=98, lower_bound=None, checked=False)]
    bounds, lines = improved(
        {"deployment/a": known(96, 100)}, rows, {each.key: f"by {each.label}" for each in rows}, "1.0", "2026-02-03"
    )
    assert len(lines) == 1 and "objective 99" in lines[0]
    best = bounds["deployment/a"]
    assert best.lower_bound.command == "command" and best.objective == End(99, "by ours", "1.0", "2026-02-03")
    write_bounds(tmp_path / "bounds.json", bounds)
    assert read_bounds(tmp_path / "bounds.json") == bounds


def test_known_intervals_that_contradict_themselves_are_refused(tmp_path):
    write_bounds(tmp_path / "bounds.json", {"deployment/a": known(101, 100)})
    with pytest.raises(InputError, match="lower bound above"):
        read_bounds(tmp_path / "bounds.json")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, None),
        ({"processor_s": 5.9}, None),  # less than a fifth
        ({"processor_s": 6.5}, "1.30 times"),
        ({"processor_s": 6.5, "calibration_s": 0.13}, None),  # the machine is slower
        ({"processor_s": 6.5, "label": "monolith"}, None),
        ({"processor_s": 6.5, "limit": "time"}, None),
        ({"gap": 1e-3, "status": "feasible"}, "feasible, was optimal"),
    ],
)
def test_slower_than_the_last_run(changes, words):
    lines = regressions([row(**changes)], [row(), row(label="monolith")])
    assert (lines == []) if words is None else (len(lines) == 1 and words in lines[0]), lines


@pytest.mark.parametrize(("gap", "fine"), [(0.01, True), (0.0119, True), (0.0121, False), (None, False)])
def test_wider_than_the_last_run(gap, fine):
    stopped = {"status": "feasible", "limit": "time"}
    assert (regressions([row(gap=gap, **stopped)], [row(gap=0.01, **stopped)]) == []) is fine


@pytest.mark.parametrize("worse", [{"gap": 0.1}, {"gap": None, "status": "unknown"}])
def test_intervals_at_the_limit_of_a_slower_machine_are_not_compared_and_that_is_said(worse):
    old = row(gap=0.01, status="feasible", limit="time")
    for seconds, told in ((0.119, False), (0.121, True)):
        now = row(**{"status": "feasible", "limit": "time", "calibration_s": seconds, **worse})
        assert (regressions([now], [old]) == []) is told
        assert [("1.21 times slower" in line) for line in slowed([now], [old])] == [True] * told
    unknown = row(gap=0.01, status="feasible", limit="time", calibration_s=0)
    assert regressions([now], [unknown]) and not slowed([now], [unknown])
    by_itself = row(**{"status": "feasible", "limit": None, "calibration_s": 0.2, **worse})
    assert regressions([by_itself], [old]) and not slowed([by_itself], [old])


def test_a_row_that_is_worse_is_measured_again_and_the_best_one_counts(monkeypatch, examples):
    case = Case("a", "deployment", "0" * 64, "a.json", "ours", "exact", "highs", 1e-4, 10.0)
    monkeypatch.setattr(bench_run, "cases_of", lambda entry: ([case], []))
    entry = Entry(aigc_opt.load(examples / "deployment-small.json"), "a.json", "a.json", 1e-4, 10.0)
    for took, counts in (([5.0], 5.0), ([9.0, 5.0], 5.0), ([9.0, 8.0, 8.5], 8.0)):
        left = [row(processor_s=each) for each in took]
        done = bench_run.run([entry], [row()], measured=lambda case, left=left: left.pop(0))
        assert [each.processor_s for each in done.rows] == [counts] and left == []


def test_what_is_not_compared_is_said():
    assert outdated([row(), row(label="monolith")], [row()]) == []
    for now, last, words in (
        ([row()], [], "not in the last run"),
        ([], [row()], "not in this run"),
        ([row(sha256="1" * 64)], [row()], "another instance of this name"),
        ([row(time_limit=2.0)], [row()], "its limit is 2 s, was 10 s"),
    ):
        (line,) = outdated(now, last)
        assert line.startswith("deployment/a: not compared: ") and words in line
        assert regressions([row(**vars(each)) for each in now], last) == []


def test_small_differences_are_noise():
    assert regressions([row(processor_s=1.4)], [row(processor_s=0.5)]) == []


def test_calibration_is_a_short_fixed_computation_sampled_while_a_process_runs(monkeypatch):
    calibration = Calibration()
    calibration.sample(3)
    assert 0.003 < calibration.mean_s < 2
    seen = []
    monkeypatch.setattr(Calibration, "sample", lambda self, times=1: seen.append(time.monotonic()))
    monkeypatch.setattr(Calibration, "mean_s", 0.25)
    monkeypatch.setattr("aigc_opt.bench.rows.SAMPLE_EVERY_S", 0.2)
    ended = run_limited([sys.executable, "-c", "import time; time.sleep(0.7)"], 10.0)
    assert ended.calibration_s == 0.25 and len(seen) >= 5  # one when it is made, one before, one after


def test_a_process_that_does_not_end_is_ended_from_outside():
    stubborn = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)"
    began = time.monotonic()
    ended = run_limited([sys.executable, "-c", stubborn], -LATE_S + 0.5)
    assert ended.status is None and time.monotonic() - began < 0.5 + ENDING_S + 3
    ended = run_limited([sys.executable, "-c", "import time; time.sleep(60)"], -LATE_S + 0.5)
    assert ended.status not in (0, None)


def test_the_memory_of_a_process_is_its_own():
    """The system adds what its parent had when it was made."""
    held = np.ones(300 * 2**17)
    for used, words in ((0, "pass"), (450, "x = bytes([1]) * (450 * 2**20)")):
        ended = run_limited([sys.executable, "-c", f"import time; {words}; time.sleep(0.3)"], 10.0)
        assert used <= ended.peak_mb < used + 100
    assert held[-1] == 1.0


def test_a_file_that_is_no_result_is_a_fault(tmp_path, examples):
    shutil.copy(examples / "deployment-small.json", tmp_path)
    (entry,), _ = entries_of_folder(tmp_path, 1e-4, 5, tmp_path)
    case = cases_of(entry)[0][0]
    good = measure(case)
    assert good.fault is None and good.checked and good.status == "optimal" and good.peak_mb > 20
    (tmp_path / "deployment-small.json").write_text("{}")
    assert "exit status 2" in measure(case).fault


def test_command_line(tmp_path, examples, capsys, monkeypatch):
    monkeypatch.setattr(bench_run, "MOST_TRIES", 1)
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("deployment-small.json", "two-timescale-process.json", "optima.json"):
        shutil.copy(examples / name, folder)
    words = ["bench", str(folder), "--no-baselines", "--time-limit", "4", "--quiet", "--only", "deployment"]
    results = tmp_path / "results.json"
    assert main([*words, "--update", "-o", str(results)]) == 0
    said = capsys.readouterr()
    assert "| deployment | deployment-small | ours | optimal |" in said.out and "monolith (HiGHS)" in said.out
    about, rows = read_rows(results)
    assert about["versions"]["highspy"] and [each.label for each in rows] == ["ours", "monolith"]
    assert dumped(about).count("\n") > 5 and json.loads(results.read_text())["rows"][0]["checked"]
    best = json.loads((folder / "bounds.json").read_text())["instances"]["deployment/deployment-small"]
    assert best["objective"]["command"].startswith("aigc-opt solve ")

    # A known interval that is wrong by 1e-4 is found, and stays as it is.
    best["lower_bound"]["value"] = best["objective"]["value"] = 1.0001 * best["objective"]["value"]
    wrong = {"deployment/deployment-small": Known(best["problem"], best["sha256"], *(End(**best[key]) for key in ("lower_bound", "objective")))}  # fmt: skip # noqa: E501
    write_bounds(folder / "bounds.json", wrong)
    assert main([*words, "--update", "--against", str(results)]) == 1
    said = capsys.readouterr()
    assert "is below the known bound" in said.err and "left as it is" in said.err
    assert read_bounds(folder / "bounds.json") == wrong

    # So is a row that an earlier run had better, and what of that run is not compared is said.
    (folder / "bounds.json").unlink()
    data = json.loads(results.read_text())
    data["rows"] = [each | {"status": "infeasible"} for each in data["rows"]]
    data["rows"] += [each | {"name": "gone"} for each in data["rows"][:1]]
    results.write_text(json.dumps(data))
    assert main([*words, "--against", str(results)]) == 1
    said = capsys.readouterr().err
    assert "deployment/deployment-small: optimal, was infeasible" in said
    assert "deployment/gone: not compared: it is not in this run" in said


@pytest.mark.parametrize(
    ("now", "last", "said"),
    [
        ([row()], [row()], None),
        ([row(processor_s=6.5)], [row()], "1.30 times the last run's processor seconds"),
        ([row(gap=0.02, status="feasible")], [row(gap=0.01, status="feasible")], "the interval is wider"),
        ([row()], [row(), row(name="b")], "is not of these instances"),
        ([row(sha256="1" * 64)], [row()], "is not of these instances"),
        ([row()], None, "is missing"),
    ],
)
def test_the_repositorys_benchmark_fails_where_the_last_table_was_better(
    now, last, said, tmp_path, monkeypatch, capsys
):
    building = {"calibration_s": 1.0, "median_s": {}}
    about = {"versions": {}, "cores": 1, "processor": "", "memory_gb": 1, "system": "", "load_average": 1, "date": ""}
    monkeypatch.setattr(everything, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(everything, "entries", lambda made: iter(()))
    monkeypatch.setattr(everything, "run", lambda *rest: Run(dict(about), now))
    monkeypatch.setattr(everything, "measure_building", lambda: ({}, "", 1.0))
    monkeypatch.setattr(sys, "argv", ["benchmarks"])
    if last is not None:
        everything.RESULTS.write_text(dumped({"building": building, "rows": [vars(each) for each in last]}))
    assert everything.main() == (said is not None)
    assert (said or "") in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"processor_s": "long"}, "rows[0].processor_s: must be a number, got text 'long'"),
        ({"processor_s": None}, "rows[0].processor_s: must be a number, got null"),
        ({"gap": "1%"}, "rows[0].gap: must be a number or null, got text '1%'"),
        ({"sha256": 1}, "rows[0].sha256: must be text, got 1"),
        ({"odd": 1}, "is not the results of a benchmark"),
    ],
)
def test_results_that_are_damaged_are_refused_in_a_line(changes, said, tmp_path):
    (tmp_path / "results.json").write_text(json.dumps({"rows": [row().to_dict() | changes]}))
    with pytest.raises(InputError) as refused:
        read_rows(tmp_path / "results.json")
    (line,) = refused.value.lines()
    assert said in line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "there is no such folder"),
        (["{tmp}"], "has no instance files"),
        (["{tmp}", "--time-limit", "0"], "--time-limit must be"),
        (["{tmp}", "--bounds", "no.json"], "there is no such file"),
    ],
)
def test_wrong_calls(words, said, tmp_path, capsys):
    assert main(["bench", *[word.format(tmp=tmp_path) for word in words]]) == 2
    assert said in capsys.readouterr().err


def test_broken_instances_of_a_folder_are_named(tmp_path, capsys, examples):
    shutil.copy(ROOT / "tests" / "broken" / "deployment-weights.json", tmp_path)
    (tmp_path / "other.json").write_text('{"something": "else"}')
    (tmp_path / "truncated.json").write_text('{"arrivals": [')
    assert main(["bench", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "deployment-weights.json: weights" in said and "truncated.json: is not JSON" in said and "other" not in said


# ----------------------------------------------------------------------------------------- the committed intervals


def committed():
    for path in sorted((ROOT / "instances").rglob("*.json")):
        if '"aigc-opt/instance"' in path.read_text()[:200]:
            yield pytest.param(path, id=f"{path.parent.name}/{path.stem}")


@pytest.mark.parametrize("path", list(committed()))
def test_a_short_solve_does_not_contradict_the_known_interval(path):
    """Every committed instance has a known interval, and a short solve lies around it."""
    instance = aigc_opt.load(path)
    if instance.problem == "two_timescale" and instance.requests is None:
        instance = aigc_opt.sample(instance, 0)
    best = read_bounds(BOUNDS)[f"{instance.problem}/{instance.name}"]
    assert best.sha256 == instance.sha256
    assert best.infeasible is not None or (best.objective is not None and best.lower_bound is not None)
    result = aigc_opt.solve(instance, time_limit=0.5)
    found = row(
        name=instance.name, problem=instance.problem, sha256=instance.sha256, status=str(result.status),
        objective=result.objective, lower_bound=result.lower_bound,
    )  # fmt: skip
    assert contradictions([found], read_bounds(BOUNDS)) == []


def test_known_intervals_agree_with_the_examples_optima(optima):
    bounds = read_bounds(BOUNDS)
    for name, optimum in optima.items():
        best = next(known for place, known in bounds.items() if place.endswith(f"/{name}"))
        if optimum is None:
            assert best.infeasible is not None
        else:
            assert best.objective.value == pytest.approx(optimum, rel=1e-6)
            assert best.lower_bound.value <= optimum * (1 + 1e-6)
