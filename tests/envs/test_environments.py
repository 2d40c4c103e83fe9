"""Environments: Gymnasium's own check, returns beside the checker, no look ahead, the offline optimum replayed."""

from __future__ import annotations

import dataclasses
import json

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import aigc_opt
import aigc_opt.envs
from aigc_opt.envs.offloading_rollout import OffloadingRollout
from aigc_opt.envs.station import Grants, Station
from aigc_opt.envs.two_timescale import AllocationEnv, CachingEnv, JointEnv
from aigc_opt.envs.vector import JointVectorEnv
from aigc_opt.instance.sample import draw_episodes
from aigc_opt.instance.two_timescale import TwoTimescaleInstance
from aigc_opt.policies.two_timescale import BASELINES
from tests.two_timescale.tiny import tiny

IDS = {
    "TwoTimescaleJoint": "two-timescale-process",
    "TwoTimescaleCaching": "two-timescale-process",
    "TwoTimescaleAllocation": "two-timescale-switching",
    "Deployment": "deployment-initial",
    "Offloading": "offloading-small",
}


def short(examples, frames=3, slots=4, **changes) -> TwoTimescaleInstance:
    data = json.loads((examples / "two-timescale-process.json").read_text())
    data["process"] |= {"frames": frames, "slots": slots} | changes.pop("process", {})
    data["weights"] |= changes.pop("weights", {})
    data["edge"] |= changes.pop("edge", {})
    return TwoTimescaleInstance.from_dict(data | changes)


def played(env, seed=0):
    """Return of an episode of random actions, and what the checker says of it."""
    env.action_space.seed(seed)
    env.reset(seed=seed)
    total, over = 0.0, False
    while not over:
        _, reward, over, _, _ = env.step(env.action_space.sample())
        total += reward
    episode = env.episode() if hasattr(env, "episode") else env.instance
    return total, aigc_opt.check(episode, env.solution())


@pytest.mark.parametrize("name", IDS)
def test_gymnasium_accepts_it(examples, name):
    env = gymnasium.make(f"aigc_opt/{name}-v0", instance=examples / f"{IDS[name]}.json", render_mode="rgb_array")
    check_env(env.unwrapped)
    env.reset(seed=1)
    picture = env.render()
    assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3


@pytest.mark.parametrize("name", IDS)
def test_nan_is_no_action(examples, name):
    env = gymnasium.make(f"aigc_opt/{name}-v0", instance=examples / f"{IDS[name]}.json").unwrapped
    env.reset(seed=1)
    with pytest.raises(ValueError, match="NaN"):
        env.step(np.full(env.action_space.shape, np.nan))


@pytest.mark.parametrize("make", [JointEnv, CachingEnv, AllocationEnv])
@pytest.mark.parametrize(
    "law",
    [
        {},
        {"serve_all_hits": False, "weights": {"switching": 0.3}, "process": {"request_probability": 0.6}},
        {"edge": {"min_steps": 90, "steps_per_slot": 400}, "serve_all_hits": False},
        {"edge": {"min_steps": 150, "steps_per_slot": 1000}, "weights": {"switching": 0.3}},
    ],
)
def test_return_is_minus_the_checkers_objective(examples, make, law):
    env = make(short(examples, **json.loads(json.dumps(law))))
    for seed in range(4):
        total, checked = played(env, seed)
        assert checked.feasible, checked.violations[:2]
        assert -total == pytest.approx(checked.objective, rel=1e-9)


@pytest.mark.parametrize("name", ["deployment-small", "deployment-initial", "offloading-small", "offloading-medium"])
def test_return_of_other_problems(examples, name):
    kind = "Deployment" if name.startswith("deployment") else "Offloading"
    env = gymnasium.make(f"aigc_opt/{kind}-v0", instance=examples / f"{name}.json").unwrapped
    for seed in range(5):
        total, checked = played(env, seed)
        assert checked.feasible, checked.violations[:2]
        assert -total == pytest.approx(checked.objective, rel=1e-9)


