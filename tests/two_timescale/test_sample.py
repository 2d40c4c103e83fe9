"""Episodes are drawn as the format page says, double by double; and what the command line makes of processes."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

import aigc_opt
from aigc_opt.cli import main
from aigc_opt.instance import files
from aigc_opt.instance.generate import TWO_TIMESCALE_FAMILIES, generate_two_timescale
from aigc_opt.instance.sample import round_decimals, round_significant
from aigc_opt.instance.two_timescale import REQUEST_ARRAYS, TwoTimescaleInstance


def drawn_one_by_one(data: dict, seed: int) -> dict[str, list]:
    """The requests of an episode from single doubles, in plain Python."""
    law, random = data["process"], np.random.Generator(np.random.PCG64(seed))
    state = law["initial_state"]

    def pick(weights: list[float], v: float) -> int:
        reached, total = 0.0, math.fsum(weights)
        for index, weight in enumerate(weights):
            reached += weight / total
            if v < reached:
                return index
        return len(weights) - 1

    def uniform(ends, v):
        return ends[0] + (ends[1] - ends[0]) * v

    requests = {key: [] for key in REQUEST_ARRAYS}
    for t in range(law["frames"]):
        if t:
            state = pick(law["transition"][state], random.random())
        frame = {key: [] for key in REQUEST_ARRAYS}
        for _ in range(law["slots"]):
            slot = {key: [] for key in REQUEST_ARRAYS}
            for _ in data["user_power_w"]:
                v = [random.random() for _ in range(7)]
                popularity = [(1 + m) ** -law["zipf_exponents"][state] for m in range(len(data["models"]))]
                asked = v[0] < law["request_probability"]
                slot["model"].append(pick(popularity, v[1]) if asked else -1)
                slot["input_mbit"].append(round(uniform(law["input_mbit"], v[2]), 3))
                slot["output_mbit"].append(round(uniform(law["output_mbit"], v[3]), 3))
                kilometres = uniform(law["distance_m"], v[4]) / 1000
                loss = law["path_loss_db"]["intercept"] + law["path_loss_db"]["slope"] * math.log10(kilometres)
                for key, draw in (("uplink_gain", v[5]), ("downlink_gain", v[6])):
                    fading = -math.log1p(-draw) if law["fading"] == "rayleigh" else 1.0
                    slot[key].append(float(f"{10 ** (-loss / 10) * fading:.6g}"))
            for key in REQUEST_ARRAYS:
                frame[key].append(slot[key])
        for key in REQUEST_ARRAYS:
            requests[key].append(frame[key])
    return requests


@pytest.mark.parametrize("seed", [0, 1, 2**40])
@pytest.mark.parametrize("law", [{}, {"fading": "none"}, {"request_probability": 0.6, "slots": 3}])
def test_sample_is_the_page_double_by_double(examples, seed, law):
    data = json.loads((examples / "two-timescale-process.json").read_text())
    data["process"] |= law
    process = TwoTimescaleInstance.from_dict(data)
    requests = aigc_opt.sample(process, seed).requests
    expected = drawn_one_by_one(process.to_dict(), seed)
    asked = requests.model >= 0
    assert np.array_equal(requests.model, np.array(expected["model"]))
    for key in REQUEST_ARRAYS[1:]:
        assert np.array_equal(getattr(requests, key)[asked], np.array(expected[key])[asked]), key


def test_the_same_seed_gives_the_same_episode_for_ever(examples):
    """Golden numbers: they must not change with versions or machines."""
    requests = aigc_opt.sample(aigc_opt.load(examples / "two-timescale-process.json"), 7).requests
    assert requests.model[0, 0].tolist() == [7, 5, 2, 3, 2, 1, 6, 1, 1, 1]
    assert requests.input_mbit[9, 9, :3].tolist() == [7.574, 8.713, 8.852]
    assert requests.uplink_gain[4, 5, :3].tolist() == [3.68753e-10, 1.72096e-09, 3.20603e-09]


def test_rounding_is_pythons():
    random = np.random.default_rng(3)
    x = np.concatenate([random.random(2000) * 10, [0.0005, 2.6755, 1.0005, 0.1235, 5e-4, 1e6 + 0.0005, 0.0]])
    assert round_decimals(x, 3).tolist() == [round(v, 3) for v in x.tolist()]
    y = np.concatenate([10.0 ** random.uniform(-20, 8, 2000), [1.0, 999999.5, 1e-30, 1e25, 123456.5, 9.999995, 0.0]])
    assert round_significant(y, 6).tolist() == [float(f"{v:.6g}") for v in y.tolist()]


def test_sample_on_the_command_line(tmp_path, examples, capsys):
    process = examples / "two-timescale-process.json"
    path = tmp_path / "episode.json"
    assert main(["sample", str(process), "--seed", "3", "-o", str(path)]) == 0
    assert aigc_opt.load(path) == aigc_opt.sample(aigc_opt.load(process), 3)
    assert main(["sample", str(process), "--seed", "3", "-o", "-"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(path.read_text())
    assert main(["sample", str(path), "--seed", "3", "-o", "-"]) == 2
    assert main(["sample", str(process), "--seed", "-3", "-o", "-"]) == 2
    assert "no process to sample from" in capsys.readouterr().err
    assert main(["sample", str(examples / "deployment-small.json"), "--seed", "0", "-o", "-"]) == 2
    assert "must be of problem two_timescale" in capsys.readouterr().err


def test_a_long_episode_is_saved_beside_its_file(tmp_path, examples, monkeypatch, capsys):
    monkeypatch.setattr(files, "INLINE_REQUESTS", 999)
    process = str(examples / "two-timescale-process.json")
    path = tmp_path / "episode.json"
    assert main(["sample", process, "--seed", "3", "-o", str(path)]) == 0
    (beside,) = tmp_path.glob("episode-*.npz")
    assert json.loads(path.read_text())["requests"] == {"npz": beside.name}
    episode = aigc_opt.load(path)
    assert episode == aigc_opt.sample(aigc_opt.load(process), 3)
    assert main(["sample", process, "--seed", "3", "-o", "-"]) == 0
    capsys.readouterr()
    first = beside.read_bytes()
    aigc_opt.save(episode, path)
    assert beside.read_bytes() == first
    result = aigc_opt.solve(path)
    result.save(tmp_path / "result.json")
    assert main(["check", str(path), str(tmp_path / "result.json")]) == 0


@pytest.mark.parametrize("command", [["solve"], ["bound"], ["check"]])
def test_a_process_is_not_solved(examples, capsys, command):
    process = str(examples / "two-timescale-process.json")
    assert main([*command, process, *([process] if command == ["check"] else [])]) == 2
    message = capsys.readouterr().err
    assert "sample" in message and "evaluate" in message


@pytest.mark.parametrize("family", TWO_TIMESCALE_FAMILIES)
def test_generated_processes(tmp_path, family):
    path = tmp_path / "process.json"
    words = ["--family", family, "--users", "3", "--models", "13", "--frames", "2", "--slots", "2", "--seed", "4"]
    assert main(["generate", "two_timescale", *words, "-o", str(path)]) == 0
    process = generate_two_timescale(3, 13, 2, 2, family=family, seed=4)
    assert aigc_opt.load(path) == process
    episode = aigc_opt.sample(process, 1)
    assert episode.requests.model.shape == (2, 2, 3)
    assert aigc_opt.solve(episode).status == "optimal"


def test_generator_has_the_size_of_the_literature():
    process = generate_two_timescale()
    assert (process.process.frames, process.process.slots) == (10, 10)
    assert (len(process.user_power_w), len(process.models)) == (10, 10)
    with pytest.raises(aigc_opt.InputError, match="users must be at least 1"):
        generate_two_timescale(users=0)
