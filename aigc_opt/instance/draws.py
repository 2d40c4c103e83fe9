"""Seeded draws that are the same everywhere: doubles of ``PCG64(seed)`` and nothing else, rounded."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

LEAST_FACTOR, LARGEST_FACTOR = 0.01, 100.0
"""Of loads and speeds: beyond these what is rounded for a file is nothing, or has nothing to do with the field."""


def draws(seed: int) -> Callable[..., np.ndarray]:
    """Return a function that draws uniformly: ``uniform(low, high, size=1, decimals=4)``, an array of `size`.

    Only ``Generator.random()`` is used, whose doubles are the same in every version of NumPy.
    """
    generator = np.random.Generator(np.random.PCG64(seed))

    def uniform(low: float, high: float, size: int | tuple[int, ...] = 1, decimals: int = 4) -> np.ndarray:
        return np.round(low + (high - low) * generator.random(size), decimals)

    return uniform