def replayed(env, solution, **options):
    env.reset(**options)
    return -sum(env.step(action)[1] for action in env.actions_of(solution))


@pytest.mark.parametrize("name", ["two-timescale-small", "two-timescale-smooth", "two-timescale-switching"])
def test_offline_optimum_replayed_in_two_timescales(examples, name):
    instance = aigc_opt.load(examples / f"{name}.json")
    result = aigc_opt.solve(instance, gap=1e-6)
    env = JointEnv(instance)
    assert replayed(env, result.solution) == pytest.approx(result.objective, rel=1e-9)
    assert np.array_equal(np.round(env.solution().cached), np.round(result.solution.cached))


@pytest.mark.parametrize("name", ["deployment-small", "deployment-initial", "offloading-small", "offloading-medium"])
def test_offline_optimum_replayed(examples, name):
    instance = aigc_opt.load(examples / f"{name}.json")
    result = aigc_opt.solve(instance)
    kind = "Deployment" if name.startswith("deployment") else "Offloading"
    env = gymnasium.make(f"aigc_opt/{kind}-v0", instance=instance).unwrapped
    assert replayed(env, result.solution) == pytest.approx(result.objective, rel=1e-9)


@pytest.mark.parametrize("seed", range(25))
def test_tiny_episodes_replayed(seed):
    """The strange things: nobody asks, nothing is sent, no steps, fewest equal to most."""
    instance = tiny(seed)
    result = aigc_opt.solve(instance, gap=1e-9)
    env = JointEnv(instance)
    if env.station.safe:  # else a cache that this episode allows is not certain to be feasible, and is amended
        assert replayed(env, result.solution) == pytest.approx(result.objective, rel=1e-9, abs=1e-12)


def test_caching_with_the_optimum_is_the_offline_optimum(examples):
    process = short(examples, weights={"switching": 0.2})
    env = CachingEnv(process, actions="binary")
    env.reset(seed=5)
    result = aigc_opt.solve(aigc_opt.sample(process, 5), gap=1e-7)
    total = sum(env.step(cache)[1] for cache in np.round(result.solution.cached))
    assert -total == pytest.approx(result.objective, rel=1e-6)


@pytest.mark.parametrize("kind", [JointEnv, CachingEnv, AllocationEnv])
def test_the_future_changes_no_observation(examples, kind):
    """Two episodes that are equal up to a slot give equal observations until it begins."""
    process = short(examples)
    frames, slots = 3, 4
    cut = 6  # the third slot of the second frame is the first that differs
    one, other = kind(process), kind(process)
    for env in (one, other):
        env.action_space.seed(2)
        env.reset(seed=3)
    whole = other.rollout.slots
    changed = dataclasses.replace(whole, **{name: getattr(whole, name).copy() for name in whole.__dataclass_fields__})
    for name in changed.__dataclass_fields__:
        values = getattr(changed, name)
        values[cut:] = values[cut:][::-1] if name == "model" else 2 * values[cut:]
    changed.model[cut:] = (changed.model[cut:] + 1) % 10
    other.rollout.slots = changed
    seen = []
    for _ in range(frames * (slots + 1)):
        action = one.action_space.sample()
        pair = one.step(action), other.step(action)
        seen.append(np.array_equal(pair[0][0], pair[1][0]))
        if pair[0][2]:
            break
    first = {JointEnv: (1 + slots) + 1 + 2, CachingEnv: 2, AllocationEnv: cut}[kind]  # steps until it may be seen
    assert all(seen[: first - 1]) and not all(seen)


def test_seeds_are_those_of_sample(examples):
    process = short(examples)
    env = JointEnv(process)
    assert env.reset(seed=7)[1] == {"seed": 7}
    assert env.episode() == aigc_opt.sample(process, 7)
    drawn = env.reset()[1]["seed"]
    assert env.episode() == aigc_opt.sample(process, drawn)


