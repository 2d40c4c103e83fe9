"""Files are whole whenever the process is killed, solves beside each other give what they give alone, memory is asked
for only where it is there."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import pandas as pd
import pytest

import aigc_opt
from aigc_opt import control
from aigc_opt.cli import main
from aigc_opt.instance.files import read_json
from aigc_opt.instance.generate import generate_two_timescale
from aigc_opt.instance.generate_offloading import generate_offloading

WRITERS = {
    "result": """
from aigc_opt.api import load_result, solve
instance = EXAMPLES + "/deployment-small.json"
result = solve(instance, method="cloud-only", bound=False)
def write(n):
    result.versions["n"] = str(n) * 100_000
    result.save("file.json")
def read():
    found = load_result("file.json", instance).versions["n"]
    return int(found[0]) if found == found[0] * 100_000 else found[-9:]
""",
    "instance": """
from aigc_opt.instance.files import load, save
instance = load(EXAMPLES + "/deployment-medium.json")
def write(n):
    save(instance.model_copy(update={"description": str(n) * 200_000}), "file.json")
def read():
    return int(load("file.json").description[0])
""",
    "long episode": """
from aigc_opt.instance import files
from aigc_opt.instance.sample import sample
files.INLINE_REQUESTS = 0
process = files.load(EXAMPLES + "/two-timescale-process.json")
episodes = [sample(process, seed, "episode") for seed in range(10)]
def write(n):
    files.save(episodes[n], "file.json")
def read():
    return episodes.index(files.load("file.json"))
""",
    "solution in arrays": """
import numpy as np
from aigc_opt.instance.files import load
from aigc_opt.api import load_solution
from aigc_opt.problems.two_timescale.solution import SOLUTION_ARRAYS, TwoTimescaleSolution
instance = load(EXAMPLES + "/two-timescale-small.json")
def write(n):
    shape = instance.requests.model.shape
    shapes = [(shape[0], len(instance.models))] + 4 * [shape]
    TwoTimescaleSolution(*(np.full(shape, float(n)) for shape in shapes)).save("file.json", npz=True)
def read():
    found = load_solution("file.json", instance)
    values = set(np.concatenate([getattr(found, name).ravel() for name in SOLUTION_ARRAYS]).tolist())
    return int(values.pop()) if len(values) == 1 else values
""",
    "certificate": """
import dataclasses
from aigc_opt.certificates import certify, check_certificate
instance = EXAMPLES + "/offloading-small.json"
certificate = certify(instance, time_limit=10)
prices = certificate.multipliers["ghz"]
def write(n):
    made = dataclasses.replace(certificate, multipliers={"ghz": [price * (1 + n / 100) for price in prices]})
    made.save("file.json")
def read():
    from aigc_opt.instance.files import read_json
    found = read_json("file.json")["multipliers"]["ghz"]
    return round(100 * (float(found[0]) / prices[0] - 1))
""",
    "agent": """
import torch
from aigc_opt.envs.station import Station
from aigc_opt.instance.files import load, read_json
from aigc_opt.learning.agent import Agent, load_agent
from aigc_opt.learning.settings import Settings
station = Station(load(EXAMPLES + "/two-timescale-process.json"))
agent = Agent(station, Settings(width=16))
def write(n):
    with torch.no_grad():
        for weight in agent.networks.parameters():
            weight.fill_(float(n))
    agent.save(".", {"frames_trained": n})
def read():
    values = {w for p in load_agent(".", station).networks.parameters() for w in p.unique().tolist()}
    values.add(read_json("agent.json")["frames_trained"])
    return int(values.pop()) if len(values) == 1 else values
""",
    "picture": """
from aigc_opt.plot.files import draw
from aigc_opt.api import solve
result = solve(EXAMPLES + "/offloading-small.json", method="greedy-deadline", bound=False)
def write(n):
    result.save("result.json")
    draw("result.json", "file.svg")
def read():
    import xml.etree.ElementTree as tree
    return len(tree.parse("file.svg").getroot()) and 0
""",
}
"""`write(n)` writes the n-th content, n of one digit; `read` returns which one is there, something else if none is."""

AT_EVERY_STEP = """
import os, signal, sys
real, calls, deadly = os.replace, 0, 0
def replace(source, target):
    global calls
    calls += 1
    if calls == deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    real(source, target)
os.replace = replace
write(0)
if read() != 0:
    sys.exit(f"wrote 0, found {read()}")
for deadly in range(1, 9):
    child, calls = os.fork(), 0
    if not child:
        write(deadly)
        os._exit(0)
    ended = os.waitpid(child, 0)[1]
    found = read()
    if ended == 0:
        break
    if found != 0:
        sys.exit(f"killed before its file number {deadly} was there, found {found}")
