"""The command line as scripts use it: output, exit status, what is written and what is not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from aigc_opt.cli import main
from aigc_opt.control import PATIENCE_S

RESULT_KEYS = [
    "format", "version", "instance", "method", "status", "limit", "objective", "lower_bound", "gap", "gap_tolerance",
    "certificate", "terms", "trace", "runtime_s", "seed", "versions", "solution",
]  # fmt: skip


def call(*words, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "aigc_opt", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


@pytest.fixture
def small(examples):
    return examples / "deployment-small.json"


def test_import_is_quick():
    """Nothing heavy is imported before it is needed."""
    code = "import aigc_opt, sys; print(sorted({'numpy', 'scipy', 'pandas', 'pyomo', 'highspy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_result_on_standard_output_and_nothing_else(small, optima):
    done = call("solve", small, "--gap", "1e-9", "-o", "-")
    assert done.returncode == 0
    data = json.loads(done.stdout)
    assert list(data) == RESULT_KEYS
    assert data["status"] == "optimal" and data["certificate"]["point"] == "checked"
    assert data["objective"] == pytest.approx(optima["deployment-small"], rel=1e-9)
    assert sum(data["terms"].values()) == pytest.approx(data["objective"])
    assert list(data["terms"]) == ["delay", "switching", "storage", "gpu_memory"]
    assert list(data["trace"][0]) == ["elapsed_s", "objective", "lower_bound", "event"]
    assert "incumbent" in done.stderr and "\r" not in done.stderr


def test_summary_on_standard_output(small, capsys):
    assert main(["solve", str(small), "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for words in ("optimal", "lower bound", "gpu_memory", "edge-1", "edge-2", "all"):
        assert words in out


def test_result_file_is_checked_and_read_again(small, tmp_path, capsys):
    import aigc_opt

    path = tmp_path / "result.json"
    assert main(["solve", str(small), "--quiet", "-o", str(path)]) == 0
    assert capsys.readouterr().out == ""
    assert main(["check", str(small), str(path)]) == 0
    assert "feasible" in capsys.readouterr().out
    result = aigc_opt.load_result(path, small)
    assert result.to_dict() == json.loads(path.read_text())
    bare = tmp_path / "solution.json"
    bare.write_text(json.dumps(result.solution.to_dict()))
    assert main(["check", str(small), str(bare), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["feasible", "objective", "terms", "violations"] and found["violations"] == []


def test_check_that_fails(small, tmp_path, capsys):
    import aigc_opt

    solution = aigc_opt.solve(small).solution.to_dict()
    solution["stored"] = (1 - 0 * __import__("numpy").array(solution["stored"])).tolist()
    path = tmp_path / "solution.json"
    path.write_text(json.dumps(solution))
    assert main(["check", str(small), str(path)]) == 1
    assert "NOT feasible" in capsys.readouterr().out
    assert main(["check", str(small), str(path), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert {v["constraint"] for v in found["violations"]} == {"storage"}
    assert list(found["violations"][0]) == ["constraint", "where", "amount"]


def test_bound_alone(small, capsys):
    assert main(["bound", str(small), "--quiet", "-o", "-"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["status"] == "bound_only" and data["objective"] is None and data["solution"] is None
    assert data["certificate"] == {"point": "none", "bound": "dual"}
    assert data["gap"] is None and data["terms"] is None


def test_heuristic_without_a_bound(small, capsys):
    assert main(["solve", str(small), "--method", "lru", "--no-bound", "--quiet", "-o", "-"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["status"] == "feasible" and data["lower_bound"] is None
    assert data["certificate"] == {"point": "checked", "bound": "none"}


def test_generate_solve_export(tmp_path, capsys):
    path = tmp_path / "made.json"
    words = ["generate", "deployment", "--servers", "2", "--models", "4", "--slots", "3", "--family", "metro"]
    assert main([*words, "--seed", "7", "-o", str(path)]) == 0
    assert main([*words, "--seed", "7", "-o", "-"]) == 0
    assert capsys.readouterr().out == path.read_text()
    assert main(["solve", str(path), "--quiet"]) == 0
    for ending in ("lp", "mps", "tex"):
        assert main(["export", str(path), "-o", str(tmp_path / f"model.{ending}")]) == 0
    assert main(["export", str(path), "-o", str(tmp_path / "model.doc")]) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["made.json", "model.lp", "model.mps", "model.tex"]


def test_interrupt_writes_what_there_is(tmp_path):
    path, result = tmp_path / "made.json", tmp_path / "result.json"
    assert call("generate", "deployment", "--servers", 7, "--models", 14, "--slots", 24, "-o", path).returncode == 0
    command = [sys.executable, "-m", "aigc_opt", "solve", str(path), "-o", str(result), "--gap", "1e-9"]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    for line in running.stderr:  # wait until there is something to give
        if "cloud only" in line or "feature-aware" in line:
            break
    time.sleep(1.0)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 0, err
    data = json.loads(result.read_text())
    assert (data["status"], data["limit"]) == ("feasible", "interrupt")
    assert data["lower_bound"] <= data["objective"]


def test_time_limit_of_the_command(tmp_path):
    path = tmp_path / "made.json"
    assert call("generate", "deployment", "--servers", 7, "--models", 14, "--slots", 24, "-o", path).returncode == 0
    done = call("solve", path, "--time-limit", 2, "-o", "-", "--gap", 0)
    data = json.loads(done.stdout)
    assert done.returncode == 0 and data["limit"] == "time"
    assert data["runtime_s"] < 2 + 4


def test_progress_is_one_line_on_a_terminal(small):
    """On a terminal the line is overwritten; the test looks at what a terminal would get."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    done = subprocess.Popen([sys.executable, "-m", "aigc_opt", "solve", str(small), "-o", "-"],
                            stdout=subprocess.DEVNULL, stderr=theirs)  # fmt: skip
    os.close(theirs)
    seen = b""
    try:
        while chunk := os.read(ours, 4096):
            seen += chunk
    except OSError:
        pass  # the other end is closed
    assert done.wait() == 0
    assert seen.count(b"\r") >= 2 and seen.rstrip(b"\r\n").count(b"\n") == 0


