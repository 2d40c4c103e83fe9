"""Gymnasium environments of two timescales: both together, caching only, allocation only.

Rewards are minus the share of the objective, so that an episode's return is minus what the checker says of its
decisions. Observations are in `features`, actions in `actions`; whatever is not feasible is amended as `Station` says.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from aigc_opt.envs import features, picture
from aigc_opt.envs.actions import action_of, grants_of, slot_action_size
from aigc_opt.envs.common import METADATA, Begun, Stepped
from aigc_opt.envs.rollout import Rollout
from aigc_opt.envs.station import Grants, Station
from aigc_opt.errors import InputError
from aigc_opt.instance.files import loaded_as
from aigc_opt.instance.sample import draw_episodes
from aigc_opt.instance.two_timescale import REQUEST_ARRAYS, TwoTimescaleInstance
from aigc_opt.policies.two_timescale import Popular
from aigc_opt.problems.two_timescale.enumeration import feasible_caches
from aigc_opt.problems.two_timescale.solution import TwoTimescaleSolution

DISCRETE_CACHES = 4096
"""With at most so many feasible caches a cache can be chosen by its number."""

SEEDS = 2**31
"""Seeds of episodes that an environment draws by itself are below this."""


Given = TwoTimescaleInstance | str | os.PathLike[str]
"""An instance, or the path of its file."""


def box(size: int, least: float = features.LEAST, most: float = features.MOST) -> spaces.Box:
    """Return a box of float32."""
    return spaces.Box(least, most, (size,), np.float32)


class TwoTimescaleEnv(gym.Env[np.ndarray, Any]):
    """What the three environments share: the episode, what has been decided in it, and the picture.

    Parameters
    ----------
    instance : TwoTimescaleInstance or path
        A process, from which every `reset` draws an episode, or one episode. ``reset(seed=N)`` gives the episode of
        ``aigc-opt sample --seed N``; without a seed the environment's generator draws one, which `info` has.
    render_mode : str, optional
        ``rgb_array``.

    """

    metadata = METADATA

    def __init__(self, instance: Given, render_mode: str | None = None):
        self.instance, self.render_mode = loaded_as(TwoTimescaleInstance, instance), render_mode
        self.station = Station(self.instance)
        self.rollout: Rollout  # from the first `reset` on

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Begun:
        """Begin an episode; its seed is in `info`."""
        super().reset(seed=seed)
        station, process = self.station, self.station.process
        number = int(self.np_random.integers(SEEDS)) if seed is None else seed
        if process is None:
            self.rollout = Rollout(station, station.slots_in(self.instance), None)
        else:
            states, requests = draw_episodes(process, station.users, station.models, [number])
            self.rollout = Rollout(station, station.slots_of(requests), states[0])
        self.number = number
        self._begin()
        return self._observation(), {"seed": number}

    def _begin(self) -> None:
        """Do what comes before the first decision."""

    def solution(self) -> TwoTimescaleSolution:
        """Return all decisions of the episode so far, for the checker."""
        return self.rollout.solution()

    def episode(self) -> TwoTimescaleInstance:
        """Return the present episode as an instance of its own."""
        slots, station = self.rollout.slots, self.station
        data = self.instance.to_dict()
        if data.pop("process", None) is not None:
            data["name"] = f"{self.instance.name}-{self.number}"  # as `aigc-opt sample` calls it
        values = [getattr(slots, name).reshape(station.shape) for name in slots.__dataclass_fields__]
        return TwoTimescaleInstance.from_dict(data | {"requests": dict(zip(REQUEST_ARRAYS, values, strict=True))})

    def render(self) -> np.ndarray | None:
        """Return a picture of the episode so far (see `picture.two_timescale`)."""
        return picture.two_timescale(self.rollout) if self.render_mode == "rgb_array" else None

    def _observation(self) -> np.ndarray:
        if self.rollout.over:
            return np.zeros(self.observation_space.shape or (), np.float32)
        return self._observed()

    @abstractmethod
    def _observed(self) -> np.ndarray:
        """Return what is seen before the next decision."""

    def _packed(self, scores: Any) -> np.ndarray:
        return self.station.amend_caches(np.asarray(scores, float)[None])[0]


class JointEnv(TwoTimescaleEnv):
    """Both timescales: an episode has T (1 + K) steps, a frame's start and then its slots.

    At a frame's start only the first M entries of the action are read, scores of the cache; in a slot only the others.
    Requests of the first slot are not seen before the cache is chosen. The reward at a frame's start is minus the cost
    of switching, in a slot minus its delays and losses, both over T K.
    """

    def __init__(self, instance: Given, render_mode: str | None = None):
        super().__init__(instance, render_mode)
        self.observation_space = box(features.slot_size(self.station))
        self.action_space = box(self.station.models + slot_action_size(self.station), -1.0, 1.0)

    def _begin(self) -> None:
        self.starting = True

    def step(self, action: np.ndarray) -> Stepped:
        """Take the cache of a frame, or what the requests of a slot get."""
        action, models, rollout = np.asarray(action, float), self.station.models, self.rollout
        if self.starting:
            cost = rollout.enter(self._packed(action[:models]))
            self.starting = False
        else:
            cost = rollout.serve(grants_of(self.station, rollout.now, rollout.cache[None], action[None, models:]))
            self.starting = rollout.slot == 0
        return self._observation(), -cost, rollout.over, False, {}

    def _observed(self) -> np.ndarray:
        return self.rollout.frame_view().joint_vector() if self.starting else self.rollout.slot_view().vector()

    def actions_of(self, solution: TwoTimescaleSolution) -> list[np.ndarray]:
        """Return the T (1 + K) actions of this episode that mean a solution's decisions."""
        station, found = self.station, []
        shape = (-1, station.users)
        cached = np.round(solution.cached)
        grants = Grants(
            np.round(solution.at_edge).astype(bool).reshape(shape), np.reshape(solution.steps, shape),
            np.reshape(solution.uplink_share, shape), np.reshape(solution.downlink_share, shape),
        )  # fmt: skip
        by_slot = action_of(station, self.rollout.slots, grants)
        for t in range(station.frames):
            found.append(np.concatenate([2.0 * cached[t] - 1.0, np.zeros(by_slot.shape[1])]))
            for row in by_slot[t * station.slots : (t + 1) * station.slots]:
                found.append(np.concatenate([np.zeros(station.models), row]))
        return found


