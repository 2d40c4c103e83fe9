"""Replay memories: rings of what happened, in the smallest form from which everything else is computed again."""

from __future__ import annotations

from typing import Any

import numpy as np

from aigc_opt.envs.station import Slots

_SLOT_ARRAYS = ("uplink_mbit", "downlink_mbit", "uplink_gain", "downlink_gain")


class Ring:
    """Rows of named arrays; the newest take the place of the oldest.

    Parameters
    ----------
    rows : int
    shapes : dict
        Shape and type of one row of each array.

    """

    def __init__(self, rows: int, shapes: dict[str, tuple[tuple[int, ...], type]]):
        self.arrays: dict[str, np.ndarray] = {
            name: np.zeros((rows, *shape), kind) for name, (shape, kind) in shapes.items()
        }
        self.rows, self.next, self.filled = rows, 0, 0

    def add(self, **row: np.ndarray | bool) -> None:
        """Remember one row."""
        for name, values in row.items():
            self.arrays[name][self.next] = values
        self.next = (self.next + 1) % self.rows
        self.filled = min(self.filled + 1, self.rows)

    def state(self) -> dict[str, Any]:
        """Return all that is remembered, as plain arrays and numbers."""
        return {
            "next": self.next,
            "filled": self.filled,
            "arrays": {k: v[: self.filled] for k, v in self.arrays.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned."""
        self.next, self.filled = state["next"], state["filled"]
        for name, values in state["arrays"].items():
            self.arrays[name][: self.filled] = values


class SlotMemory(Ring):
    """Slots of all environments, one row a moment."""

    def __init__(self, slots: int, environments: int, users: int, models: int):
        each = (environments, users)
        super().__init__(
            max(2, slots // environments),
            {
                "model": (each, np.int16),
                **{name: (each, np.float32) for name in _SLOT_ARRAYS},
                "cache": ((environments, models), bool),
                "allocation": ((*each, 4), np.float32),
                "reward": (each, np.float32),
                "last": ((), bool),
            },
        )

    def remember(
        self, slots: Slots, caches: np.ndarray, allocation: np.ndarray, reward: np.ndarray, last: bool
    ) -> None:
        """Remember a moment of all environments: slots, what each user got, its reward, the frame's last or not."""
        values = {name: getattr(slots, name) for name in ("model", *_SLOT_ARRAYS)}
        self.add(**values, cache=caches, allocation=allocation, reward=reward, last=last)

    def draw(self, random: np.random.Generator, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Draw moments and environments that have a moment after them, or were the last of their frame."""
        oldest = self.next if self.filled == self.rows else 0
        row = (oldest + random.integers(self.filled - 1, size=number)) % self.rows
        return row, random.integers(self.arrays["reward"].shape[1], size=number)

    def slots(self, row: np.ndarray, which: np.ndarray) -> tuple[Slots, np.ndarray]:
        """Return slots and their caches."""
        values = (self.arrays[name][row, which].astype(float) for name in _SLOT_ARRAYS)
        return Slots(self.arrays["model"][row, which].astype(np.int64), *values), self.arrays["cache"][row, which]


class FrameMemory(Ring):
    """Frames of all environments, one row a frame of all."""

    def __init__(self, frames: int, environments: int, observation: int, models: int):
        seen = ((environments, observation), np.float32)
        super().__init__(
            max(2, frames // environments),
            {
                "observation": seen,
                "cache": ((environments, models), bool),
                "reward": ((environments,), np.float32),
                "after": seen,
                "last": ((), bool),
            },
        )

    def draw(self, random: np.random.Generator, number: int) -> tuple[np.ndarray, ...]:
        """Draw observations, caches, rewards, observations after, and whether the episode ended."""
        row = random.integers(self.filled, size=number)
        which = random.integers(self.arrays["reward"].shape[1], size=number)
        names = ("observation", "cache", "reward", "after")
        return *(self.arrays[name][row, which] for name in names), self.arrays["last"][row]