def test_internal_error_has_a_status_of_its_own(small, monkeypatch, capsys):
    import aigc_opt.api

    def fail(*args, **options):
        raise ZeroDivisionError("by accident")

    monkeypatch.setattr(aigc_opt.api, "solve", fail)
    assert main(["solve", str(small), "--quiet"]) == 4
    assert "internal error" in capsys.readouterr().err
    with pytest.raises(ZeroDivisionError):
        main(["solve", str(small), "--quiet", "--debug"])


def test_output_that_nobody_reads(small):
    """A reader that goes away is no error of ours."""
    done = subprocess.run(
        f"{sys.executable} -m aigc_opt solve {small} --quiet | true", shell=True, capture_output=True, text=True
    )
    assert "Traceback" not in done.stderr and "BrokenPipe" not in done.stderr


def test_problems_that_are_only_read_say_so(examples, capsys):
    from aigc_opt.problems.problem import SOLVED

    for name in ("offloading-small", "two-timescale-small"):
        if name.rsplit("-", 1)[0].replace("-", "_") not in SOLVED:
            assert main(["solve", str(examples / f"{name}.json")]) == 2
            assert "does not solve them yet" in capsys.readouterr().err


def test_a_reader_of_progress_that_goes_away_does_not_stop_the_solve(small, tmp_path):
    path = tmp_path / "result.json"
    command = (
        f"({sys.executable} -m aigc_opt solve {small} -o {path}; echo $? > {tmp_path / 'status'}) 2>&1 | head -n 1"
    )
    subprocess.run(command, shell=True, capture_output=True)
    assert (tmp_path / "status").read_text().strip() == "0"
    assert json.loads(path.read_text())["status"] == "optimal"


@pytest.mark.parametrize("stream", [1, 2])
def test_what_nobody_reads_any_more_does_not_change_the_status(stream):
    """What is still in a buffer when the reader goes away fails once more as Python ends, with a status of its own."""
    code = (
        "import os, sys; from aigc_opt.__main__ import run; reader, writer = os.pipe(); os.close(reader);"
        f"os.dup2(writer, {stream}); (sys.stdout, sys.stderr)[{stream} - 1].write('unread');"
        "sys.argv = ['aigc-opt', 'check', 'no-such-file', 'no-such-file']; run()"
    )
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, env=buffered).returncode == 2


@pytest.mark.parametrize(("closed", "status"), [("2>&-", 0), (">&-", 0), (">/dev/full", 2)])
def test_streams_that_are_closed_or_full(small, closed, status):
    done = subprocess.run(
        f"{sys.executable} -m aigc_opt solve {small} {closed}", shell=True, capture_output=True, text=True
    )
    assert done.returncode == status
    assert "Traceback" not in done.stderr and "internal" not in done.stderr


@pytest.mark.parametrize("after_s", [0.15, 0.4])
def test_interrupt_while_starting(small, after_s):
    command = [sys.executable, "-m", "aigc_opt", "solve", str(small)]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    time.sleep(after_s)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    # Before Python itself is up the signal is the interpreter's; from then on there is an exit status and no traceback.
    assert running.returncode in (0, 3, -signal.SIGINT)
    if running.returncode != -signal.SIGINT:
        assert "Traceback" not in err


def test_a_second_interrupt_loses_nothing(tmp_path):
    path = tmp_path / "made.json"
    assert call("generate", "deployment", "--servers", 6, "--models", 12, "--slots", 20, "-o", path).returncode == 0
    command = [sys.executable, "-m", "aigc_opt", "solve", str(path), "-o", "-", "--gap", "1e-9"]
    # Unbuffered: then nobody but us looks whether a write that a signal interrupts was whole.
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    running = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    for line in running.stderr:
        if "cloud only" in line or "feature-aware" in line:
            break
    time.sleep(0.5)
    written = []
    reader = threading.Thread(target=lambda: written.append(running.stdout.read()), daemon=True)
    reader.start()
    until = time.monotonic() + PATIENCE_S
    while running.poll() is None and time.monotonic() < until:  # up to the process's very end
        running.send_signal(signal.SIGINT)
        time.sleep(0.002)
    reader.join(timeout=60)
    err, out = running.stderr.read(), written[0]
    running.wait(timeout=60)
    assert running.returncode == 0, err
    assert json.loads(out)["limit"] == "interrupt"
