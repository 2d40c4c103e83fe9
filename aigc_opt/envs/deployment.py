"""Gymnasium environment of deployment: the placement of each slot, with the optimal routing."""

from __future__ import annotations

import os
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from aigc_opt.envs.common import METADATA, Begun, Stepped
from aigc_opt.envs.deployment_rollout import MOST, DeploymentRollout
from aigc_opt.envs.picture import binary, raster, stacked
from aigc_opt.instance.deployment import DeploymentInstance
from aigc_opt.instance.files import loaded_as
from aigc_opt.problems.deployment.solution import DeploymentSolution


class DeploymentEnv(gym.Env[np.ndarray, np.ndarray]):
    """A step is a slot; its arrivals are seen when it starts. The reward is minus the slot's cost, switches included.

    Observations are `DeploymentView.vector`, actions the scores of `DeploymentRollout`. Every episode is the same one.
    """

    metadata = METADATA

    def __init__(self, instance: DeploymentInstance | str | os.PathLike[str], render_mode: str | None = None):
        self.instance, self.render_mode = loaded_as(DeploymentInstance, instance), render_mode
        self.rollout = DeploymentRollout(self.instance)
        self.observation_space = spaces.Box(0.0, MOST, (self.rollout.observation_size,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (self.rollout.action_size,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Begun:
        """Begin again."""
        super().reset(seed=seed)
        self.rollout = DeploymentRollout(self.instance)
        return self._observation(), {}

    def step(self, action: np.ndarray) -> Stepped:
        """Take a slot's placement."""
        cost = self.rollout.act(action)
        return self._observation(), -cost, self.rollout.over, False, {}

    def _observation(self) -> np.ndarray:
        if self.rollout.over:
            return np.zeros(self.rollout.observation_size, np.float32)
        return self.rollout.view().vector()

    def solution(self) -> DeploymentSolution:
        """Return all decisions so far, for the checker."""
        return self.rollout.solution()

    def actions_of(self, solution: DeploymentSolution) -> list[np.ndarray]:
        """Return the actions that mean a solution's placement."""
        return self.rollout.actions_of(solution)

    def render(self) -> np.ndarray | None:
        """Return a picture: for each server a row a model, a column a slot; pale = stored, full = loaded."""
        if self.render_mode != "rgb_array":
            return None
        done = self.rollout
        parts = []
        for j in range(done.servers):
            cells = binary(done.loaded[:, j].T)
            pale = (done.stored[:, j].T > 0) & (done.loaded[:, j].T == 0)
            cells[pale] = (170, 215, 200)
            parts.append(raster(cells))
        return stacked(parts)
