"""The parts that bounds rest on, each against something simpler: shares, duals, steps, cuts, tables, knapsacks."""

from __future__ import annotations

import dataclasses
import itertools
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aigc_opt.control import Control
from aigc_opt.problems.two_timescale import frames as frames_module
from aigc_opt.problems.two_timescale import slot_exact
from aigc_opt.problems.two_timescale.enumeration import feasible_caches
from aigc_opt.problems.two_timescale.episode import Episode
from aigc_opt.problems.two_timescale.fitting import REFERENCES, fit_splits, side_cuts
from aigc_opt.problems.two_timescale.frames import Frames
from aigc_opt.problems.two_timescale.knapsack import best_knapsack, fractional_knapsack
from aigc_opt.problems.two_timescale.listing import caches_below
from aigc_opt.problems.two_timescale.prices import price_steps
from aigc_opt.problems.two_timescale.search import with_room_for_steps
from aigc_opt.problems.two_timescale.shares import Transfers, solve_shares
from aigc_opt.problems.two_timescale.split import split_slots
from aigc_opt.problems.two_timescale.tables import Codes, Polygons, SlotTable
from aigc_opt.reuse import forget, reusing
from tests.two_timescale.tiny import tiny, transfer_s


class Stopped(Control):
    """Says stop after it was asked a number of times."""

    def __init__(self, asked: int):
        super().__init__()
        self.left = asked

    @property
    def stop(self):
        self.left -= 1
        return None if self.left >= 0 else "time"


def with_every_cache(seed):
    """A tiny episode's frames, and all pairs of a frame and a cache that fits."""
    frames = Frames(Episode.of(tiny(seed)))
    caches = feasible_caches(frames.episode, 100)
    number = frames.episode.frames
    return frames, np.repeat(np.arange(number), len(caches)), np.tile(caches, (number, 1))


RANGES = {"usual": (-14, -7, -1, 1), "wide": (-30, 5, -6, 6)}


def drawn(random, ranges):
    """Sizes and gains of 300 slots of six users, some of whom send nothing."""
    size = 10.0 ** random.uniform(*ranges[2:], (300, 6)) * (random.random((300, 6)) < 0.8)
    return size, 10.0 ** random.uniform(*ranges[:2], (300, 6))


@pytest.mark.parametrize("ranges", RANGES.values(), ids=RANGES)
def test_shares_are_optimal_to_a_billionth(ranges):
    random = np.random.default_rng(1)
    size, gain = drawn(random, ranges)
    found = solve_shares(size, gain, 0.2, 2e7, 4e-21)
    assert (found.share.sum(axis=1) <= 1 + 1e-15).all() and (found.share >= 0).all()
    assert ((found.share > 0) == (size > 0)).all()
    assert (found.lower <= found.seconds).all()
    assert (found.seconds - found.lower <= 1e-9 * found.seconds).all()
    assert (found.seconds[(size == 0).all(axis=1)] == 0).all()
    if ranges == RANGES["usual"]:
        for row in range(20):
            least = transfer_s(size[row], gain[row], [0.2] * 6, 2e7, 4e-21)
            assert found.lower[row] <= least * (1 + 1e-12)
            assert found.seconds[row] == pytest.approx(least, rel=1e-9)


@pytest.mark.parametrize("ranges", RANGES.values(), ids=RANGES)
def test_hurried_shares_are_shares_and_their_bounds_hold(ranges):
    """Where the clock is over a slot's shares are not the best ones, but may be used; its bound is below the best."""
    random = np.random.default_rng(2)
    size, gain = drawn(random, ranges)
    best = solve_shares(size, gain, 0.2, 2e7, 4e-21)
    found = solve_shares(size, gain, 0.2, 2e7, 4e-21, control=Stopped(0))
    assert (found.share.sum(axis=1) <= 1 + 1e-15).all() and ((found.share > 0) == (size > 0)).all()
    assert (found.lower <= best.lower * (1 + 1e-9)).all() and (found.lower <= best.seconds).all()
    assert (found.seconds >= best.lower).all() and (found.seconds > best.seconds * (1 + 1e-6)).any()


