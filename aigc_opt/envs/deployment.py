"""Gymnasium environment of deployment: the placement of each slot, with the optimal routing."""

from __future__ import annotations

import os

import numpy as np
from gymnasium import spaces

from aigc_opt.envs.common import SequentialEnv
from aigc_opt.envs.deployment_rollout import MOST, DeploymentRollout
from aigc_opt.envs.picture import binary, raster, stacked
from aigc_opt.instance.deployment import DeploymentInstance
from aigc_opt.instance.files import loaded_as


class DeploymentEnv(SequentialEnv[DeploymentRollout]):
    """A step is a slot; its arrivals are seen when it starts. The reward is minus the slot's cost, switches included.

    Observations are `DeploymentView.vector`, actions the scores of `DeploymentRollout`. Every episode is the same one.
    """

    def __init__(self, instance: DeploymentInstance | str | os.PathLike[str], render_mode: str | None = None):
        self.instance = loaded_as(DeploymentInstance, instance)
        super().__init__(render_mode)
        self.observation_space = spaces.Box(0.0, MOST, (self.rollout.observation_size,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (self.rollout.action_size,), np.float32)

    def _begun(self) -> DeploymentRollout:
        return DeploymentRollout(self.instance)

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
