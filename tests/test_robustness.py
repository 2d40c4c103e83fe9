"""Files are whole whenever the process is killed, and solves beside each other give what they give alone."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

import aigc_opt

WRITERS = {
    "result": """
from aigc_opt.api import solve
from aigc_opt.instance.files import dump_json
result = solve(EXAMPLES + "/deployment-small.json", method="cloud-only", bound=False)
def write(n):
    result.versions["n"] = "x" * (200_000 + n % 2)
    result.save("file.json")
""",
    "instance": """
from aigc_opt.instance.files import load, save
instance = load(EXAMPLES + "/deployment-medium.json")
def write(n):
    save(instance.model_copy(update={"description": "x" * (200_000 + n % 2)}), "file.json")
""",
    "report or page": """
from aigc_opt.instance.files import dump_json, write_text
def write(n):
    write_text("file.json", dump_json({"format": "x" * (200_000 + n % 2)}))
""",
    "npz": """
import numpy as np
from aigc_opt.instance.files import write_npz
def write(n):
    write_npz("file.npz", {"model": np.full((40, 40, 20), n), "gain": np.full((40, 40, 20), 1.0 * n)})
""",
}


@pytest.mark.parametrize("writer", WRITERS)
def test_killed_at_any_moment_a_file_is_whole(writer, tmp_path, examples):
    """The first file counts too: after it is there once, it is never away and never cut off."""
    code = f"EXAMPLES = {str(examples)!r}\n{WRITERS[writer]}\nwrite(0)\nprint('ready', flush=True)\nn = 0\nwhile True:\n    n += 1\n    write(n)\n"  # noqa: E501
    chance = random.Random(writer)
    for _ in range(4):
        child = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE)
        assert child.stdout.readline() == b"ready\n"
        time.sleep(chance.uniform(0, 0.15))
        child.kill()
        child.wait()
        child.stdout.close()
        _is_whole(tmp_path)


def _is_whole(folder: Path) -> None:
    if (folder / "file.npz").exists():
        import numpy as np

        with np.load(folder / "file.npz") as arrays:
            assert (arrays["gain"] == arrays["model"]).all() and len(set(arrays["model"].ravel().tolist())) == 1
    else:
        json.loads((folder / "file.json").read_text())


SOLVED = ("deployment-small", "offloading-small", "two-timescale-switching")


def _solved(path: str) -> tuple[float | None, float | None, dict]:
    result = aigc_opt.solve(path, gap=1e-6)
    return result.objective, result.lower_bound, result.solution.to_dict()


def test_solves_beside_each_other_give_what_they_give_alone(examples):
    paths = [str(examples / f"{name}.json") for name in SOLVED]
    alone = [_solved(path) for path in paths]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(_solved, 3 * paths)) == 3 * alone
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as processes:
        assert list(processes.map(_solved, 2 * paths)) == 2 * alone
