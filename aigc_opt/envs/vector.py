"""The joint environment of two timescales for many episodes at once, in step: the same rules, arrays instead of loops.

Every environment has the observations, actions and rewards of `JointEnv`; all are at the same frame and slot, because
episodes of a process have one length. For more speed run one in each process.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from aigc_opt.envs import features
from aigc_opt.envs.actions import grants_of, slot_action_size
from aigc_opt.envs.common import Begun
from aigc_opt.envs.station import Slots, Station
from aigc_opt.envs.two_timescale import SEEDS, box
from aigc_opt.errors import InputError
from aigc_opt.instance.files import loaded_as
from aigc_opt.instance.sample import draw_episodes
from aigc_opt.instance.two_timescale import REQUEST_ARRAYS, TwoTimescaleInstance

METADATA: dict[str, Any] = {"autoreset_mode": AutoresetMode.NEXT_STEP}


class JointVectorEnv(VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """So many `JointEnv` of a process. Environment i of ``reset(seed=N)`` plays the episode of seed N + i.

    The step after an episode's last one begins the next episodes and ignores its actions (Gymnasium's next-step
    autoreset); their seeds are drawn from the environment's generator.
    """

    metadata = METADATA

    def __init__(self, instance: TwoTimescaleInstance | str | os.PathLike[str], num_envs: int = 1):
        instance = loaded_as(TwoTimescaleInstance, instance)
        self.station = station = Station(instance)
        if station.process is None:
            raise InputError(instance.name, ["must be a process, not an episode"])
        self.process = station.process
        self.num_envs = num_envs
        self.single_observation_space = box(features.slot_size(station))
        self.single_action_space = box(station.models + slot_action_size(station), -1.0, 1.0)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(self, *, seed: int | list[int] | None = None, options: dict[str, Any] | None = None) -> Begun:
        """Begin new episodes."""
        super().reset(seed=seed if isinstance(seed, int) else None)
        if seed is None:
            seeds = self.np_random.integers(SEEDS, size=self.num_envs).tolist()
        else:
            seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else list(seed)
        station = self.station
        self.states, requests = draw_episodes(self.process, station.users, station.models, seeds)
        # Slots of one moment side by side in memory, those of one environment far apart: (T, K, n, U).
        by_slot = {key: np.ascontiguousarray(requests[key].transpose(1, 2, 0, 3)) for key in REQUEST_ARRAYS}
        flat = station.slots_of(by_slot)
        self.slots = Slots(*(getattr(flat, name).reshape(by_slot["model"].shape) for name in flat.__dataclass_fields__))
        self.frame = self.slot = 0
        self.starting, self.over = True, False
        self.caches = np.tile(station.template.initial, (self.num_envs, 1))
        self._enter_frame()
        return self._observation(), {"seed": np.array(seeds)}

    def _enter_frame(self) -> None:
        station, t = self.station, self.frame
        if t == 0:
            self.before = np.zeros((self.num_envs, station.models))
        else:
            last = self.slots.model[t - 1].transpose(1, 0, 2)
            self.before = features.seen(station, Slots(last, *(last,) * 4), self.num_envs)
        self._common()

    def _common(self) -> None:
        self.common = features.common(self.station, self.states[:, self.frame], self.caches, self.before)

    def _now(self) -> Slots:
        return self.slots.take((self.frame, self.slot))

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Take a step in every environment."""
        none = np.zeros(self.num_envs, bool)
        if self.over:
            observation, info = self.reset()
            return observation, np.zeros(self.num_envs), none, none.copy(), info
        station = self.station
        actions = np.asarray(actions)
        if self.starting:
            caches = station.amend_caches(actions[:, : station.models])
            cost = station.switch_costs(self.caches, caches)
            self.caches, self.starting = caches, False
            self._common()
        else:
            now = self._now()
            cost = station.slot_costs(now, grants_of(station, now, self.caches, actions[:, station.models :]))
            self.slot += 1
            if self.slot == station.slots:
                self.frame, self.slot, self.starting = self.frame + 1, 0, True
                self.over = self.frame == station.frames
                if not self.over:
                    self._enter_frame()
        return self._observation(), -cost * station.template.scale, np.full(self.num_envs, self.over), none, {}

    def _observation(self) -> np.ndarray:
        station = self.station
        if self.over:
            return np.zeros(self.observation_space.shape or (), np.float32)
        if self.starting:
            return features.of_slot(station, self.frame, 0, self.common, None, None)
        now = self._now()
        hits = station.hits(now, self.caches)
        return features.of_slot(station, self.frame, self.slot, self.common, now, hits)