print(deadly - 1, found, os.listdir())
"""
"""Killed before each time that a new file takes an old one's place: all is as before. Then not killed: all is new."""


@pytest.mark.parametrize("writer", WRITERS)
def test_killed_before_any_of_its_files_is_there_the_old_state_is(writer, tmp_path, examples):
    code = f"EXAMPLES = {str(examples)!r}\n{WRITERS[writer]}\n{AT_EVERY_STEP}"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    steps, found = done.stdout.split()[:2]
    assert int(steps) == (2 if writer in ("long episode", "solution in arrays", "agent", "picture") else 1)
    assert int(found) == (0 if writer == "picture" else int(steps) + 1)


ENDLESSLY = """
write(0)
print("ready", flush=True)
n = 0
while True:
    n += 1
    write(n % 10)
"""


@pytest.mark.parametrize("writer", ["instance", "long episode"])
def test_killed_at_any_moment_a_file_is_whole(writer, tmp_path, examples):
    """The first file counts too: after it is there once, it is never away and never cut off."""
    head = f"EXAMPLES = {str(examples)!r}\n{WRITERS[writer]}\n"
    chance = random.Random(writer)
    for _ in range(3):
        child = subprocess.Popen([sys.executable, "-c", head + ENDLESSLY], cwd=tmp_path, stdout=subprocess.PIPE)
        assert child.stdout.readline() == b"ready\n"
        time.sleep(chance.uniform(0, 0.15))
        child.kill()
        child.wait()
        child.stdout.close()
    done = subprocess.run([sys.executable, "-c", f"{head}print(read())"], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() in set("0123456789"), done.stdout + done.stderr


def test_a_killed_sweep_goes_on_with_every_row_that_it_had(tmp_path, examples):
    words = ["sweep", str(examples / "offloading-small.json"), "--vary", "servers[0].ghz=20:60:5",
             "--vary", "weights.delay=0.5,1", "--method", "greedy-deadline"]  # fmt: skip
    whole, killed = tmp_path / "whole.csv", tmp_path / "killed.csv"
    assert main([*words, "-o", str(whole)]) == 0
    chance, rows = random.Random(0), 0
    for _ in range(3):
        child = subprocess.Popen([sys.executable, "-m", "aigc_opt", *words, "-o", str(killed)], stderr=subprocess.PIPE)
        while child.poll() is None and (not killed.exists() or killed.read_bytes().count(b"\n") < rows + 4):
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.02))
        if child.poll() is None:
            os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stderr.close()
        before, rows = rows, killed.read_bytes().count(b"\n")
        assert rows > before
    assert main([*words, "-o", str(killed)]) == 0
    tables = [pd.read_csv(path).drop(columns="runtime_s").sort_values(["servers[0].ghz", "weights.delay"])
              for path in (whole, killed)]  # fmt: skip
    assert tables[0].to_csv(index=False) == tables[1].to_csv(index=False)


@pytest.mark.long
def test_a_killed_training_goes_on_as_if_it_had_not_been(tmp_path, examples):
    settings = {"frames": 160, "environments": 4, "width": 16, "validations": 8, "validation_episodes": 2,
                "warm_up": 40, "batch": 16}  # fmt: skip
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    words = ["train", str(examples / "two-timescale-process.json"), "--settings", "settings.json", "--quiet", "-o"]
    call = [sys.executable, "-m", "aigc_opt", *words]
    subprocess.run([*call, "whole"], cwd=tmp_path, check=True)
    chance = random.Random(1)
    for _ in range(3):
        child = subprocess.Popen([*call, "killed"], cwd=tmp_path)
        log = tmp_path / "killed/checkpoint.pt"
        before = log.stat().st_mtime_ns if log.exists() else 0
        while child.poll() is None and (not log.exists() or log.stat().st_mtime_ns == before):
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.5))
        child.kill()
        child.wait()
    subprocess.run([*call, "killed"], cwd=tmp_path, check=True)
    told = [json.loads((tmp_path / name / "agent.json").read_text()) for name in ("whole", "killed")]
    # The npz's name is the hash of all weights.
    assert told[0]["weights"] == told[1]["weights"] and told[0]["validation_cost"] == told[1]["validation_cost"]


SOLVED = (
    ("deployment-small", "exact"),
    ("deployment-small", "lagrangian"),
    ("offloading-small", "decomposition"),
    ("offloading-small", "outer-approximation"),
    ("two-timescale-switching", "decomposition"),
    ("two-timescale-small", "benders"),
)


