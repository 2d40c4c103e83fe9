"""Dynamic programming over listed caches: against all sequences, and with rests that must stay bounds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aigc_opt.control import Control
from aigc_opt.problems.two_timescale.enumeration import Caches, feasible_caches
from aigc_opt.problems.two_timescale.episode import Episode
from aigc_opt.problems.two_timescale.frames import Frames, switching_cost
from aigc_opt.problems.two_timescale.listing import list_frame
from aigc_opt.problems.two_timescale.paths import REST, Nodes, best_paths, close_paths
from aigc_opt.problems.two_timescale.prices import price_steps
from aigc_opt.problems.two_timescale.switching import switch_terms
from aigc_opt.problems.two_timescale.tables import Polygons
from tests.two_timescale.tiny import tiny

SWITCHING = {"delay": 0.4, "quality": 0.5, "switching": 0.4}


def drawn(seed: int):
    """An episode with switching, its caches, exact costs (T, S), and some prices of switches."""
    e = Episode.of(tiny(seed, weights=SWITCHING))
    frames, caches = Frames(e), feasible_caches(e, 100)
    of = np.repeat(np.arange(e.frames), len(caches))
    cost, _ = frames.exact(of, np.tile(caches, (e.frames, 1)), 1e-10, Control())
    prices = np.random.default_rng(seed).random((e.frames, e.models)) * e.switch
    return e, frames, caches, cost.reshape(e.frames, -1), prices


def sequences(e: Episode, caches: np.ndarray, cost: np.ndarray):
    """Every sequence of caches and its cost."""
    for path in itertools.product(range(len(caches)), repeat=e.frames):
        yield path, cost[np.arange(e.frames), list(path)].sum() + switching_cost(e, caches[list(path)])


@given(st.integers(0, 10**6))
def test_paths_are_all_sequences(seed):
    """Whatever the prices are; and the cheapest through each node is that."""
    e, _, caches, cost, prices = drawn(seed)
    if len(caches) ** e.frames > 600:
        return
    linear, paid = switch_terms(prices, e.initial)
    values = [cost[t] + caches @ linear[t] for t in range(e.frames)]
    path, total, through = best_paths(e, Nodes([caches] * e.frames, values, np.full(e.frames, np.inf)), prices)
    every = list(sequences(e, caches, cost))
    least = min(value for _, value in every)
    assert total - paid == pytest.approx(least, rel=1e-9)
    assert dict(every)[tuple(path.tolist())] == pytest.approx(least, rel=1e-9)
    for t, k in itertools.product(range(e.frames), range(len(caches))):
        best = min(value for path, value in every if path[t] == k)
        if np.isfinite(best):
            assert through[t][k] - paid == pytest.approx(best, rel=1e-9)


@given(st.integers(0, 10**6), st.integers(0, 3))
def test_rests_keep_it_a_bound(seed, kept):
    """With few caches listed and the least of the others as rest; a rest too high by one in ten thousand would show."""
    e, _, caches, cost, prices = drawn(seed)
    linear, paid = switch_terms(prices, e.initial)
    whole = np.array([cost[t] + caches @ linear[t] for t in range(e.frames)])
    everything = Nodes([caches] * e.frames, list(whole), np.full(e.frames, np.inf))
    _, least, _ = best_paths(e, everything, prices)
    order = whole.argsort(axis=1, kind="stable")
    rest = np.array([np.append(whole[t][order[t]], np.inf)[min(kept, len(caches))] for t in range(e.frames)])
    some = [order[t, :kept] for t in range(e.frames)]
    nodes = Nodes([caches[k] for k in some], [whole[t][k] for t, k in enumerate(some)], rest)
    path, total, through = best_paths(e, nodes, prices)
    assert total <= least + 1e-9 * abs(least)
    assert all((np.asarray(through[t]) >= total - 1e-9 * abs(total)).all() for t in range(e.frames))
    if (path != REST).all():
        assert total == pytest.approx(least, rel=1e-9)


@given(st.integers(0, 10**6))
def test_whole_lists_leave_nothing_out(seed):
    """Every cache that is not listed costs at least the rest, with linear terms of both signs."""
    e, frames, caches, cost, prices = drawn(seed)
    linear, _ = switch_terms(prices, e.initial)
    for t in range(e.frames):
        value = cost[t] + caches @ linear[t]
        cutoff = float(np.median(value[np.isfinite(value)]))
        found = list_frame(
            frames, Polygons(e), t, np.zeros(e.slots), cutoff, Control(), linear[t], kept=3, whole=True
        )  # fmt: skip
        listed = {cache.tobytes(): low for cache, low in zip(found.caches, found.value, strict=True)}
        for cache, exact in zip(caches, value, strict=True):
            assert listed.get(cache.tobytes(), found.rest) <= exact + 1e-9 * max(1.0, abs(exact))


@pytest.mark.parametrize("seed", range(12))
def test_close_paths_is_all_sequences(seed):
    e, frames, caches, cost, prices = drawn(seed)
    if len(caches) ** e.frames > 5000:
        return
    linear, paid = switch_terms(prices, e.initial)
    priced = price_steps(frames, np.arange(e.frames), np.zeros((e.frames, e.models)), 4, Control(), linear)
    empty = np.zeros((e.frames, e.models), bool)
    upper = float(e.cloud.sum())
    start = Caches(empty, upper, priced.lower.sum() - paid)
    found = close_paths(frames, prices, priced, start, 1e-8, 0.0, Control(), lambda *told: None)
    least = min(value for _, value in sequences(e, caches, cost))
    scale = 1e-8 * max(1.0, abs(least))
    assert found.lower <= least + scale and abs(found.upper - least) <= 2 * scale
    assert found.upper - found.lower <= 1e-8 * abs(found.upper) + scale