def test_hurried_shares_are_not_kept():
    e = Episode.of(tiny(3))
    forget()
    with reusing():
        hurried, whole, again = (Transfers.of(e, control) for control in (Stopped(0), None, Stopped(0)))
    seconds = [of.uplink.seconds.sum() for of in (hurried, whole, again)]
    assert seconds[0] > seconds[1] == seconds[2]
    forget()


@given(st.integers(0, 10**6))
def test_caches_have_room_for_steps_where_their_duals_say_so(seed):
    frames, of, every = with_every_cache(seed)
    _, fits, _ = frames.prices(of, every.astype(float))
    e, caches = frames.episode, len(every) // frames.episode.frames
    for k in range(caches):
        rows = np.arange(e.frames) * caches + k
        assert (with_room_for_steps(frames, every[rows]) == every[rows] & fits[rows][:, None]).all()


@given(st.integers(0, 10**6))
def test_cuts_are_below_everything_and_duals_too(seed):
    """At any prices, for any cache; a bound that were too high by one part in ten thousand would be found."""
    frames, of, every = with_every_cache(seed)
    e, random = frames.episode, np.random.default_rng(seed)
    upper, lower = frames.exact(of, every, 1e-9, Control())
    scale = 1e-9 * max(1.0, abs(e.cloud).sum())
    assert (lower <= upper).all()
    finite = np.isfinite(upper)
    assert (upper[finite] - lower[finite] <= scale).all()
    dual, fits, tight = frames.dual(of, every.astype(float), tolerance=1e-10)
    assert (fits == finite).all()
    assert (dual[fits] <= upper[fits] + scale).all()
    at_cache = tight.const + (tight.grad * every).sum(axis=1)
    assert at_cache[fits] == pytest.approx(dual[fits], rel=1e-9, abs=scale)
    some = frames.cuts(of, random.exponential(1.0, (len(of), e.slots)))
    mixed = random.permutation(len(every))  # the cut of one cache at another one of the same frame
    same = of[mixed] == of
    for cuts in (tight, some):
        value = cuts.const + (cuts.grad * every[mixed]).sum(axis=1)
        assert (value[same] <= upper[mixed][same] + scale).all()


def unsplit(self, nodes, model, cloud, dual, bound):
    """Stand in for the roots' splits: plain branch and bound over places and vertices."""
    return bound


@given(st.integers(0, 10**6))
def test_splits_bound_every_allocation(seed):
    """At any toll and number, for any cache; one that were too high by one part in ten thousand would be found."""
    frames, of, every = with_every_cache(seed)
    e, random = frames.episode, np.random.default_rng(seed)
    with patch.object(slot_exact._Search, "_split_in_two", unsplit):
        plain = frames.allocate(of, every, 1e-10, Control())
    found = frames.allocate(of, every, 1e-10, Control())
    scale, finite = 1e-9 * max(1.0, abs(e.cloud).sum()), np.isfinite(plain.cost)
    assert (np.isfinite(found.cost) == finite).all()
    assert found.cost[finite] == pytest.approx(plain.cost[finite], rel=1e-9, abs=scale)

    rows, weight = frames.weights(of, every)
    sides = split_slots(e.curves, e.steps_per_slot, e.model[rows], e.cloud[rows], weight, frames.free[rows])
    assert (sides.bound.min(axis=0)[finite] <= plain.cost[finite] + scale).all()
    toll = random.exponential(5.0, len(rows)) * np.array([[1.0], [-1.0]])
    price, number = random.exponential(0.2, (2, len(rows))), random.integers(0, e.users + 1, len(rows))
    drawn = dataclasses.replace(sides, number=number, price=price, toll=toll)
    slots = np.repeat(every, e.slots, axis=0)
    value = [
        const - toll[k] * (number + k) + (grad * slots).sum(axis=1)
        for k, (const, grad) in enumerate(side_cuts(frames, of, drawn, k) for k in (0, 1))
    ]
    assert (np.minimum(*value)[finite] <= plain.cost[finite] + scale).all()


