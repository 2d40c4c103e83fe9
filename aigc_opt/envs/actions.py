"""Actions as vectors, and what they mean: the documented map from any action to raw decisions.

A cache is chosen by scores in [-1, 1], a number for each model: `Station.amend_caches` packs those above 0, highest
first. A slot's part of an action has, user by user within each block ::

    steps     min_steps + (a + 1) / 2 (max_steps - min_steps)
    uplink    share proportional to exp(SHARPNESS a) among those who send: a softmax, so that shares sum to 1
    downlink  likewise
    edge      (only where `serve_all_hits` is false) a hit is served at the edge where a > 0

and `Station.amend_grants` makes it feasible. NaN is no action: `definite` refuses it.
"""

from __future__ import annotations

import numpy as np

from aigc_opt.envs.station import Grants, Slots, Station, definite

SHARPNESS = 6.0
"""Largest over smallest share that actions can say: exp(2 * 6), 160,000 to 1."""


def slot_action_size(station: Station) -> int:
    """Length of a slot's part of an action."""
    return station.users * (3 if station.template.serve_all_hits else 4)


def grants_of(station: Station, slots: Slots, caches: np.ndarray, action: np.ndarray) -> Grants:
    """Return feasible grants of n slots with caches (n, M) from actions (n, `slot_action_size`)."""
    return station.amend_grants(slots, caches, raw_grants_of(station, slots, caches, action))


def raw_grants_of(station: Station, slots: Slots, caches: np.ndarray, action: np.ndarray) -> Grants:
    """Return what actions ask for, which may be more steps than there are."""
    e, users = station.template, station.users
    a = np.clip(definite(action), -1.0, 1.0).reshape(len(slots.model), -1, users)
    edge = station.hits(slots, caches)
    if a.shape[1] > 3:
        edge &= a[:, 3] > 0
    steps = e.min_steps + 0.5 * (a[:, 0] + 1.0) * (e.curves.most - e.min_steps)
    return Grants(
        edge, np.where(edge, steps, 0.0),
        _softmax(a[:, 1], slots.uplink_mbit > 0), _softmax(a[:, 2], slots.downlink_mbit > 0),
    )  # fmt: skip


def _softmax(a: np.ndarray, sent: np.ndarray) -> np.ndarray:
    weight = np.where(sent, np.exp(SHARPNESS * a), 0.0)
    total = weight.sum(axis=1, keepdims=True)
    return weight / np.where(total > 0, total, 1.0)


def action_of(station: Station, slots: Slots, grants: Grants) -> np.ndarray:
    """Return actions (n, `slot_action_size`) that mean these grants.

    It is exact, to rounding, where shares of a slot sum to 1 and differ by less than exp(2 `SHARPNESS`).
    """
    e = station.template
    span = e.curves.most - e.min_steps
    steps = 2.0 * (grants.steps - e.min_steps) / span - 1.0 if span > 0 else np.zeros(grants.steps.shape)
    parts = [np.where(grants.at_edge, steps, -1.0)]
    for share in (grants.uplink_share, grants.downlink_share):
        with np.errstate(divide="ignore"):
            log = np.where(share > 0, np.log(np.where(share > 0, share, 1.0)), -np.inf)
        top = log.max(axis=1, keepdims=True, initial=-np.inf)
        parts.append(np.where(np.isfinite(log), 1.0 + (log - np.where(np.isfinite(top), top, 0.0)) / SHARPNESS, -1.0))
    if not e.serve_all_hits:
        parts.append(np.where(grants.at_edge, 1.0, -1.0))
    return np.clip(np.concatenate(parts, axis=1), -1.0, 1.0)
