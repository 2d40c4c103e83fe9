"""The learned agent: its amender, its chain, its action set; that it learns, and that stopping changes nothing."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import aigc_opt
from aigc_opt.cli import main
from aigc_opt.control import Control
from aigc_opt.envs.station import Grants, Station
from aigc_opt.instance.generate import generate_two_timescale
from aigc_opt.instance.sample import draw_episodes
from aigc_opt.instance.two_timescale import TwoTimescaleInstance
from aigc_opt.learning.agent import Agent, load_agent
from aigc_opt.learning.amender import amend, raw_size
from aigc_opt.learning.caches import CacheSet
from aigc_opt.learning.networks import CacheValue, DiffusionActor
from aigc_opt.learning.settings import Settings
from aigc_opt.learning.train import Trainer, rollout
from aigc_opt.learning.training import _board, train
from aigc_opt.result import Limit

TINY = {
    "frames": 1280, "environments": 16, "width": 32, "batch": 64, "warm_up": 300, "validations": 3,
    "validation_episodes": 8, "slot_memory": 6000, "frame_memory": 2000, "denoising_steps": 3, "candidates": 4,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def small(examples) -> TwoTimescaleInstance:
    """A small law: 5 users, 4 models, 4 frames of 5 slots."""
    data = json.loads((examples / "two-timescale-process.json").read_text())
    data["models"] = data["models"][:4]
    data["user_power_w"] = data["user_power_w"][:5]
    data["edge"] |= {"storage_gb": 17.0, "steps_per_slot": 600}
    data["process"] |= {"frames": 4, "slots": 5, "request_probability": 0.9}
    return TwoTimescaleInstance.from_dict(data)


def changed(instance, **edits) -> TwoTimescaleInstance:
    data = instance.to_dict()
    for key, value in edits.items():
        data[key] = data[key] | value if isinstance(value, dict) else value
    return TwoTimescaleInstance.from_dict(data)


def drawn(station: Station, episodes: int = 4):
    return station.slots_of(draw_episodes(station.process, station.users, station.models, range(episodes))[1])


# -------------------------------------------------------------------------------------------------------- amender


@pytest.mark.parametrize(
    "edits", [{}, {"serve_all_hits": False}, {"serve_all_hits": False, "edge": {"min_steps": 120.0}}]
)
def test_the_station_accepts_what_the_amender_gives(small, edits):
    station = Station(changed(small, **edits))
    slots = drawn(station)
    random = np.random.default_rng(0)
    caches = random.random((len(slots.model), station.models)) < 0.6
    hits = station.hits(slots, caches)
    raw = torch.from_numpy(random.uniform(-1.5, 1.5, (*slots.model.shape, raw_size(station))))
    masks = (torch.from_numpy(mask) for mask in (hits, slots.uplink_mbit > 0, slots.downlink_mbit > 0))
    edge, steps, up, down = (part.numpy() for part in amend(station, raw, *masks).unbind(-1))
    given = Grants(edge > 0.5, steps, up, down)
    kept = station.amend_grants(slots, caches, given)
    for name in Grants.__dataclass_fields__:
        assert np.asarray(getattr(kept, name)) == pytest.approx(np.asarray(getattr(given, name)), abs=1e-9), name
    assert (steps.sum(axis=1) <= station.template.steps_per_slot * (1 + 1e-9)).all()
    assert not (given.at_edge & ~hits).any()
    assert up[slots.uplink_mbit > 0].min() > 0 and up.sum(axis=1).max() == pytest.approx(1.0)


@pytest.mark.parametrize("serve_all_hits", [True, False])
def test_gradients_go_through_amender_and_chain(small, serve_all_hits):
    """Every weight of the actor moves the allocation, whatever step of the chain it is used in."""
    agent = Agent(Station(changed(small, serve_all_hits=serve_all_hits)), Settings(width=16, denoising_steps=4))
    slots = drawn(agent.station)
    seen = agent.see(slots, np.ones((len(slots.model), agent.station.models), bool))
    score = agent.networks.actor(seen.features, seen.asked, torch.Generator().manual_seed(0))
    agent.amend(torch.tanh(score), seen).square().sum().backward()
    actor = agent.networks.actor
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in actor.parameters())
    assert (actor.time.weight.grad.abs().sum(dim=1) > 0).all()  # one row for each step


def test_the_reverse_chain_follows_bayes_rule():
    """Constants of the chain are the posterior's of Gaussians, step by step, and the ends are noise and action."""
    actor = DiffusionActor(3, 2, 8, steps=5, beta_min=0.1, beta_max=10.0)
    kept = actor.kept.double().numpy()
    before = np.r_[1.0, kept[:-1]]
    alpha = kept / before
    assert (np.diff(kept) < 0).all() and kept[0] > 0.7 and kept[-1] < 0.02
    for t in range(1, 5):
        prior, noise = 1 - before[t], 1 - alpha[t]
        spread = 1 / (1 / prior + alpha[t] / noise)
        assert float(actor.spread[t]) ** 2 == pytest.approx(spread, rel=1e-4)
        assert float(actor.from_now[t]) == pytest.approx(spread * alpha[t] ** 0.5 / noise, rel=1e-4)
        assert float(actor.from_start[t]) == pytest.approx(spread * before[t] ** 0.5 / prior, rel=1e-4)


