"""A trained agent: its networks, how it acts, and its files."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from aigc_opt.envs import features as observations
from aigc_opt.envs.station import Grants, Slots, Station
from aigc_opt.errors import Fault, InputError
from aigc_opt.instance.files import npz_beside, read_bytes, read_json, save_with_arrays
from aigc_opt.instance.sample import draw_episodes
from aigc_opt.learning.amender import amend, raw_size
from aigc_opt.learning.caches import CacheSet
from aigc_opt.learning.networks import CacheValue, Critic, DiffusionActor, PlainActor
from aigc_opt.learning.settings import Settings
from aigc_opt.policies.load import AGENT_FILE

FORMAT, VERSION = "aigc-opt/agent", 1
WEIGHTS_BYTES = 2**28

UNIT_EPISODES = 8
"""Episodes whose mean cost in the cloud is the unit of costs."""


@dataclass(frozen=True, eq=False)
class SlotTensors:
    """What actor and critic see of n slots.

    Attributes
    ----------
    features : Tensor, shape (n, U, D)
    asked, hits, sends_up, sends_down : Tensor of bool, shape (n, U)

    """

    features: Tensor
    asked: Tensor
    hits: Tensor
    sends_up: Tensor
    sends_down: Tensor

    def tiled(self, times: int) -> SlotTensors:
        """Return all slots, `times` times one after another."""
        tensors = (getattr(self, name) for name in self.__dataclass_fields__)
        return SlotTensors(*(tensor.repeat(times, *[1] * (tensor.ndim - 1)) for tensor in tensors))


def feature_size(station: Station) -> int:
    """Features of a user in a slot."""
    return station.models + 10


def slot_tensors(station: Station, unit: float, slots: Slots, hits: np.ndarray) -> SlotTensors:
    """Return what the networks see: request, channel, cost in the cloud and place among the hits."""
    e, users = station.template, station.users
    asked = slots.asked
    noise = e.noise_w_per_hz
    order = np.cumsum(hits, axis=1)
    each = np.zeros((*asked.shape, feature_size(station)), np.float32)
    rows, columns = np.nonzero(asked)
    each[rows, columns, slots.model[asked]] = 1.0
    others = (
        asked,
        hits,
        np.log1p(slots.uplink_mbit) / 3.0,
        np.log1p(slots.downlink_mbit) / 3.0,
        np.log10(e.user_power_w * slots.uplink_gain / (noise * e.uplink_hz)) / 3.0,
        np.log10(e.power_w * slots.downlink_gain / (noise * e.downlink_hz)) / 3.0,
        station.cloud(slots) / unit,
        (order - hits) / users,
        np.broadcast_to(order[:, -1:] / users, asked.shape),
        np.broadcast_to(np.arange(users) / users, asked.shape),
    )
    for k, values in enumerate(others):
        each[..., station.models + k] = np.where(asked, values, 0.0)
    masks = (asked, hits, slots.uplink_mbit > 0, slots.downlink_mbit > 0)
    return SlotTensors(torch.from_numpy(each), *(torch.from_numpy(np.ascontiguousarray(mask)) for mask in masks))


class Networks(nn.Module):
    """Actor, critic and Q-network of one agent."""

    def __init__(self, station: Station, settings: Settings):
        super().__init__()
        features, actions, width = feature_size(station), raw_size(station), settings.width
        self.actor: DiffusionActor | PlainActor
        if settings.actor == "diffusion":
            ends = settings.beta_min, settings.beta_max
            self.actor = DiffusionActor(features, actions, width, settings.denoising_steps, *ends)
        else:
            self.actor = PlainActor(features, actions, width)
        self.critic = Critic(features, station.models, width)
        self.cache_value = CacheValue(observations.frame_size(station), station.models, width)


class Agent:
    """What acts: networks with the station that they are for.

    Attributes
    ----------
    station : Station
    settings : Settings
    networks : Networks
    caches : CacheSet
    unit : float
        Mean weighted cost of a request in the cloud: the unit of costs that the networks see.

    """

    def __init__(self, station: Station, settings: Settings):
        self.station, self.settings = station, settings
        self.networks = Networks(station, settings)
        self.caches = CacheSet(station)
        self.unit = 1.0 if station.process is None else cost_unit(station)

    def see(self, slots: Slots, caches: np.ndarray) -> SlotTensors:
        """Return what the networks see of slots with caches (n, M)."""
        return slot_tensors(self.station, self.unit, slots, self.station.hits(slots, caches))

    def amend(self, raw: Tensor, seen: SlotTensors) -> Tensor:
        """Return feasible allocations (n, U, 4) of raw actions."""
        return amend(self.station, raw, seen.hits, seen.sends_up, seen.sends_down)

    def value(self, critic: nn.Module, seen: SlotTensors, allocation: Tensor) -> Tensor:
        """Return the critic's values of allocations, of each user, 0 where nothing is asked; shape (n, U)."""
        return critic(seen.features, allocation, self.station.template.curves.most) * seen.asked

    @torch.no_grad()
    def improved(self, raw: Tensor, seen: SlotTensors, times: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return, of raw actions and `times` changed copies of each, those that the critic values most.

        A copy takes ends of the range or uniform numbers in the place of some entries, each with a probability between
        0 and 1/2 of its own: what gradients cannot find, to starve one of two equal requests for the other, is one
        such change away.

        Returns
        -------
        Tensor, shape (n, U, A)
            Raw actions.
        Tensor, shape (n,)
            Their values.

        """
        number = len(raw)
        copies = raw.repeat(times, 1, 1)
        chance = 0.5 * torch.rand((len(copies), 1, 1), generator=generator)
        other = (4.0 * torch.rand(copies.shape, generator=generator) - 2.0).clamp(-1.0, 1.0)  # half of them at ends
        changed = torch.where(torch.rand(copies.shape, generator=generator) < chance, other, copies)
        every = torch.cat([raw, changed])
        wide = seen.tiled(times + 1)
        value = self.value(self.networks.critic, wide, self.amend(every, wide)).sum(1).reshape(times + 1, number)
        best = value.argmax(0)
        rows = torch.arange(number)
        return every.reshape(times + 1, *raw.shape)[best, rows], value[best, rows]

    @torch.no_grad()
    def grants(self, slots: Slots, caches: np.ndarray, generator: torch.Generator) -> Grants:
        """Allocate n slots with caches (n, M): the actor's draw, or a changed copy that the critic values more."""
        seen = self.see(slots, caches)
        raw = torch.tanh(self.networks.actor(seen.features, seen.asked, generator))
        for _ in range(self.settings.searches):
            raw, _ = self.improved(raw, seen, self.settings.candidates, generator)
        return grants_of(self.station, slots, caches, self.amend(raw, seen))

    def best_caches(self, observation: np.ndarray) -> np.ndarray:
        """Return the caches (n, M) of highest value for observations of frames (n, D)."""
        return self.caches.best(self.networks.cache_value, torch.from_numpy(observation))

    # -------------------------------------------------------------------------------------------------------- files

    def save(self, folder: str | os.PathLike[str], about: dict[str, Any]) -> None:
        """Write ``agent.json`` (settings, and what `about` tells) and its weights into an existing folder."""
        weights = {name: tensor.numpy() for name, tensor in self.networks.state_dict().items()}
        head = {
            "format": FORMAT,
            "version": VERSION,
            "models": self.station.models,
            "states": self.station.states,
            "unit": self.unit,
            "settings": self.settings.model_dump(mode="json"),
        }
        save_with_arrays(Path(folder) / AGENT_FILE, head | about, "weights", weights)


def cost_unit(station: Station) -> float:
    """Mean cost of a request in the cloud, over a few episodes of the law; 1 where that is 0."""
    seeds = range(UNIT_EPISODES)
    slots = station.slots_of(draw_episodes(station.process, station.users, station.models, seeds)[1])
    cost = station.cloud(slots)[slots.asked]
    return float(cost.mean()) if cost.any() else 1.0


def grants_of(station: Station, slots: Slots, caches: np.ndarray, allocation: Tensor) -> Grants:
    """Return an allocation (n, U, 4) as grants, with the last bits of single precision amended."""
    at_edge, steps, up, down = allocation.double().unbind(-1)
    return station.amend_grants(slots, caches, Grants(*(x.numpy() for x in (at_edge > 0.5, steps, up, down))))


def load_agent(folder: str | os.PathLike[str], station: Station) -> Agent:
    """Read an agent for a process.

    Any number of users will do, and other sizes, limits and curves too, though the agent has not seen them.

    Raises
    ------
    InputError
        If the folder holds no agent, its files are damaged, or the process has another number of models or states.

    """
    path = Path(folder) / AGENT_FILE
    origin = str(path)
    data = read_json(path)
    if data.get("format") != FORMAT or data.get("version") != VERSION:
        raise InputError(origin, [f"must be an agent, format {FORMAT!r}, version {VERSION}"])
    weights, pointer_faults = npz_beside(path, data.get("weights"), "weights")
    faults: list[Fault | str] = [
        *pointer_faults,
        *(
            f"is for {data.get(name)} {name}, the process has {there}"
            for name, there in (("models", station.models), ("states", station.states))
            if data.get(name) != there
        ),
    ]
    if faults:
        raise InputError(origin, faults)
    try:
        agent = Agent(station, Settings.model_validate(data["settings"]))
        agent.unit = float(data["unit"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(origin, [f"is damaged: {type(error).__name__}"]) from None
    try:
        with np.load(io.BytesIO(read_bytes(weights, WEIGHTS_BYTES)), allow_pickle=False) as arrays:
            state = {name: torch.from_numpy(arrays[name].astype(np.float32)) for name in arrays.files}
        agent.networks.load_state_dict(state)
    except InputError:
        raise
    except Exception:  # zipfile, numpy and torch raise all kinds of errors on a damaged file
        raise InputError(str(weights), ["does not hold this agent's weights, or is damaged"]) from None
    return agent
