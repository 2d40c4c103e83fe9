"""The base station of a two-timescale instance: what does not change from slot to slot, and the cost of any slots.

Everything works on any number of slots at once. Costs are in the *sum scale* of `Episode`: the objective times T K.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from aigc_opt.instance.sample import draw_requests, require_room
from aigc_opt.instance.two_timescale import REQUEST_ARRAYS, Requests, TwoTimescaleInstance
from aigc_opt.problems.two_timescale.episode import Episode

SMALLEST_SHARE = 1e-3
"""What a transfer without a share gets, before all shares are scaled to sum to 1."""


_SLOT_FIELDS = ("uplink_mbit", "downlink_mbit", "uplink_gain", "downlink_gain")


def instance_with(instance: TwoTimescaleInstance, requests: dict[str, Any]) -> TwoTimescaleInstance:
    """Return the instance with drawn requests in the place of its process, without validating them again."""
    data = {name: getattr(instance, name) for name in type(instance).model_fields}
    data |= {"requests": Requests.model_construct(**requests), "process": None}
    return TwoTimescaleInstance.model_construct(**data)


def definite(numbers: Any) -> np.ndarray:
    """Return a decision's numbers as an array of float, infinite ones replaced by the largest finite.

    Raises
    ------
    ValueError
        If one is not a number: it says nothing that could be amended.

    """
    found = np.asarray(numbers, float)
    if np.isnan(found).any():
        raise ValueError(f"a decision holds NaN ({int(np.isnan(found).sum())} of {found.size} numbers)")
    return np.nan_to_num(found)


@dataclass(frozen=True, eq=False)
class Slots:
    """What is known of n slots when they start: requests, sizes and channels; 0 (gains: 1) where there is no request.

    Attributes
    ----------
    model : ndarray of int64, shape (n, U)
        -1 = no request.
    uplink_mbit, downlink_mbit, uplink_gain, downlink_gain : ndarray, shape (n, U)

    """

    model: np.ndarray
    uplink_mbit: np.ndarray
    downlink_mbit: np.ndarray
    uplink_gain: np.ndarray
    downlink_gain: np.ndarray

    @property
    def asked(self) -> np.ndarray:
        """Where there is a request, shape (n, U)."""
        return self.model >= 0

    def take(self, rows: np.ndarray | slice | tuple[int, ...]) -> Slots:
        """Return some of the slots."""
        return Slots(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    def copy(self) -> Slots:
        """Return slots that share no memory with these."""
        return Slots(*(getattr(self, name).copy() for name in self.__dataclass_fields__))


@dataclass(frozen=True, eq=False)
class Grants:
    """What the requests of n slots get.

    Attributes
    ----------
    at_edge : ndarray of bool, shape (n, U)
    steps, uplink_share, downlink_share : ndarray, shape (n, U)

    """

    at_edge: np.ndarray
    steps: np.ndarray
    uplink_share: np.ndarray
    downlink_share: np.ndarray


class Station:
    """Constants of a two-timescale instance, an episode or a process. It holds no requests: policies may see it.

    Attributes
    ----------
    process : Process or None
        The law of episodes; None where only one episode is known.
    frames, slots, users, models : int
        T, K, U, M; `shape` is (T, K, U).
    states : int
        States of the process's chain, 0 for an episode, whose law is not known.
    template : Episode
        Sizes, limits, curves and switching costs, with no slots in it.
    safe : bool
        Whether every cache leaves steps enough for its hits, whatever is asked for.

    """

    def __init__(self, instance: TwoTimescaleInstance):
        self.process = process = instance.process
        self.states = 0 if process is None else len(process.zipf_exponents)
        if process is not None:  # the arrays of a law are those of any of its episodes
            require_room(instance)
            instance = instance_with(
                instance, draw_requests(process, len(instance.user_power_w), len(instance.models), 0)
            )
        e = Episode.of(instance)
        none = {name: getattr(e, name)[:0].copy() for name in ("model", "cloud", *_SLOT_FIELDS)}
        self.template = replace(e, **none)
        self.frames, self.slots, self.users, self.models = e.frames, e.slots, e.users, e.models
        self.shape = (e.frames, e.slots, e.users)
        cloud, weights = instance.cloud, instance.weights
        loss = np.array([float(profile.quality.value(np.array(cloud.steps))) for profile in instance.models])
        seconds = cloud.latency.base_s + cloud.latency.per_step_s * cloud.steps
        self._cloud_of = weights.delay * seconds + weights.quality * loss
        self._cloud_per_mbit = weights.delay / instance.edge.backhaul_mbps
        self.safe = not e.serve_all_hits or self.users * e.min_steps <= e.steps_per_slot

    # ------------------------------------------------------------------------------------------ requests and costs

    def slots_of(self, requests: dict[str, np.ndarray]) -> Slots:
        """Return slots from arrays as `draw_requests` gives them, of any shape that ends in U."""
        model, *values = (requests[key].reshape(-1, self.users) for key in REQUEST_ARRAYS)
        asked = model >= 0
        if asked.all():
            return Slots(model, *values)
        up, down, gain_up, gain_down = values
        return Slots(
            model, np.where(asked, up, 0.0), np.where(asked, down, 0.0),
            np.where(asked, gain_up, 1.0), np.where(asked, gain_down, 1.0),
        )  # fmt: skip

    def slots_in(self, instance: TwoTimescaleInstance) -> Slots:
        """Return the N slots of an episode of this station."""
        return self.slots_of({key: getattr(instance.requests, key) for key in REQUEST_ARRAYS})

    def cloud(self, slots: Slots) -> np.ndarray:
        """Weighted cost of each request in the cloud, without the transfers, shape (n, U)."""
        cost = self._cloud_of[np.maximum(slots.model, 0)]
        return np.where(slots.asked, cost + self._cloud_per_mbit * (slots.uplink_mbit + slots.downlink_mbit), 0.0)

    def episode(self, slots: Slots, frames: int, initial: np.ndarray | None = None) -> Episode:
        """Return slots as an episode of so many frames of equal length, for the solving modules."""
        e = self.template
        return replace(
            e, frames=frames, slots=len(slots.model) // frames, model=slots.model,
            uplink_mbit=slots.uplink_mbit, downlink_mbit=slots.downlink_mbit,
            uplink_gain=slots.uplink_gain, downlink_gain=slots.downlink_gain, cloud=self.cloud(slots),
            initial=e.initial if initial is None else initial,
        )  # fmt: skip

    def request_costs(self, slots: Slots, grants: Grants) -> np.ndarray:
        """Cost of each request of n slots, (n, U): delay and loss of feasible grants, as the objective weighs them."""
        e = self.template
        edge = e.curves.value(slots.model, grants.steps)
        cost = np.where(grants.at_edge, edge, self.cloud(slots))
        if e.weight_delay:
            up = self._seconds(slots.uplink_mbit, slots.uplink_gain, grants.uplink_share, e.user_power_w, e.uplink_hz)
            down = self._seconds(slots.downlink_mbit, slots.downlink_gain, grants.downlink_share, e.power_w,
                                 e.downlink_hz)  # fmt: skip
            cost += e.weight_delay * (up + down)
        return cost

    def slot_costs(self, slots: Slots, grants: Grants) -> np.ndarray:
        """Cost of n slots, shape (n,)."""
        return self.request_costs(slots, grants).sum(axis=1)

    def _seconds(
        self, mbit: np.ndarray, gain: np.ndarray, share: np.ndarray, watt: np.ndarray | float, hertz: float
    ) -> np.ndarray:
        """Transfer time of each request, s, at R(b) = b B log2(1 + p g / (N0 b B)) (formulations, 3)."""
        width = np.where(mbit > 0, share, 1.0) * hertz
        noise = self.template.noise_w_per_hz
        with np.errstate(divide="ignore", over="ignore"):
            ratio = watt * gain / (noise * width)
            nats = np.log1p(ratio)
            if not np.isfinite(ratio).all():  # tiny shares: without this the rate is infinite and sending takes no time
                logs = np.log(watt) + np.log(gain) - np.log(noise) - np.log(width)
                nats = np.where(np.isfinite(ratio), nats, logs)
            return 1e6 * np.log(2.0) * mbit / (width * nats)

    def switch_costs(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Cost of going from caches `before` to caches `after`, each (..., M) of bool; sum scale."""
        return (after & ~before) @ self.template.switch

    # ------------------------------------------------------------------------------------- amending raw decisions

    def amend_caches(self, scores: np.ndarray) -> np.ndarray:
        """Return the cache of each row of scores (n, M): positive ones, highest first, as far as they fit.

        A model that does not fit is passed over; equal scores go by index. Where some cache could have more hits than
        `steps_per_slot` has `min_steps` for (`safe` is False), nothing is cached: no policy can know beforehand.
        """
        scores = definite(scores)
        number, every = len(scores), np.arange(len(scores))
        cache = np.zeros(scores.shape, bool)
        if not self.safe:
            return cache
        order = np.argsort(-scores, axis=1, kind="stable")
        room = np.full(number, self.template.storage_gb)
        size = self.template.size_gb
        for m in order.T:
            fits = (scores[every, m] > 0) & (size[m] <= room)
            cache[every, m] = fits
            room = np.where(fits, room - size[m], room)
        return cache

    def hits(self, slots: Slots, caches: np.ndarray) -> np.ndarray:
        """Requests of n slots whose model is in the slot's cache, caches (n, M); shape (n, U) of bool."""
        return slots.asked & np.take_along_axis(caches, np.maximum(slots.model, 0), axis=1)

    def amend_grants(self, slots: Slots, caches: np.ndarray, raw: Grants) -> Grants:
        """Return the feasible grants next to raw ones, for slots with caches (n, M).

        - The edge serves hits: all of them with `serve_all_hits`, else those asked for, and of these the ones with most
          steps if there are more than `steps_per_slot` has `min_steps` for.
        - Steps are clipped to [min_steps, max_steps]; where they sum to more than there are, what is above `min_steps`
          is scaled down.
        - A transfer with a share <= 0 (or none) gets `SMALLEST_SHARE`; where shares sum to more than 1 they are
          divided by the sum. Whoever sends nothing gets 0.
        """
        e = self.template
        hits = self.hits(slots, caches)
        at_edge = hits if e.serve_all_hits else hits & np.asarray(raw.at_edge, bool)
        least, most = e.min_steps, e.curves.most
        wish = np.clip(definite(raw.steps), least, most)
        if least > 0 and not e.serve_all_hits and self.users * least > e.steps_per_slot:
            rank = np.argsort(np.argsort(-np.where(at_edge, wish, -1.0), axis=1, kind="stable"), axis=1)
            at_edge = at_edge & (rank < np.floor(e.steps_per_slot / least + 1e-9))
        wish = np.where(at_edge, wish, 0.0)
        floor = np.where(at_edge, least, 0.0)
        room = e.steps_per_slot - floor.sum(axis=1)
        above = (wish - floor).sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            part = np.where(above > room, np.maximum(room, 0.0) / above, 1.0)
        steps = floor + (wish - floor) * part[:, None]
        return Grants(
            at_edge, steps,
            _amend_shares(raw.uplink_share, slots.uplink_mbit), _amend_shares(raw.downlink_share, slots.downlink_mbit),
        )  # fmt: skip


def _amend_shares(raw: np.ndarray, mbit: np.ndarray) -> np.ndarray:
    share = definite(raw)
    share = np.where(mbit > 0, np.where(share > 0, share, SMALLEST_SHARE), 0.0)
    total = share.sum(axis=1, keepdims=True)
    return share / np.maximum(total, 1.0)
