"""Gymnasium environment of offloading: tasks one after another, with the optimal shares."""

from __future__ import annotations

import os

import numpy as np
from gymnasium import spaces

from aigc_opt.envs.common import SequentialEnv
from aigc_opt.envs.offloading_rollout import MOST, OffloadingRollout
from aigc_opt.envs.picture import CLOUD, EDGE, HELD, PAPER, raster
from aigc_opt.instance.files import loaded_as
from aigc_opt.instance.offloading import OffloadingInstance
from aigc_opt.problems.offloading.choices import ON_DEVICE, TURNED_AWAY


class OffloadingEnv(SequentialEnv[OffloadingRollout]):
    """A step is a task. The reward is minus what the task adds to the objective, all shares divided anew.

    Observations are `OffloadingView.vector`, actions (place, index of steps) of `OffloadingRollout`. Every episode is
    the same one.
    """

    def __init__(self, instance: OffloadingInstance | str | os.PathLike[str], render_mode: str | None = None):
        self.instance = loaded_as(OffloadingInstance, instance)
        super().__init__(render_mode)
        self.observation_space = spaces.Box(0.0, MOST, (self.rollout.observation_size,), np.float32)
        self.action_space = spaces.MultiDiscrete([self.rollout.places, self.rollout.grid])

    def _begun(self) -> OffloadingRollout:
        return OffloadingRollout(self.instance)

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
