"""An agent as a policy: what `evaluate` and the environments call."""

from __future__ import annotations

import os
from typing import Self

import numpy as np
import torch

from aigc_opt.envs.station import Grants, Station
from aigc_opt.envs.views import FrameView, SlotView
from aigc_opt.learning.agent import Agent, load_agent


class LearnedCache:
    """The agent's caches; the allocation is left to the optimum.

    Parameters
    ----------
    agent : Agent or path
        Or the folder that it is in.
    station : Station
    seed : int
        Of the noise that a diffusion actor starts from.

    """

    def __init__(self, agent: Agent | str | os.PathLike[str], station: Station, seed: int = 0):
        torch.set_num_threads(1)  # workers share the processor already
        self.agent = agent if isinstance(agent, Agent) else load_agent(agent, station)
        self.generator = torch.Generator().manual_seed(seed)

    def seeded(self, seed: int) -> Self:
        """Return this policy with noise of this seed, for one episode."""
        self.generator.manual_seed(seed)
        return self

    def cache(self, view: FrameView) -> np.ndarray:
        return self.agent.best_caches(view.vector()[None])[0].astype(float)


class LearnedPolicy(LearnedCache):
    """The agent's caches and its allocation."""

    def allocate(self, view: SlotView) -> Grants:
        return self.agent.grants(view.now, view.cache[None], self.generator)