def test_users_are_a_set(small):
    """Apart from the features that tell a place, the order of users does not matter."""
    agent = Agent(Station(small), Settings(width=16, actor="plain"))
    seen = agent.see(drawn(agent.station, 1), np.zeros((20, 4), bool))
    features = seen.features.clone()
    features[..., -1] = 0.0
    order = torch.tensor([2, 0, 4, 1, 3])
    network = agent.networks.actor
    one = network(features, seen.asked, None)[:, order]
    other = network(features[:, order], seen.asked[:, order], None)
    assert torch.allclose(one, other, atol=1e-6)
    assert not torch.allclose(one, network(features, seen.asked, None))


# ------------------------------------------------------------------------------------------------------ action set


def test_few_caches_are_all_of_them(small):
    station = Station(small)
    found = CacheSet(station)
    sizes = station.template.size_gb
    expected = [c for c in np.ndindex(2, 2, 2, 2) if np.dot(c, sizes) <= station.template.storage_gb]
    assert found.complete and sorted(map(tuple, found.caches.astype(int).tolist())) == sorted(expected)


def test_thirty_models_are_tractable():
    """Far beyond 2^M outputs: chosen caches fit, beat the pool, and no exchange beats them."""
    station = Station(generate_two_timescale(users=6, models=30, frames=2, slots=2, seed=1))
    found = CacheSet(station)
    e = station.template
    assert not found.complete and 1000 < len(found) <= 2048
    assert (found.caches @ e.size_gb <= e.storage_gb).all()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        network, observation = CacheValue(5, 30, 16), torch.randn(3, 5)
        best = found.best(network, observation)
        assert (best @ e.size_gb <= e.storage_gb).all()
        value = network(observation, torch.as_tensor(best, dtype=torch.float32))
        assert (value >= network.table(observation, found.bits).max(1).values - 1e-6).all()
        for k in range(3):
            near = np.array([best[k] ^ np.isin(np.arange(30), (i, j)) for i in range(30) for j in range(i + 1)])
            near = torch.as_tensor(near[near @ e.size_gb <= e.storage_gb], dtype=torch.float32)
            assert network.table(observation[k : k + 1], near).max() <= value[k] + 1e-5


def test_thirty_models_train(tmp_path):
    instance = generate_two_timescale(users=6, models=30, frames=2, slots=2, seed=1)
    settings = Settings(**TINY | {"frames": 96, "warm_up": 60, "batch": 16, "validation_episodes": 2})
    assert np.isfinite(train(instance, settings, 0, tmp_path / "agent").best)


# -------------------------------------------------------------------------------------------------------- learning


