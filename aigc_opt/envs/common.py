"""What the environments of all problems share, and those in which every episode is the same."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Generic, Protocol, TypeVar

import gymnasium as gym
import numpy as np

from aigc_opt.result import Solution

METADATA: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 4}

Begun = tuple[np.ndarray, dict[str, Any]]
"""What `reset` returns: observation and info."""

Stepped = tuple[np.ndarray, float, bool, bool, dict[str, Any]]
"""What `step` returns: observation, reward, whether the episode ended, whether it was cut short, info."""


class View(Protocol):
    """What is known before a decision."""

    def vector(self) -> np.ndarray:
        """Return the observation."""


class Decisions(Protocol):
    """Decisions one after another, such as `DeploymentRollout`."""

    observation_size: int

    @property
    def over(self) -> bool:
        """Whether all is decided."""

    def view(self) -> View:
        """Return what is known now."""

    def act(self, action: np.ndarray) -> float:
        """Decide; return what it adds to the objective."""

    def solution(self) -> Solution | None:
        """Return what was decided."""

    def actions_of(self, solution: Any) -> list[np.ndarray]:
        """Return the actions that mean a solution."""


Rollout = TypeVar("Rollout", bound=Decisions)


class SequentialEnv(gym.Env[np.ndarray, np.ndarray], Generic[Rollout]):
    """An environment around a rollout, every episode of which is the same one.

    The reward is minus what a decision adds to the objective.
    """

    metadata = METADATA

    def __init__(self, render_mode: str | None):
        self.render_mode = render_mode
        self.rollout = self._begun()

    @abstractmethod
    def _begun(self) -> Rollout:
        """Return a rollout of which nothing is decided."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Begun:
        """Begin again."""
        super().reset(seed=seed)
        self.rollout = self._begun()
        return self._observation(), {}

    def step(self, action: np.ndarray) -> Stepped:
        """Take the next decision."""
        cost = self.rollout.act(action)
        return self._observation(), -cost, self.rollout.over, False, {}

    def _observation(self) -> np.ndarray:
        if self.rollout.over:
            return np.zeros(self.rollout.observation_size, np.float32)
        return self.rollout.view().vector()

    def solution(self) -> Any:
        """Return the decisions so far, for the checker; None where they are no solution."""
        return self.rollout.solution()

    def actions_of(self, solution: Any) -> list[np.ndarray]:
        """Return the actions that mean a solution's decisions."""
        return self.rollout.actions_of(solution)
