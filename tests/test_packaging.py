"""The built wheel in empty environments, away from the repository: with and without extras, both ends of versions."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv

import pytest

from benchmarks.lowest import lowest
from tests.conftest import ROOT

pytestmark = pytest.mark.long

EXAMPLES = ("deployment-small", "offloading-small", "two-timescale-process")
BASIC = ("test_program.py", "test_files.py", "test_solvers.py", "test_generate.py", "test_broken_inputs.py")
"""Tests that need no extra; in them what versions change would show."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def environment(folder, *packages):
    """A folder with an environment of its own in ``env``, and some examples."""
    venv.create(folder / "env", with_pip=True)
    done = subprocess.run([folder / "env/bin/pip", "install", "-q", *packages], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in EXAMPLES:
        shutil.copy(ROOT / "instances/examples" / f"{name}.json", folder)
    return folder


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    return environment(tmp_path_factory.mktemp("bare"), str(wheel))


@pytest.fixture(scope="module")
def with_extras(wheel, tmp_path_factory):
    return environment(tmp_path_factory.mktemp("extras"), f"{wheel}[scip,ipopt,plot]")


def call(folder, *words):
    return subprocess.run([folder / "env/bin/aigc-opt", *words], capture_output=True, text=True, cwd=folder)


def test_works_without_extras(installed):
    assert call(installed, "--version").stdout.startswith("aigc-opt ")
    solved = call(installed, "solve", "deployment-small.json", "--quiet")
    assert solved.returncode == 0 and "optimal" in solved.stdout
    doctor = call(installed, "doctor")
    assert doctor.returncode == 0, doctor.stdout
    assert 'get it with: pip install "aigc_opt[plot]"' in doctor.stdout


def test_import_takes_less_than_a_second(installed):
    code = "import time; t = time.process_time(); import aigc_opt; print(time.process_time() - t)"
    done = subprocess.run([installed / "env/bin/python", "-c", code], capture_output=True, text=True, cwd=installed)
    assert float(done.stdout) < 1


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        (["solve", "deployment-small.json", "--quiet", "-o", "r.json"], None),
        (["solve", "offloading-small.json", "--solver", "scip", "--quiet"], "scip"),
        (["plot", "r.json", "-o", "r.png"], "plot"),
        (["train", "two-timescale-process.json", "-o", "agent"], "learn"),
        (["evaluate", "two-timescale-process.json", "--policy", "agent.zip", "--episodes", "1"], "rl"),
    ],
)
def test_missing_extra_is_one_line(installed, words, extra):
    (installed / "agent.zip").write_bytes(b"PK")
    done = call(installed, *words)
    if extra is None:
        assert done.returncode == 0, done.stderr
        return
    assert done.returncode == 2 and "Traceback" not in done.stderr
    *before, last = done.stderr.splitlines()
    assert f"aigc_opt[{extra}]" in last and not before


def test_extras_are_found_and_used(with_extras):
    doctor = call(with_extras, "doctor")
    assert doctor.returncode == 0, doctor.stdout
    for line in ("offloading, SCIP", "shares, Ipopt"):
        assert line in doctor.stdout
    assert "aigc_opt[plot]" not in doctor.stdout
    solved = call(with_extras, "solve", "offloading-small.json", "--solver", "scip", "--quiet", "-o", "r.json")
    assert solved.returncode == 0 and "optimal" in solved.stdout + solved.stderr
    drawn = call(with_extras, "plot", "r.json", "-o", "r.png")
    assert drawn.returncode == 0 and (with_extras / "r.png").read_bytes().startswith(b"\x89PNG"), drawn.stderr


@pytest.mark.parametrize("versions", ["lowest", "newest"])
def test_both_ends_of_versions(wheel, tmp_path, versions):
    held = lowest() if versions == "lowest" else []
    environment(tmp_path, str(wheel), *held, "pytest", "hypothesis")
    for name in ("tests", "instances"):  # not the package: the wheel is what is tested
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", *(f"tests/{name}" for name in BASIC)]
    done = subprocess.run([tmp_path / "env/bin/python", *words], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
