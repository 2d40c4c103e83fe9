"""Pictures of episodes for `render`: arrays of red, green and blue, drawn with NumPy alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from aigc_opt.envs.rollout import Rollout

PAPER, GRID, EDGE, CLOUD, HELD = (
    np.array(c, np.uint8) for c in ([255, 255, 255], [225, 225, 225], [0, 114, 178], [213, 94, 0], [0, 158, 115])
)
"""Colours that people with any colour vision tell apart (Okabe and Ito)."""


def raster(cells: np.ndarray, size: int = 8) -> np.ndarray:
    """Return cells (rows, columns, 3) as squares of `size` pixels with a grid between."""
    picture = np.repeat(np.repeat(cells, size, axis=0), size, axis=1)
    picture[::size], picture[:, ::size] = GRID, GRID
    return picture


def stacked(parts: list[np.ndarray], gap: int = 8) -> np.ndarray:
    """Return pictures one below the other, left aligned."""
    width = max(part.shape[1] for part in parts)
    rows = []
    for part in parts:
        rows += [np.pad(part, ((0, gap), (0, width - part.shape[1]), (0, 0)), constant_values=255)]
    return np.concatenate(rows)


def binary(values: np.ndarray, colour: np.ndarray = HELD) -> np.ndarray:
    """Return cells of a 0/1 table (rows, columns): coloured where 1."""
    return np.where(values[..., None] > 0.5, colour, PAPER).astype(np.uint8)


def two_timescale(rollout: Rollout) -> np.ndarray:
    """Draw caches above requests.

    Above: a row a model, a column a frame, green where cached. Below: a row a user, a column a slot: blue = at the
    edge, the darker the more steps; orange = in the cloud; white = no request, or still to come.
    """
    station, grants = rollout.station, rollout.grants
    known = np.arange(len(rollout.slots.model)) < rollout.row
    asked = rollout.slots.asked & known[:, None]
    depth = np.clip(grants.steps / max(station.template.curves.most, 1e-9), 0.0, 1.0)[..., None]
    edge = (PAPER * (0.6 - 0.6 * depth) + EDGE * (0.4 + 0.6 * depth)).astype(np.uint8)
    cells = np.where(asked[..., None], np.where(grants.at_edge[..., None], edge, CLOUD), PAPER).astype(np.uint8)
    return stacked([raster(binary(rollout.cached.T)), raster(cells.transpose(1, 0, 2))])
