"""The built wheel in an empty environment, away from the repository, without extras."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("installed")
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "env", with_pip=True)
    subprocess.run([folder / "env/bin/pip", "install", "-q", str(wheel)], check=True, capture_output=True)
    for name in ("deployment-small", "two-timescale-process"):
        shutil.copy(ROOT / "instances/examples" / f"{name}.json", folder)
    return folder


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
    assert f"aigc_opt[{extra}]" in done.stderr
