"""Observations as vectors: what the decision maker may know at a moment of two timescales, and nothing later.

==================  ================  ==============================================================================
part                length            content
==================  ================  ==============================================================================
clock               1, or 3 by slots  frame / T (caching); 1 at a frame's start else 0, frame / T, slot / K
state               J                 the chain's state in this frame, one-hot (J = 0 where no law is known)
cache               M                 what is cached: before the decision at a frame's start, after it in slots
seen                M                 how often each model was asked for in the frame before, over K U
users (by slots)    U (M + 6)         per user: request or not, model one-hot, hit, ln(1 + input), ln(1 + output),
                                      log10 of both gains over 10; all 0 at a frame's start and where nothing is asked
==================  ================  ==============================================================================
"""

from __future__ import annotations

import numpy as np

from aigc_opt.envs.station import Slots, Station

LEAST, MOST = -50.0, 50.0
"""Bounds of every entry; further values are clipped."""


def frame_size(station: Station) -> int:
    """Length of the observation at a frame's start."""
    return 1 + station.states + 2 * station.models


def slot_size(station: Station) -> int:
    """Length of the observation of a slot, and of a frame's start in the joint environment."""
    return 2 + frame_size(station) + station.users * (station.models + 6)


def seen(station: Station, before: Slots, rows: int = 1) -> np.ndarray:
    """Return how often each model was asked for in the K slots before, over K U; shape (rows, M)."""
    model = before.model.reshape(rows, -1)
    place = np.arange(rows)[:, None] * station.models + np.maximum(model, 0)
    count = np.bincount(place.ravel(), (model >= 0).ravel().astype(float), rows * station.models)
    return count.reshape(rows, station.models) / (station.slots * station.users)


def common(station: Station, state: np.ndarray | None, caches: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Return state, cache and what was seen, shape (n, J + 2 M)."""
    known = np.zeros((len(caches), station.states), np.float32)
    if state is not None and station.states:
        known[np.arange(len(caches)), state] = 1.0
    return np.concatenate([known, caches.astype(np.float32), before.astype(np.float32)], axis=1)


def of_frame(station: Station, frame: int, common: np.ndarray) -> np.ndarray:
    """Observation at a frame's start, shape (n, `frame_size`), float32."""
    clock = np.full((len(common), 1), frame / station.frames, np.float32)
    return np.concatenate([clock, common], axis=1)


def of_slot(
    station: Station, frame: int, slot: int, common: np.ndarray, now: Slots | None, hits: np.ndarray | None
) -> np.ndarray:
    """Observation of a slot, or with `now` None of a frame's start; shape (n, `slot_size`), float32."""
    number, users, models = len(common), station.users, station.models
    found = np.zeros((number, slot_size(station)), np.float32)
    found[:, 0] = now is None
    found[:, 1], found[:, 2] = frame / station.frames, slot / station.slots
    start = 3 + common.shape[1]
    found[:, 3:start] = common
    if now is None:
        return found
    asked = now.asked
    each = found[:, start:].reshape(number, users, models + 6)
    each[..., 0] = asked
    at = np.arange(number * users) * (models + 6) + 1 + np.maximum(now.model, 0).ravel()
    flat = np.zeros(number * users * (models + 6), np.float32)
    flat[at] = asked.ravel()
    each += flat.reshape(each.shape)
    each[..., models + 1] = hits
    each[..., models + 2] = np.log1p(now.uplink_mbit)
    each[..., models + 3] = np.log1p(now.downlink_mbit)
    each[..., models + 4] = np.log10(now.uplink_gain) / 10.0
    each[..., models + 5] = np.log10(now.downlink_gain) / 10.0
    return np.clip(found, LEAST, MOST, out=found)