@given(st.integers(0, 10**6))
def test_fitted_splits_bound_all_caches_and_close_their_own(seed):
    e = Episode.of(tiny(seed))
    frames, caches = Frames(e), feasible_caches(e, 100)
    linear = np.random.default_rng(seed).normal(0, 5, (e.frames, e.models))
    for t in range(e.frames):
        cost, _ = frames.exact(np.full(len(caches), t), caches, 1e-10, Control())
        listed = {t: (caches, np.full(len(caches), -np.inf))}
        nothing = np.zeros((e.frames, e.models), bool)
        value = fit_splits(frames, listed, nothing, np.full(e.frames, np.inf), linear, Control())[t]
        dual = frames.value(np.full(len(caches), t), caches)
        fits, scale = np.isfinite(cost), 1e-5 * max(1.0, abs(e.cloud).sum())
        assert (value[fits] <= (cost + caches @ linear[t])[fits] + 1e-4 * scale).all()
        if len(caches) < REFERENCES:  # every cache has had the splits fitted to it, which are no worse than the duals
            assert (value[fits] >= (dual + caches @ linear[t])[fits] - scale).all()


@given(st.integers(0, 10**6))
def test_slot_tables_are_the_duals(seed):
    e = Episode.of(tiny(seed))
    frames, polygons = Frames(e), Polygons(e)
    for slot in range(len(e.model)):
        if not frames.asked[slot].any():
            continue
        table = SlotTable(e, polygons, slot)
        subsets = np.array(list(itertools.product((False, True), repeat=len(table.models))))
        caches = np.zeros((len(subsets), e.models), bool)
        caches[:, table.models] = subsets
        weight = np.where(frames.asked[slot], caches[:, frames.wanted[slot]], 0.0)
        copies = np.full(len(subsets), slot)
        found = slot_exact.slot_dual(
            e.curves, e.steps_per_slot, e.model[copies], e.cloud[copies], weight, (weight > 0) & frames.free_hits,
            tolerance=1e-12,
        )  # fmt: skip
        value, scale = table.values(subsets), max(1.0, e.cloud[slot].sum())
        assert np.isinf(value).tolist() == (~found.feasible).tolist()
        ok = found.feasible
        assert (value[ok] <= found.bound[ok] + 1e-9 * scale).all()
        if not e.curves.smooth.any():  # smooth curves are polygons from below there
            assert value[ok] == pytest.approx(found.bound[ok], rel=1e-9, abs=1e-9 * scale)
        else:
            assert value[ok] == pytest.approx(found.bound[ok], rel=5e-3, abs=5e-3 * scale)


@given(st.integers(0, 10**6))
def test_prices_bound_every_cache(seed):
    e = Episode.of(tiny(seed))
    frames, random = Frames(e), np.random.default_rng(seed)
    every = np.arange(e.frames)
    linear = random.normal(0, 5, (e.frames, e.models))
    frames.batch = 1
    control = Control() if seed % 2 else Stopped(seed % 23)
    found = price_steps(frames, every, np.zeros((e.frames, e.models)), 12, control, linear)
    caches = feasible_caches(e, 100)
    for t in range(e.frames):
        upper, _ = frames.exact(np.full(len(caches), t), caches, 1e-9, Control())
        least = (upper + caches @ linear[t]).min()
        assert found.lower[t] <= least + 1e-9 * max(1.0, abs(e.cloud).sum())