def test_rounds_are_whole_and_it_is_said(small, tmp_path):
    """16 environments x 4 frames are a round of 64: one frame more takes another round."""
    settings = Settings(**TINY | {"frames": 65, "validations": 1})
    with pytest.warns(UserWarning, match=r"^frames: 65 are no whole rounds of 16 environments x 4 frames: 128 are"):
        trained = train(small, settings, 0, tmp_path / "agent", StopsAfter(1))
    assert trained.frames_wanted == 128


@pytest.mark.parametrize(("actor", "frames"), [("diffusion", 640), ("plain", 1280)])
def test_a_tiny_agent_improves_on_its_own_start(small, actor, frames):
    """On the same fresh episodes the trained agent is better than the untrained one, by a paired t of more than 4."""
    trainer = Trainer(small, Settings(**TINY | {"actor": actor, "frames": frames}), seed=0)
    fresh = range(5000, 5040)
    start = rollout(trainer.agent, fresh)
    while not trainer.done:
        trainer.step()
    gain = start - rollout(trainer.best_agent(), fresh)
    assert gain.mean() / (gain.std(ddof=1) / len(gain) ** 0.5) > 4
    assert gain.mean() > 0.03 * start.mean()


class StopsAfter(Control):
    """Says stop once so many rounds are reported."""

    def __init__(self, rounds: int):
        super().__init__()
        self.left = rounds + 1  # the first report says where the training stands

    def report(self, event, objective=None, lower_bound=None):
        self.left -= 1

    @property
    def stop(self):
        return Limit.TIME if self.left <= 0 else None


@pytest.mark.parametrize("switching", [0.0, 0.05])
def test_stopping_and_going_on_changes_nothing(small, tmp_path, switching):
    """Bit for bit: weights, log and memories of a training in parts are those of one in a piece."""
    instance = changed(small, weights={"switching": switching})
    settings = Settings(
        **TINY
        | {
            "frames": 320,
            "slot_discount": 0.3,
            "validations": 2,
            "slot_memory": 1000,
            "width": 16,
            "batch": 32,
            "warm_up": 150,
            "validation_episodes": 2,
        }
    )
    whole = train(instance, settings, 3, tmp_path / "whole")
    first = logged(tmp_path / "whole")
    part = train(instance, settings, 3, tmp_path / "parts", StopsAfter(1))
    part = train(instance, settings, 3, tmp_path / "parts", StopsAfter(2))
    assert part.frames == 3 * 64 < whole.frames
    parts = train(instance, settings, 3, tmp_path / "parts")
    assert parts.frames == whole.frames and parts.best == whole.best
    states = [torch.load(tmp_path / name / "checkpoint.pt", weights_only=True) for name in ("whole", "parts")]
    for state in states:
        state.pop("seconds")
        for row in state["log"]:
            row.pop("elapsed_s")
    assert_same(*states)
    assert logged(tmp_path / "parts") == first
    other = train(instance, settings, 4, tmp_path / "other", StopsAfter(1))
    assert other.best != whole.best
    with pytest.raises(aigc_opt.InputError, match="another seed"):
        train(instance, settings, 4, tmp_path / "whole")


def test_parts_of_one_second_are_read_in_their_order(tmp_path):
    """TensorBoard sorts names, and a process's tenth file comes before its ninth within a second."""
    seconds = []
    for _ in range(3):
        _board(tmp_path, [{"frames": 1.0}]).close()
        names = {path.name.split(".")[3] for path in (tmp_path / "tensorboard").iterdir()}
        seconds.append(len(names))
    assert seconds == [1, 2, 3]


def logged(folder):
    """What TensorBoard shows of a training, without its times; it has each number of the table once."""
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    shown = {(name, event.step): event.value for name in events.Tags()["scalars"] for event in events.Scalars(name)}
    table = pd.read_csv(folder / "log.csv").set_index("frames", drop=False)
    numbers = {(name, step): value for name in table for step, value in table[name].items() if not np.isnan(value)}
    assert sum(len(events.Scalars(name)) for name in events.Tags()["scalars"]) == len(numbers)
    assert shown == {key: pytest.approx(value, rel=1e-6, abs=1e-9) for key, value in numbers.items()}
    return {key: value for key, value in shown.items() if key[0] != "elapsed_s"}


