"""The doctor: its optima are those by hand, and it sees what is wrong."""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest

import aigc_opt
from aigc_opt import doctor
from aigc_opt.cli import main
from aigc_opt.doctor import CASES, DEPLOYMENT, Finding, Requirement
from aigc_opt.instance.files import INSTANCES


def test_everything_is_well_anywhere(tmp_path):
    """In an empty folder: nothing of the repository is read."""
    words = [sys.executable, "-m", "aigc_opt", "doctor"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    for part in ("Versions", "numpy", "Extras", "Solvers", "HiGHS", "Hardware", "memory", "Self-test", "All is well."):
        assert part in done.stdout
    assert done.stdout.count(" ok: optimum") >= len(CASES) and "Running HiGHS" not in done.stdout


@pytest.mark.parametrize(("data", "optimum"), CASES, ids=[data["problem"] for data, _ in CASES])
def test_wrong_optimum_is_seen(data, optimum):
    """Were the package off by 1e-5 in either direction, the self-test would say so."""
    assert "optimum" in doctor.solve_case(data, optimum)
    for factor in (1 - 1e-5, 1 + 1e-5):
        with pytest.raises(ValueError, match="the best point costs"):
            doctor.solve_case(data, optimum * factor)


def test_wrong_instance_is_seen():
    data = copy.deepcopy(DEPLOYMENT)
    data["cloud_delay_s"] = [10, 6.001]
    with pytest.raises(ValueError, match="the best point costs"):
        doctor.solve_case(data, 114.6)


def test_failure_is_exit_status_1_and_no_traceback(monkeypatch, capsys):
    def broken(data, optimum, solver=None):
        raise RuntimeError("no wheel for this processor\nsecond line")

    monkeypatch.setattr(doctor, "solve_case", broken)
    assert main(["doctor"]) == 1
    out, err = capsys.readouterr()
    assert "FAILED: RuntimeError: no wheel for this processor" in out and "second line" not in out
    assert "Something is wrong" in out and err == ""


def test_old_and_missing_dependencies(monkeypatch):
    asked = [Requirement("numpy", "999.1", None), Requirement("no-such-package", None, None)]
    extra = [Requirement("no-such-solver", "2", "fancy"), Requirement("numpy", "1.0", "plain")]
    monkeypatch.setattr(doctor, "requirements", lambda: asked + extra)
    found = {finding.name: finding for finding in [*doctor._versions(), *doctor._extras()]}
    assert not found["numpy"].good and "older than 999.1" in found["numpy"].text
    assert not found["no-such-package"].good
    assert found["fancy"] == Finding(
        "Extras", "fancy", 'no-such-solver is missing; get it with: pip install "aigc_opt[fancy]"'
    )
    assert found["plain"].text == "installed"


@pytest.mark.parametrize(("older", "newer"), [("1.9", "1.10"), ("1.15.0rc1", "1.15.1"), ("2", "2.0.1"), ("0.1.4", "1")])
def test_versions_are_compared_as_numbers(older, newer):
    assert doctor._numbers(older) < doctor._numbers(newer)
    assert doctor._numbers("2.0") == doctor._numbers("2")


def test_metadata_is_read():
    names = {requirement.name: requirement for requirement in doctor.requirements() if requirement.extra is None}
    assert names["highspy"].lowest == "1.15.1"
    assert {r.extra for r in doctor.requirements()} >= {None, "plot", "scip", "learn"}


@pytest.mark.parametrize("data", [data for data, _ in CASES], ids=[data["problem"] for data, _ in CASES])
def test_formulations_without_optional_parts_are_printed(data, tmp_path):
    """No devices, nobody who may be rejected: sums over nothing must not reach the LaTeX printer."""
    aigc_opt.export(INSTANCES[data["problem"]].from_dict(data), tmp_path / "model.tex")
    assert "min" in (tmp_path / "model.tex").read_text()