@pytest.mark.parametrize("law", [{}, {"serve_all_hits": False, "weights": {"switching": 0.3}}])
def test_vector_is_the_single_ones(examples, law):
    process = short(examples, **json.loads(json.dumps(law)))
    many = gymnasium.make_vec("aigc_opt/TwoTimescaleJoint-v0", 5, instance=process).unwrapped
    assert isinstance(many, JointVectorEnv)
    singles = [JointEnv(process) for _ in range(5)]
    observation, _ = many.reset(seed=20)
    for i, env in enumerate(singles):
        assert np.array_equal(env.reset(seed=20 + i)[0], observation[i])
    many.action_space.seed(0)
    over = False
    while not over:
        actions = many.action_space.sample()
        observation, reward, ended, _, _ = many.step(actions)
        for i, env in enumerate(singles):
            alone = env.step(actions[i])
            np.testing.assert_allclose(observation[i], alone[0], atol=1e-6)
            assert reward[i] == pytest.approx(alone[1], rel=1e-12)
            assert ended[i] == alone[2]
        over = ended.all()
    assert many.step(actions)[1].tolist() == [0.0] * 5 and many.frame == 0


def test_many_draws_are_single_draws(examples):
    process = short(examples).process
    states, requests = draw_episodes(process, 4, 6, [3, 9])
    for i, seed in enumerate((3, 9)):
        one_state, one = draw_episodes(process, 4, 6, [seed])
        assert np.array_equal(one_state[0], states[i])
        assert all(np.array_equal(one[key][0], requests[key][i]) for key in one)


@pytest.mark.parametrize("seed", range(10))
def test_amended_grants_are_feasible_and_feasible_ones_stay(seed):
    instance = tiny(seed)
    station, random = Station(instance), np.random.default_rng(seed)
    slots = station.slots_in(instance)
    number = len(slots.model)
    caches = station.amend_caches(random.normal(size=(number, station.models)))
    assert (caches @ station.template.size_gb <= station.template.storage_gb + 1e-9).all()
    shape = number, station.users
    raw = Grants(random.random(shape) < 0.5, 300 * random.random(shape), random.normal(size=shape),
                 random.random(shape))  # fmt: skip
    once = station.amend_grants(slots, caches, raw)
    e = station.template
    assert (once.steps.sum(axis=1) <= e.steps_per_slot * (1 + 1e-9) + 1e-9).all() or not station.safe
    assert (once.steps[once.at_edge] >= e.min_steps - 1e-12).all()
    for share, mbit in ((once.uplink_share, slots.uplink_mbit), (once.downlink_share, slots.downlink_mbit)):
        assert (share.sum(axis=1) <= 1 + 1e-12).all() and ((share > 0) == (mbit > 0)).all()
    twice = station.amend_grants(slots, caches, once)
    for name in once.__dataclass_fields__:
        np.testing.assert_allclose(getattr(twice, name), getattr(once, name), rtol=1e-12)


def test_views_hold_nothing_of_the_future(examples):
    env = JointEnv(short(examples))
    env.reset(seed=0)
    view = env.rollout.frame_view()
    assert len(view.past.model) == 0 and view.past.model.base is None
    template = view.station.template  # the station has no requests, and no array that a part was cut from
    for name in ("model", "cloud", "uplink_mbit", "downlink_mbit", "uplink_gain", "downlink_gain"):
        assert getattr(template, name).size == 0 and getattr(template, name).base is None
    for name in BASELINES:
        assert BASELINES[name](env.station, 0).cache(view).shape == (10,)
    rollout = OffloadingRollout(aigc_opt.load(examples / "offloading-small.json"))
    for value in vars(rollout.view()).values():  # an array that is a part holds the tasks to come in its base
        assert getattr(value, "base", None) is None
