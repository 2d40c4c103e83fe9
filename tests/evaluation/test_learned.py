"""Policies in files of learners. Their libraries are in the extra `test`: where one is missing, tests fail."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

import aigc_opt
from aigc_opt.envs import features
from aigc_opt.envs.station import Station
from aigc_opt.evaluation import evaluate, nonanticipative
from tests.conftest import ROOT


@pytest.fixture
def process(examples, tmp_path, monkeypatch):
    monkeypatch.setattr(nonanticipative, "REPLICATIONS", 2)
    monkeypatch.setattr(nonanticipative, "SLOTS", 50)
    monkeypatch.setattr(nonanticipative, "TRAINING_SLOTS", 50)
    data = json.loads((examples / "two-timescale-process.json").read_text())
    data["process"] |= {"frames": 3, "slots": 3}
    path = tmp_path / "process.json"
    path.write_text(json.dumps(data))
    return path


def judged(process, path):
    policy = evaluate(process, [str(path)], episodes=2).to_dict()["policies"][0]
    assert policy["feasible_episodes"] == 2 and policy["cost"]["mean"] > 0
    return policy["cost"]["mean"]


@pytest.mark.parametrize(
    ("algorithm", "name", "options"),
    [
        ("DQN", "TwoTimescaleCaching", {"actions": "discrete"}),
        ("PPO", "TwoTimescaleCaching", {"actions": "binary"}),
        ("PPO", "TwoTimescaleJoint", {}),
        ("A2C", "TwoTimescaleAllocation", {}),
        ("DDPG", "TwoTimescaleCaching", {}),
        ("SAC", "TwoTimescaleAllocation", {}),
    ],
)
def test_stable_baselines(process, tmp_path, algorithm, name, options):
    import gymnasium
    import stable_baselines3 as sb3

    import aigc_opt.envs  # noqa: F401

    env = gymnasium.make(f"aigc_opt/{name}-v0", instance=process, **options)
    few = {"n_steps": 8} if algorithm in ("PPO", "A2C") else {"learning_starts": 4}
    agent = getattr(sb3, algorithm)("MlpPolicy", env, seed=0, device="cpu", **few).learn(16)
    agent.save(tmp_path / "agent.zip")
    cost = judged(process, tmp_path / "agent.zip")
    total = 0.0  # the agent in the environment itself, on the same episodes
    for seed in range(2):
        observation, _ = env.reset(seed=seed)
        over = False
        while not over:
            observation, reward, over, _, _ = env.step(agent.predict(observation, deterministic=True)[0])
            total -= reward / 2
    assert cost == pytest.approx(total, rel=1e-6)


def test_stable_baselines_in_deployment(examples, tmp_path):
    import gymnasium
    import stable_baselines3 as sb3

    import aigc_opt.envs  # noqa: F401

    for kind, file in (("Deployment", "deployment-small"), ("Offloading", "offloading-small")):
        instance = examples / f"{file}.json"
        env = gymnasium.make(f"aigc_opt/{kind}-v0", instance=instance)
        sb3.PPO("MlpPolicy", env, n_steps=8, batch_size=8, seed=0, device="cpu").learn(8).save(tmp_path / "agent.zip")
        policy = evaluate(instance, [str(tmp_path / "agent.zip")]).to_dict()["policies"][0]
        assert policy["feasible_episodes"] == 1 and policy["gap"]["mean"] >= -1e-9


def weights(process):
    """A linear network over frame observations that prefers the models of low index."""
    station = Station(aigc_opt.load(process))
    bias = np.linspace(1, -1, station.models).astype(np.float32)
    return np.zeros((features.frame_size(station), station.models), np.float32), bias


def test_onnx_and_torchscript_say_the_same(process, tmp_path):
    import torch

    matrix, bias = weights(process)
    linear = torch.nn.Linear(*matrix.shape)
    with torch.no_grad():
        linear.weight.zero_()
        linear.bias.copy_(torch.from_numpy(bias))
    torch.jit.trace(linear, torch.zeros(1, len(matrix))).save(str(tmp_path / "net.pt"))
    costs = [judged(process, tmp_path / "net.pt")]
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    size = lambda name, n: helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, n])  # noqa: E731
    node = helper.make_node("Gemm", ["observation", "w", "b"], ["action"])
    graph = helper.make_graph(
        [node], "net", [size("observation", len(matrix))], [size("action", len(bias))],
        [numpy_helper.from_array(matrix, "w"), numpy_helper.from_array(bias, "b")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(tmp_path / "net.onnx"))
    costs.append(judged(process, tmp_path / "net.onnx"))

    class Same:
        def __init__(self, station):
            pass

        def cache(self, view):
            return bias

    costs.append(evaluate(process, {"same": Same}, episodes=2).to_dict()["policies"][0]["cost"]["mean"])
    assert costs[0] == costs[1] == costs[2]


def test_files_that_are_no_models(process, tmp_path):
    for name in ("x.zip", "x.onnx", "x.pt"):
        (tmp_path / name).write_text("no model")
        with pytest.raises(aigc_opt.InputError, match="cannot be read as a model"):
            evaluate(process, [str(tmp_path / name)], episodes=1)


def test_networks_of_another_instance_are_refused(process, tmp_path):
    import torch

    torch.jit.trace(torch.nn.Linear(7, 3), torch.zeros(1, 7)).save(str(tmp_path / "net.pt"))
    with pytest.raises(aigc_opt.InputError, match="fit no environment"):
        evaluate(process, [str(tmp_path / "net.pt")], episodes=1)


def test_the_readmes_lines_run(monkeypatch, tmp_path, capsys):
    """The twelve lines of the README, with less training and fewer episodes."""
    monkeypatch.setattr(nonanticipative, "REPLICATIONS", 2)
    monkeypatch.setattr(nonanticipative, "SLOTS", 50)
    monkeypatch.setattr(nonanticipative, "TRAINING_SLOTS", 50)
    (code,) = re.findall(r"```py\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert len([line for line in code.splitlines() if line]) <= 12
    for old, new in ((r"n_steps=\d+", "n_steps=20"), (r"batch_size=\d+", "batch_size=20"), (r"learn\(\d+", "learn(20"),
                     (r"episodes=\d+", "episodes=2")):  # fmt: skip
        code, count = re.subn(old, new, code)
        assert count == 1
    (tmp_path / "instances").symlink_to(ROOT / "instances")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert "above the hindsight bound" in capsys.readouterr().out
