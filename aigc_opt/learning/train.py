"""T2DRL: caches by a double deep Q-network, slots by an actor and a critic, trained together on drawn episodes.

Two clocks. At a frame's start the Q-network (double: the online network chooses, its target values) picks a cache for
every environment; in each slot the actor allocates, and actor and critic learn from slots that are remembered; the
frame's reward, minus what it cost under that allocation, is what the Q-network learns from. Rewards are in units of a
request's mean cost in the cloud. The critic learns from each request's own cost, not only from their sum. Slots end
with their frame: what follows a frame's last slot is the Q-network's business.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from aigc_opt.envs import features as observations
from aigc_opt.envs.station import Slots, Station
from aigc_opt.instance.sample import draw_episodes
from aigc_opt.instance.two_timescale import TwoTimescaleInstance
from aigc_opt.learning.agent import Agent, grants_of
from aigc_opt.learning.memory import FrameMemory, SlotMemory
from aigc_opt.learning.settings import Settings

TRAINING_SEEDS, VALIDATION_SEEDS = 2**64, 2**65
"""Episodes of training and validation have seeds from here on, far from those that anybody evaluates with."""

SEEDS_APART = 2**32
"""Between the first episodes of two trainings' seeds."""

OUTLIER = 0.1
"""Errors of the critic beyond this count linearly: a transfer in a deep fade must not outweigh all else."""

TRIED, IMITATION = 4, 0.3
"""So many changed copies of an action are tried, and the weight with which the actor goes towards the best of them."""

SATURATED, SATURATION_COST = 1.5, 0.1
"""Scores beyond this cost something: where tanh is flat an actor could never change its mind."""

Row = dict[str, float]


class World:
    """Episodes that run side by side, from frame to frame and slot to slot."""

    def __init__(self, station: Station, seeds: range):
        self.station, self.number = station, len(seeds)
        self.states, requests = draw_episodes(station.process, station.users, station.models, seeds)
        shape = (self.number, station.frames, station.slots, station.users)
        self._requests = {name: values.reshape(shape) for name, values in requests.items()}
        self.caches = np.tile(station.template.initial, (self.number, 1))

    def slots(self, frame: int, slot: int) -> Slots:
        """Return one slot of every episode."""
        return self.station.slots_of({name: values[:, frame, slot] for name, values in self._requests.items()})

    def observation(self, frame: int) -> np.ndarray:
        """Return what is known at a frame's start, (n, D): the observation of the caching environment."""
        station = self.station
        if frame:
            before = {name: values[:, frame - 1] for name, values in self._requests.items()}
            seen = observations.seen(station, station.slots_of(before), self.number)
        else:
            seen = np.zeros((self.number, station.models))
        state = self.states[:, min(frame, station.frames - 1)]
        return observations.of_frame(station, frame, observations.common(station, state, self.caches, seen))

    def enter(self, caches: np.ndarray) -> np.ndarray:
        """Change caches at a frame's start and return what that costs, (n,), sum scale."""
        cost = self.station.switch_costs(self.caches, caches)
        self.caches = caches
        return cost


def rollout(agent: Agent, seeds: range, noise_seed: int = 0) -> np.ndarray:
    """Return the objective of each episode, (n,), as the agent plays without exploring."""
    station, world = agent.station, World(agent.station, seeds)
    generator = torch.Generator().manual_seed(noise_seed)
    total = np.zeros(world.number)
    for frame in range(station.frames):
        total += world.enter(agent.best_caches(world.observation(frame)))
        for slot in range(station.slots):
            now = world.slots(frame, slot)
            total += station.slot_costs(now, agent.grants(now, world.caches, generator))
    return total * station.template.scale


@dataclass
class _Progress:
    """Where a training stands."""

    rounds: int = 0
    best: float = np.inf