class CachingEnv(TwoTimescaleEnv):
    """Caches only: a step is a frame, and its slots get the optimal allocation, or what a given policy gives them.

    Parameters
    ----------
    actions : str
        ``scores`` (a box in [-1, 1]: models above 0 are packed, highest first), ``binary`` (0 or 1 a model; packed in
        order of the models), or ``discrete`` (the number of a cache among the feasible ones, `caches`).
    allocation : object, optional
        Has ``allocate(SlotView) -> Grants``; the optimal allocation without it.

    """

    def __init__(
        self, instance: Given, actions: str = "scores", allocation: Any = None, render_mode: str | None = None
    ):
        super().__init__(instance, render_mode)
        station = self.station
        self.allocation = allocation
        self.action_space: spaces.Space[Any]
        self.observation_space = box(features.frame_size(station))
        self.caches: np.ndarray | None = None
        if actions == "scores":
            self.action_space = box(station.models, -1.0, 1.0)
        elif actions == "binary":
            self.action_space = spaces.MultiBinary(station.models)
        elif actions == "discrete":
            self.caches = feasible_caches(station.template, DISCRETE_CACHES)
            if self.caches is None:
                raise InputError(self.instance.name, [f"has more than {DISCRETE_CACHES} feasible caches to number"])
            self.action_space = spaces.Discrete(len(self.caches))
        else:
            raise InputError("actions", [f"must be scores, binary or discrete, got {actions!r}"])

    def step(self, action: np.ndarray | int) -> Stepped:
        """Take a frame's cache; the reward is minus the frame's share of the objective, switching included."""
        station, rollout = self.station, self.rollout
        cost = rollout.enter(self._packed(action if self.caches is None else self.caches[int(action)]))
        if self.allocation is None:
            cost += rollout.serve_optimally()
        else:
            for _ in range(station.slots):
                view = rollout.slot_view()
                raw = self.allocation.allocate(view)
                cost += rollout.serve(station.amend_grants(view.now, view.cache[None], raw))
        return self._observation(), -cost, rollout.over, False, {}

    def _observed(self) -> np.ndarray:
        return self.rollout.frame_view().vector()


class AllocationEnv(TwoTimescaleEnv):
    """Allocation only: a step is a slot; the caches are chosen by a given policy, switching paid with the first slot.

    Parameters
    ----------
    caching : object, optional
        Has ``cache(FrameView) -> scores``; `Popular` without it.

    """

    def __init__(self, instance: Given, caching: Any = None, render_mode: str | None = None):
        super().__init__(instance, render_mode)
        self.caching = caching or Popular(self.station)
        self.observation_space = box(features.slot_size(self.station))
        self.action_space = box(slot_action_size(self.station), -1.0, 1.0)

    def _begin(self) -> None:
        self.owed = self._choose()

    def _choose(self) -> float:
        return self.rollout.enter(self._packed(self.caching.cache(self.rollout.frame_view())))

    def step(self, action: np.ndarray) -> Stepped:
        """Take what the requests of a slot get."""
        rollout = self.rollout
        now, cache = rollout.now, rollout.cache[None]
        cost = self.owed + rollout.serve(grants_of(self.station, now, cache, np.asarray(action)[None]))
        self.owed = self._choose() if rollout.slot == 0 and not rollout.over else 0.0
        return self._observation(), -cost, rollout.over, False, {}

    def _observed(self) -> np.ndarray:
        return self.rollout.slot_view().vector()