def assert_same(one, other, place="state"):
    assert type(one) is type(other), place
    if isinstance(one, dict):
        assert one.keys() == other.keys(), place
        for key in one:
            assert_same(one[key], other[key], f"{place}.{key}")
    elif isinstance(one, list):
        assert len(one) == len(other), place
        for k, pair in enumerate(zip(one, other, strict=True)):
            assert_same(*pair, f"{place}[{k}]")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), place
    else:
        assert one == other or (one != one and other != other), place


# --------------------------------------------------------------------------------------------------- command line


def test_train_and_evaluate_on_the_command_line(small, tmp_path, capsys):
    process, settings, folder = tmp_path / "law.json", tmp_path / "settings.json", tmp_path / "agent"
    aigc_opt.save(small, process)
    settings.write_text(json.dumps({k: v for k, v in TINY.items() if k != "frames"} | {"frames": 192}))
    words = ["train", str(process), "--seed", "1", "--settings", str(settings), "-o", str(folder)]
    assert main([*words, "--algorithm", "t2drl"]) == 0
    assert "192 of 192 frames" in capsys.readouterr().err
    told = json.loads((folder / "agent.json").read_text())
    assert told["settings"]["actor"] == "diffusion" and told["command"].startswith("aigc-opt train ")
    assert (folder / "log.csv").read_text().startswith("frames,")
    agents = [load_agent(folder, Station(small)) for _ in range(2)]
    costs = [rollout(agent, range(3)).tolist() for agent in agents]
    assert costs[0] == costs[1]
    report = tmp_path / "report.json"
    call = ["evaluate", str(process), "--policy", str(folder), "--policy", f"{folder}:cache", "--policy", "popular"]
    assert main([*call, "--episodes", "3", "--seed", "7", "--workers", "1", "--quiet", "-o", str(report)]) == 0
    learned, hybrid, popular = json.loads(report.read_text())["policies"]
    assert learned["feasible_episodes"] == hybrid["feasible_episodes"] == 3
    assert learned["cost"]["mean"] >= hybrid["cost"]["mean"] * (1 - 1e-7)
    assert hybrid["attribution"]["allocation"]["mean"] == pytest.approx(0.0, abs=1e-6)
    assert learned["attribution"]["allocation"]["mean"] == pytest.approx(
        learned["cost"]["mean"] - hybrid["cost"]["mean"], rel=1e-6
    )


def test_bad_calls(small, tmp_path, capsys, examples):
    process, settings = tmp_path / "law.json", tmp_path / "settings.json"
    aigc_opt.save(small, process)
    out = ["-o", str(tmp_path / "agent")]
    assert main(["train", str(process), "--algorithm", "ppo", *out]) == 2
    assert "must be one of t2drl, ddpg" in capsys.readouterr().err
    settings.write_text('{"frames": 0, "colour": 1}')
    assert main(["train", str(process), "--settings", str(settings), *out]) == 2
    said = capsys.readouterr().err
    assert "frames" in said and "colour" in said and "Traceback" not in said
    assert main(["train", str(examples / "two-timescale-small.json"), *out]) == 2
    assert "needs a two-timescale process" in capsys.readouterr().err
    full = tmp_path / "full"
    full.mkdir()
    (full / "notes.txt").write_text("x")
    assert main(["train", str(process), "-o", str(full)]) == 2
    assert "is not empty" in capsys.readouterr().err


def test_damaged_agents_are_refused(small, tmp_path):
    station = Station(small)
    agent = Agent(station, Settings(width=16))
    agent.save(tmp_path, {})
    load_agent(tmp_path, station)
    with pytest.raises(aigc_opt.InputError, match="is for 4 models, the process has 6"):
        load_agent(tmp_path, Station(generate_two_timescale(models=6, seed=0)))
    (weights,) = tmp_path.glob("agent-*.npz")
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(aigc_opt.InputError, match="damaged"):
        load_agent(tmp_path, station)