def _solved(at: tuple[str, str]) -> tuple[float | None, float | None, dict]:
    path, method = at
    result = aigc_opt.solve(path, method=method, gap=1e-6)
    return result.objective, result.lower_bound, result.solution.to_dict()


def test_solves_beside_each_other_give_what_they_give_alone(examples):
    asked = [(str(examples / f"{name}.json"), method) for name, method in SOLVED]
    alone = [_solved(at) for at in asked]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(_solved, 2 * asked)) == 2 * alone
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as processes:
        assert list(processes.map(_solved, asked)) == alone


SMALL = {
    "offloading": lambda: generate_offloading(12, 3, seed=1),
    "two_timescale": lambda: aigc_opt.sample(generate_two_timescale(users=3, models=4, frames=2, slots=3, seed=1), 1),
}


@pytest.mark.parametrize(
    ("problem", "method"),
    [(problem, method) for problem in SMALL for method in ("decomposition", "exact", "alternating", None)],
)
def test_what_cannot_fit_into_memory_is_refused_before_it_is_made(problem, method, monkeypatch):
    """One clear line, whatever the method; where it fits nothing is said. Deployment's test stands with the others'."""
    instance = SMALL[problem]()

    def run():
        return (
            aigc_opt.bound(instance, time_limit=20)
            if method is None
            else aigc_opt.solve(instance, method=method, time_limit=20)
        )

    monkeypatch.setattr(control, "available_memory", lambda: 1_000.0)
    with pytest.raises(aigc_opt.InputError, match=rf"^{instance.name}: needs about .* GB of memory for .* available$"):
        run()
    monkeypatch.setattr(control, "available_memory", lambda: 1e9)
    assert run().lower_bound is not None


def test_a_grid_of_steps_that_no_memory_holds_is_refused(tmp_path, capsys):
    """Not a MemoryError, and not after a while: the file is small, what it asks for is not."""
    data = generate_offloading(12, 3, seed=1).to_dict()
    data["steps"] = {"min": 1, "max": 10**15, "stride": 1}
    file = tmp_path / "steps.json"
    file.write_text(json.dumps(data))
    assert main(["solve", str(file)]) == 2
    assert re.fullmatch(
        r"aigc-opt: compute-tight-12x3-1: needs about \d+\.\d GB of memory for .*\n", capsys.readouterr().err
    )


@pytest.mark.parametrize(
    "words",
    [
        ["deployment", "--servers", "20000", "--models", "20000", "--slots", "20000"],
        ["offloading", "--users", "1000000000", "--servers", "1000"],
    ],
)
def test_an_instance_that_no_memory_holds_is_not_begun(words, tmp_path, capsys):
    assert main(["generate", *words, "-o", str(tmp_path / "x.json")]) == 2
    assert re.fullmatch(r"aigc-opt: generate: needs about .* GB of memory for .* available\n", capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


def test_an_episode_that_no_memory_holds_is_not_begun(examples, tmp_path, capsys):
    data = json.loads((examples / "two-timescale-process.json").read_text())
    data["process"]["frames"] = 10**12
    process = tmp_path / "process.json"
    process.write_text(json.dumps(data))
    assert main(["sample", str(process), "--seed", "1", "-o", str(tmp_path / "x.json")]) == 2
    assert re.fullmatch(
        rf"aigc-opt: {data['name']}: needs about .* places for requests, but .*\n", capsys.readouterr().err
    )
    assert [path.name for path in tmp_path.iterdir()] == ["process.json"]


def test_a_file_that_does_not_fit_into_memory_is_refused(tmp_path, monkeypatch):
    file = tmp_path / "long.json"
    file.write_text(json.dumps({"a": [0.123456789] * 200_000}))
    monkeypatch.setattr(control, "available_memory", lambda: 5e6)
    with pytest.raises(aigc_opt.InputError, match=r"long\.json: needs about 0\.0 GB of memory for 199,999 values"):
        read_json(file)
    monkeypatch.setattr(control, "available_memory", lambda: 5e8)
    assert len(read_json(file)["a"]) == 200_000


def test_policies_on_a_process_that_does_not_fit_are_refused_before_it_is_drawn(examples, tmp_path, capsys):
    data = json.loads((examples / "two-timescale-process.json").read_text())
    data["process"]["frames"] = 10**9
    (tmp_path / "huge.json").write_text(json.dumps(data))
    assert main(["evaluate", str(tmp_path / "huge.json"), "--policy", "lru", "--episodes", "2"]) == 2
    assert "two-timescale-process: needs about" in capsys.readouterr().err
