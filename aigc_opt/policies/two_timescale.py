"""Policies of two timescales that papers compare with. None looks at what it could not know; `offline` is elsewhere.

A policy is an object with ``cache(view)``, which returns scores or 0/1 for the M models from a `FrameView`, and, if it
does not leave that to the optimum, ``allocate(view)``, which returns `Grants` of one row from a `SlotView`.
"""

from __future__ import annotations

import numpy as np

from aigc_opt.control import Control
from aigc_opt.envs.station import Grants, Slots, Station
from aigc_opt.envs.views import FrameView, SlotView
from aigc_opt.problems.two_timescale.enumeration import enumerate_caches, feasible_caches
from aigc_opt.problems.two_timescale.frames import Frames
from aigc_opt.problems.two_timescale.knapsack import best_knapsack
from aigc_opt.problems.two_timescale.search import local_search

FEW_CACHES = 2048
"""So many feasible caches are enumerated by `myopic`; with more it searches from the popular cache."""

POPULATION, GENERATIONS = 24, 40
"""Of the genetic search over shares."""


def _by_rank(order: np.ndarray) -> np.ndarray:
    """Scores, all positive, that put models in this order."""
    scores = np.empty(len(order))
    scores[order] = np.arange(len(order), 0, -1)
    return scores / len(order)


def law_popularity(station: Station, state: int | None) -> np.ndarray | None:
    """Probabilities of the models under the law, in a state or (None) on average over frames; None without a law."""
    process = station.process
    if process is None:
        return None
    weight = (1.0 + np.arange(station.models)) ** -process.zipf_exponents[:, None]
    weight /= weight.sum(axis=1, keepdims=True)
    if state is not None:
        return weight[state]
    chance, total = np.eye(station.states)[process.initial_state], np.zeros(station.states)
    for _ in range(station.frames):
        total += chance / station.frames
        chance = chance @ process.transition
    return total @ weight


def counts(station: Station, past: Slots) -> np.ndarray:
    """How often each model was asked for, shape (M,)."""
    return np.bincount(past.model[past.asked], minlength=station.models).astype(float)


class Popular:
    """Cache what is most probable in the present state; without a law, what was asked for most in the last frame."""

    def __init__(self, station: Station, seed: int = 0):
        self.station = station

    def cache(self, view: FrameView) -> np.ndarray:
        known = law_popularity(view.station, view.state)
        if known is not None:
            return _by_rank(np.argsort(-known, kind="stable"))
        return self.seen(view)

    def seen(self, view: FrameView) -> np.ndarray:
        """Scores by requests of the last frame; what is cached already before anything was seen."""
        if not len(view.past.model):
            return view.cache.astype(float)
        count = counts(view.station, view.past.take(slice(-view.station.slots, None)))
        return _by_rank(np.argsort(-count, kind="stable")) * (count > 0)


class Lfu(Popular):
    """Keep what was asked for most often so far; before anything was seen, as `Popular`."""

    def cache(self, view: FrameView) -> np.ndarray:
        if not len(view.past.model):
            return super().cache(view)
        count = counts(view.station, view.past)
        return _by_rank(np.argsort(-count, kind="stable")) * (count > 0)


class Lru(Popular):
    """Keep what was asked for most recently; within a slot the more requested counts as later. Else as `Lfu`."""

    def cache(self, view: FrameView) -> np.ndarray:
        model = view.past.model
        if not len(model):
            return super().cache(view)
        last = np.full(view.station.models, -1.0)
        slot = np.broadcast_to(np.arange(len(model))[:, None], model.shape)
        np.maximum.at(last, model[model >= 0], slot[model >= 0])
        within = np.zeros(view.station.models)
        for m in np.flatnonzero(last >= 0):
            within[m] = (model[int(last[m])] == m).sum()
        return _by_rank(np.lexsort((-within, -last))) * (last >= 0)


class Myopic(Popular):
    """Cache what would have been best in the last frame, the way there from the present cache paid.

    The best of all feasible caches where these are at most `FEW_CACHES`, else of what exchanges lead to.
    """

    def cache(self, view: FrameView) -> np.ndarray:
        if not len(view.past.model) or not view.station.safe:
            return super().cache(view)
        last = view.station.episode(view.past.take(slice(-view.station.slots, None)), 1, view.cache)
        frames = Frames(last)
        few = feasible_caches(last, FEW_CACHES)
        if few is not None:
            best = enumerate_caches(frames, few, 1e-4, Control())
            assert best is not None  # there is no limit
            return best.chosen[0].astype(float)
        linear = np.where(view.cache, 0.0, last.switch)[None]
        _, _, cuts = frames.dual(np.array([0]), view.cache[None].astype(float))
        start, _ = best_knapsack(-(cuts.grad[0] + linear[0]), last.size_gb, last.storage_gb)
        return local_search(frames, np.array([0]), start[None], Control(), linear)[0].astype(float)


