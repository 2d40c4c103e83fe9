"""Gymnasium environment of offloading: tasks one after another, with the optimal shares."""

from __future__ import annotations

import os
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from aigc_opt.envs.common import METADATA, Begun, Stepped
from aigc_opt.envs.offloading_rollout import MOST, OffloadingRollout
from aigc_opt.envs.picture import CLOUD, EDGE, HELD, PAPER, raster
from aigc_opt.instance.files import loaded_as
from aigc_opt.instance.offloading import OffloadingInstance
from aigc_opt.problems.offloading.choices import ON_DEVICE, TURNED_AWAY
from aigc_opt.problems.offloading.solution import OffloadingSolution


class OffloadingEnv(gym.Env[np.ndarray, np.ndarray]):
    """A step is a task. The reward is minus what the task adds to the objective, all shares divided anew.

    Observations are `OffloadingView.vector`, actions (place, index of steps) of `OffloadingRollout`. Every episode is
    the same one.
    """

    metadata = METADATA

    def __init__(self, instance: OffloadingInstance | str | os.PathLike[str], render_mode: str | None = None):
        self.instance, self.render_mode = loaded_as(OffloadingInstance, instance), render_mode
        self.rollout = OffloadingRollout(self.instance)
        self.observation_space = spaces.Box(0.0, MOST, (self.rollout.observation_size,), np.float32)
        self.action_space = spaces.MultiDiscrete([self.rollout.places, self.rollout.grid])

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Begun:
        """Begin again."""
        super().reset(seed=seed)
        self.rollout = OffloadingRollout(self.instance)
        return self._observation(), {}

    def step(self, action: np.ndarray) -> Stepped:
        """Place a task."""
        cost = self.rollout.act(action)
        return self._observation(), -cost, self.rollout.over, False, {}

    def _observation(self) -> np.ndarray:
        if self.rollout.over:
            return np.zeros(self.rollout.observation_size, np.float32)
        return self.rollout.view().vector()

    def solution(self) -> OffloadingSolution | None:
        """Return the decisions once all tasks are placed, for the checker; None where a task found no room."""
        return self.rollout.solution()

    def actions_of(self, solution: OffloadingSolution) -> list[np.ndarray]:
        """Return the actions that mean a solution's places and steps."""
        return self.rollout.actions_of(solution)

    def render(self) -> np.ndarray | None:
        """Return a picture: a row a place (device, rejection, servers), a column a task; coloured where it is."""
        if self.render_mode != "rgb_array":
            return None
        done = self.rollout
        cells = np.tile(PAPER, (done.places, done.tables.users, 1))
        for n, p in enumerate(done.place):
            if p == ON_DEVICE:
                cells[0, n] = HELD
            elif p == TURNED_AWAY:
                cells[1, n] = CLOUD
            elif p >= 0:
                cells[2 + p, n] = EDGE
        return raster(cells)