class Trainer:
    """One training. `step` plays one episode in every environment and learns on the way.

    Parameters
    ----------
    instance : TwoTimescaleInstance
        With a process.
    settings : Settings
    seed : int
        Weights, exploration and episodes all follow from it.

    Attributes
    ----------
    agent : Agent
        As it stands.
    kept : dict
        Weights of the best agent that was validated.
    log : list of dict
        One row a round.

    """

    def __init__(self, instance: TwoTimescaleInstance, settings: Settings, seed: int):
        self.settings, self.seed = settings, seed
        self.station = station = Station(instance)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.agent = Agent(station, settings)
        networks = self.agent.networks
        self.targets = copy.deepcopy(networks)
        self.optimizers = {
            "actor": torch.optim.Adam(networks.actor.parameters(), settings.actor_rate),
            "critic": torch.optim.Adam(networks.critic.parameters(), settings.critic_rate),
            "cache": torch.optim.Adam(networks.cache_value.parameters(), settings.cache_rate),
        }
        self.random = np.random.default_rng([seed, 1])
        self.generator = torch.Generator().manual_seed(seed)
        n, observation = settings.environments, observations.frame_size(station)
        self.slots = SlotMemory(settings.slot_memory, n, station.users, station.models)
        self.frames = FrameMemory(settings.frame_memory, n, observation, station.models)
        discount = 0.9 if station.template.switches else 0.1
        self.frame_discount = settings.frame_discount if settings.frame_discount is not None else discount
        self.rounds = -(-settings.frames // (n * station.frames))
        self.progress = _Progress()
        self.kept = _copied(networks)
        self.log: list[Row] = []

    @property
    def done(self) -> bool:
        """Whether the training is at its end."""
        return self.progress.rounds >= self.rounds

    @property
    def validating(self) -> bool:
        """Whether the next thing to do after this round is a validation."""
        every = max(1, self.rounds // self.settings.validations)
        return self.progress.rounds % every == 0 or self.done

    def step(self) -> Row:
        """Play one episode in every environment, learning on the way, and validate when it is time."""
        s, n = self.settings, self.settings.environments
        share = self.progress.rounds / self.rounds
        for name, rate in (("actor", s.actor_rate), ("critic", s.critic_rate), ("cache", s.cache_rate)):
            for group in self.optimizers[name].param_groups:
                group["lr"] = rate * (1.0 - 0.9 * share)
        epsilon = max(s.epsilon_end, 1.0 - (1.0 - s.epsilon_end) * share / max(s.epsilon_share, 1e-9))
        noise = s.exploration * (1.0 - 0.9 * share)
        first = TRAINING_SEEDS + SEEDS_APART * self.seed + n * self.progress.rounds
        losses = self._play(World(self.station, range(first, first + n)), epsilon, noise)
        self.progress.rounds += 1
        row = {
            "frames": self.progress.rounds * n * self.station.frames,
            "epsilon": epsilon,
            "exploration": noise,
            **{name: float(np.mean(values)) if values else np.nan for name, values in losses.items()},
            "validation_cost": np.nan,
        }
        if self.validating:
            row["validation_cost"] = self.validate()
        self.log.append(row)
        return row

    def validate(self) -> float:
        """Return the mean cost of the agent as it stands over the validation episodes; keep it if it is the best."""
        seeds = range(VALIDATION_SEEDS, VALIDATION_SEEDS + self.settings.validation_episodes)
        cost = float(rollout(self.agent, seeds).mean())
        if cost < self.progress.best:
            self.progress.best = cost
            self.kept = _copied(self.agent.networks)
        return cost

    def best_agent(self) -> Agent:
        """Return the best agent that was validated."""
        best = copy.copy(self.agent)
        best.networks = copy.deepcopy(self.agent.networks)
        best.networks.load_state_dict(self.kept)
        return best

    # --------------------------------------------------------------------------------------------------------- play

    def _play(self, world: World, epsilon: float, noise: float) -> dict[str, list[float]]:
        station, agent, n = self.station, self.agent, world.number
        per_request, per_frame = 1.0 / agent.unit, 1.0 / (agent.unit * station.users * station.slots)
        told: dict[str, list[float]] = {"cost": [], "critic_loss": [], "actor_value": [], "cache_loss": []}
        cost_of_all = np.zeros(n)
        for frame in range(station.frames):
            observation = world.observation(frame)
            chosen = agent.best_caches(observation)
            anyhow = self.random.random(n) < epsilon
            other = agent.caches.caches[self.random.integers(len(agent.caches), size=n)]
            cost = world.enter(np.where(anyhow[:, None], other, chosen))
            for slot in range(station.slots):
                now = world.slots(frame, slot)
                allocation = self._explore(now, world.caches, noise)
                paid = station.request_costs(now, grants_of(station, now, world.caches, allocation))
                last = slot == station.slots - 1
                self.slots.remember(now, world.caches, allocation.numpy(), -paid * per_request, last)
                cost = cost + paid.sum(axis=1)
                if self.slots.filled * n >= self.settings.warm_up:
                    critic_loss, actor_value = self._learn_slots()
                    told["critic_loss"].append(critic_loss)
                    told["actor_value"].append(actor_value)
                    if self.frames.filled * n >= self.settings.batch:
                        told["cache_loss"].append(self._learn_frames())
            self.frames.add(
                observation=observation, cache=world.caches, reward=-cost * per_frame,
                after=world.observation(frame + 1), last=frame == station.frames - 1,
            )  # fmt: skip
            cost_of_all += cost
        told["cost"].append(float(cost_of_all.mean()) * station.template.scale)
        return told

    @torch.no_grad()
    def _explore(self, now: Slots, caches: np.ndarray, noise: float) -> Tensor:
        """Return allocations (n, U, 4) of the actor's actions with noise, and of uniform ones now and then."""
        seen = self.agent.see(now, caches)
        raw = torch.tanh(self.agent.networks.actor(seen.features, seen.asked, self.generator))
        raw = raw + noise * torch.randn(raw.shape, generator=self.generator)
        anyhow = torch.rand(len(raw), generator=self.generator) < self.settings.random_actions
        uniform = 2.0 * torch.rand(raw.shape, generator=self.generator) - 1.0
        return self.agent.amend(torch.where(anyhow[:, None, None], uniform, raw), seen)

    # -------------------------------------------------------------------------------------------------------- learn

    def _learn_slots(self) -> tuple[float, float]:
        """One update of critic and actor, and of their targets."""
        agent, networks, targets, memory = self.agent, self.agent.networks, self.targets, self.slots
        row, which = memory.draw(self.random, self.settings.batch)
        seen = agent.see(*memory.slots(row, which))
        goal = torch.from_numpy(memory.arrays["reward"][row, which])
        if self.settings.slot_discount > 0:
            after = agent.see(*memory.slots((row + 1) % memory.rows, which))
            with torch.no_grad():
                raw = torch.tanh(targets.actor(after.features, after.asked, self.generator))
                value = agent.value(targets.critic, after, agent.amend(raw, after))
                goes_on = torch.from_numpy(~memory.arrays["last"][row])[:, None]
                goal = goal + self.settings.slot_discount * value * goes_on
        allocation = torch.from_numpy(memory.arrays["allocation"][row, which])
        error = agent.value(networks.critic, seen, allocation) - goal
        loss = functional.huber_loss(error, torch.zeros_like(error), delta=OUTLIER)
        self._descend("critic", loss)
        score = networks.actor(seen.features, seen.asked, self.generator)
        value = agent.value(networks.critic, seen, agent.amend(torch.tanh(score), seen)).mean()
        far = functional.relu(score.abs() - SATURATED).square().mean()
        raw = torch.tanh(score)
        better, _ = agent.improved(raw.detach(), seen, TRIED, self.generator)
        self._descend("actor", SATURATION_COST * far - value + IMITATION * (better - raw).square().mean())
        self._follow(networks.critic, targets.critic)
        self._follow(networks.actor, targets.actor)
        return float(loss.detach()), float(value.detach())

    def _learn_frames(self) -> float:
        """One update of the Q-network and its target."""
        online, target, bits = self.agent.networks.cache_value, self.targets.cache_value, self.agent.caches.bits
        observation, cache, reward, after, last = map(
            torch.from_numpy, self.frames.draw(self.random, self.settings.batch)
        )
        with torch.no_grad():
            choice = bits[online.table(after, bits).argmax(1)]
            goal = reward + self.frame_discount * target(after, choice) * ~last
        loss = functional.mse_loss(online(observation, cache.float()), goal)
        self._descend("cache", loss)
        self._follow(online, target)
        return float(loss.detach())

    def _descend(self, name: str, loss: Tensor) -> None:
        optimizer = self.optimizers[name]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    def _follow(self, online: nn.Module, target: nn.Module) -> None:
        with torch.no_grad():
            for goal, weight in zip(target.parameters(), online.parameters(), strict=True):
                goal.lerp_(weight, self.settings.soft_update)

    # -------------------------------------------------------------------------------------------------------- state

    def state(self) -> dict[str, Any]:
        """Return everything that the rest of the training depends on: tensors, numbers and text."""
        return {
            "networks": self.agent.networks.state_dict(),
            "targets": self.targets.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "kept": self.kept,
            "random": json.dumps(self.random.bit_generator.state),
            "generator": self.generator.get_state(),
            "slots": _as_tensors(self.slots.state()),
            "frames": _as_tensors(self.frames.state()),
            "rounds": self.progress.rounds,
            "best": self.progress.best,
            "log": self.log,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on exactly where `state` was taken."""
        self.agent.networks.load_state_dict(state["networks"])
        self.targets.load_state_dict(state["targets"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        self.kept = state["kept"]
        self.random.bit_generator.state = json.loads(state["random"])
        self.generator.set_state(state["generator"])
        for memory, name in ((self.slots, "slots"), (self.frames, "frames")):
            arrays = {key: values.numpy() for key, values in state[name]["arrays"].items()}
            memory.restore({**state[name], "arrays": arrays})
        self.progress = _Progress(state["rounds"], state["best"])
        self.log = list(state["log"])


def _copied(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def _as_tensors(state: dict[str, Any]) -> dict[str, Any]:
    return {**state, "arrays": {name: torch.from_numpy(values) for name, values in state["arrays"].items()}}