class RandomAverage:
    """A random cache in each frame, from models in random order as far as they fit; equal shares of everything."""

    def __init__(self, station: Station, seed: int = 0):
        self.generator = np.random.default_rng(seed)

    def cache(self, view: FrameView) -> np.ndarray:
        return _by_rank(self.generator.permutation(view.station.models))

    def allocate(self, view: SlotView) -> Grants:
        return equal_grants(view.station, view.now, view.cache[None])


def equal_grants(station: Station, slots: Slots, caches: np.ndarray) -> Grants:
    """Equal shares of bandwidth among those who send, and of steps among the hits; amended to be feasible."""
    hits = station.hits(slots, caches)
    served = np.maximum(hits.sum(axis=1, keepdims=True), 1)
    steps = np.broadcast_to(station.template.steps_per_slot / served, hits.shape)
    shares = [(mbit > 0) / np.maximum((mbit > 0).sum(axis=1, keepdims=True), 1)
              for mbit in (slots.uplink_mbit, slots.downlink_mbit)]  # fmt: skip
    return station.amend_grants(slots, caches, Grants(hits, steps, *shares))


class PopularGenetic:
    """One popular cache for all frames, and in each slot a genetic search over the shares of bandwidth and steps.

    A chromosome has three positive numbers a user; divided by their sums they are shares of uplink, downlink and of the
    steps of a slot. Tournaments of three, uniform crossover, log-normal mutation, and the best one always survives.
    """

    def __init__(self, station: Station, seed: int = 0):
        self.generator = np.random.default_rng(seed)
        self.popular = Popular(station)
        self.chosen: np.ndarray | None = None

    def cache(self, view: FrameView) -> np.ndarray:
        known = law_popularity(view.station, None)
        if known is not None:
            return _by_rank(np.argsort(-known, kind="stable"))
        if self.chosen is None or not self.chosen.any():  # nothing is known before the first frame was seen
            self.chosen = self.popular.seen(view)
        return self.chosen

    def allocate(self, view: SlotView) -> Grants:
        station, now, random = view.station, view.now, self.generator
        genes = np.exp(random.normal(0.0, 0.5, (POPULATION, 3, station.users)))
        genes[0] = 1.0
        crowd = Slots(*(np.repeat(getattr(now, name), POPULATION, axis=0) for name in now.__dataclass_fields__))
        caches = np.repeat(view.cache[None], POPULATION, axis=0)
        hits = station.hits(crowd, caches)

        def grants(genes: np.ndarray) -> Grants:
            masks = (crowd.uplink_mbit > 0, crowd.downlink_mbit > 0, hits)
            up, down, steps = (np.where(mask, genes[:, k], 0.0) for k, mask in enumerate(masks))
            up, down, steps = (part / np.maximum(part.sum(axis=1, keepdims=True), 1e-300) for part in (up, down, steps))
            raw = Grants(hits, steps * station.template.steps_per_slot, up, down)
            return station.amend_grants(crowd, caches, raw)

        cost = station.slot_costs(crowd, grants(genes))
        for _ in range(GENERATIONS):
            rivals = random.integers(POPULATION, size=(2, POPULATION, 3))
            parents = rivals[np.arange(2)[:, None], np.arange(POPULATION), cost[rivals].argmin(axis=2)]
            mixed = np.where(random.random(genes.shape) < 0.5, genes[parents[0]], genes[parents[1]])
            mutate = random.random(genes.shape) < 0.3
            children = mixed * np.exp(np.where(mutate, random.normal(0.0, 0.3, genes.shape), 0.0))
            children[0] = genes[cost.argmin()]
            genes, cost = children, station.slot_costs(crowd, grants(children))
        best = grants(genes)
        k = int(cost.argmin())
        return Grants(*(getattr(best, name)[k : k + 1] for name in best.__dataclass_fields__))


BASELINES = {
    "random-average": RandomAverage,
    "popular-genetic": PopularGenetic,
    "popular": Popular,
    "lru": Lru,
    "lfu": Lfu,
    "myopic": Myopic,
}