@given(st.integers(0, 10**6))
def test_knapsacks_are_enumeration(seed):
    random = np.random.default_rng(seed)
    number = random.integers(1, 9)
    reward, size = random.normal(1, 2, number).round(2), random.uniform(0.1, 3, number).round(2)
    capacity = float(random.uniform(0, 6))
    choices = np.array(list(itertools.product((0, 1), repeat=number)))
    fit = choices @ size <= capacity
    best = (choices[fit] @ reward).max()
    x, bound = best_knapsack(reward, size, capacity)
    assert reward @ x == pytest.approx(best) and size @ x <= capacity
    assert best <= bound <= best + 1e-9
    relaxed = fractional_knapsack(reward[None], size, np.array([[capacity]]))[0]
    assert reward @ relaxed >= best - 1e-9 and size @ relaxed <= capacity + 1e-9
    level = float(np.quantile(-choices @ reward, 0.4))
    code, cost, room = caches_below(-reward, size, capacity, level, np.ones(number, bool), Control())
    listed = Codes(code, number).unpacked()
    expected = choices[fit & (-choices @ reward <= level)]
    assert {tuple(row) for row in expected.tolist()} <= {tuple(row) for row in listed.astype(int).tolist()}
    assert cost == pytest.approx(-(listed @ reward)) and room == pytest.approx(capacity - listed @ size)


def test_a_large_knapsack_is_solved():
    random = np.random.default_rng(5)
    reward, size = random.uniform(1, 100, 200), random.uniform(1, 30, 200)
    x, bound = best_knapsack(reward, size, 400.0)
    assert size @ x <= 400 and reward @ x == pytest.approx(bound, rel=1e-9)
    relaxed = reward @ fractional_knapsack(reward[None], size, np.array([[400.0]]))[0]
    assert 0.99 * relaxed <= bound <= relaxed * (1 + 1e-12)


def test_codes_of_many_models():
    random = np.random.default_rng(2)
    caches = random.random((50, 62)) < 0.5
    code = (caches * (np.int64(1) << np.arange(62))).sum(axis=1)
    codes, weight = Codes(code, 62), random.normal(0, 1, 62)
    assert (codes.unpacked() == caches).all()
    assert codes.weighed(weight) == pytest.approx(caches @ weight)
    some = np.array([0, 3, 10, 11, 12, 35, 61, *range(13, 33)])
    packed = (caches[:, some] * (np.int64(1) << np.arange(len(some)))).sum(axis=1)
    assert (codes.restricted(some) == packed).all()


@pytest.mark.parametrize("chunk", [1, 3])
def test_chunks_change_nothing(monkeypatch, chunk):
    for seed in range(10):
        e = Episode.of(tiny(seed))
        at, caches = np.arange(e.frames), np.zeros((e.frames, e.models), bool)
        caches[:, :2] = True
        plain = Frames(e).exact(at, caches, 1e-9, Control())
        with monkeypatch.context() as patch:
            patch.setattr(slot_exact, "CHUNK", chunk)
            patch.setattr(frames_module, "ROWS_AT_ONCE", 1)
            assert np.allclose(Frames(e).exact(at, caches, 1e-9, Control()), plain, rtol=1e-8)


@given(st.integers(0, 10**6), st.integers(0, 6), st.booleans())
def test_whenever_it_is_stopped_both_values_hold(seed, asked, roots):
    e = Episode.of(tiny(seed))
    frames, at = Frames(e), np.arange(e.frames)
    caches = np.tile(np.arange(e.models) % 2 == 0, (e.frames, 1))
    upper, lower = frames.exact(at, caches, 1e-9, Control())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slot_exact, "CHUNK", 2)
        found = frames.allocate(at, caches, 1e-9, Stopped(asked), roots=roots)
    cost, least = (values.reshape(e.frames, -1).sum(axis=1) for values in (found.cost, found.lower))
    scale = 1e-9 * max(1.0, abs(e.cloud).sum())
    assert (np.isinf(cost) == np.isinf(upper)).all()
    assert (cost >= lower - scale).all() and (least <= upper + scale).all()
    ok = np.isfinite(found.cost)
    assert (found.steps[ok].sum(axis=1) <= e.steps_per_slot * (1 + 1e-9)).all()
