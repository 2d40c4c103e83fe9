"""Cuts of slots: below every subset's cost, and tight where they are made."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import aigc_opt
from aigc_opt.control import Control
from aigc_opt.instance.generate import generate_two_timescale
from aigc_opt.problems.two_timescale import benders
from aigc_opt.problems.two_timescale.benders import lifted
from aigc_opt.problems.two_timescale.enumeration import feasible_caches
from aigc_opt.problems.two_timescale.episode import Episode
from aigc_opt.problems.two_timescale.frames import Frames
from aigc_opt.problems.two_timescale.masters import Masters
from aigc_opt.problems.two_timescale.tables import bits
from tests.two_timescale.tiny import optimum, tiny


@given(st.integers(0, 10**6), st.integers(0, 6))
def test_a_lifted_cut_is_below_its_table_and_tight_where_it_is_made(seed, number):
    rng = np.random.default_rng(seed)
    table = rng.normal(size=1 << number)
    table[rng.random(len(table)) < 0.2] = np.inf
    at = int(rng.integers(len(table)))
    table[at] = rng.normal()
    const, grad = lifted(table, at, rng.permutation(number))
    below = const + bits(np.arange(len(table)), number) @ grad
    assert (below <= table + 1e-9).all()
    assert below[at] == pytest.approx(table[at], abs=1e-9)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("tables", [11, -1])
def test_cuts_of_slots_are_below_what_every_cache_costs(seed, tables, monkeypatch):
    """One too high by 1e-4 of a slot's cost would stand above the exact value of some cache."""
    monkeypatch.setattr(benders, "TABLE_MODELS", tables)
    instance = tiny(seed)
    episode = Episode.of(instance)
    frames = Frames(episode)
    layout = Masters(frames, by_slot=True)
    slots = benders._Slots(frames, layout, 1e-9, Control())
    every, caches = np.arange(episode.frames), feasible_caches(episode, 5000)
    rng = np.random.default_rng(seed)
    cuts = []
    for _ in range(4):
        query = caches[rng.integers(len(caches), size=episode.frames)].astype(float)
        x = layout.point(query, np.zeros(len(layout.base)))
        cuts += [slots.fractional(layout.point(0.6 * query, np.zeros(len(layout.base))), Control()).cuts]
        cuts += [slots.whole(x, Control()).cuts]
    for cache in caches:
        found = frames.allocate(every, np.tile(cache, (episode.frames, 1)), 1e-9, Control())
        fits = np.isfinite(found.cost)
        cost = np.where(fits, found.cost, 1e12)  # where steps do not fit there is no cost to be below
        x = layout.point(np.tile(cache, (episode.frames, 1)).astype(float), cost)
        for rows in cuts:
            value = rows.matrix @ x
            finite = np.isfinite(rows.lower)
            assert (value[finite] >= rows.lower[finite] - 1e-7 * (1 + abs(rows.lower[finite]))).all()
            if fits.all():
                assert (value <= rows.upper + 1e-7).all()


@pytest.mark.parametrize("seed", range(70, 76))
def test_slots_without_tables_are_solved_too(seed, monkeypatch):
    monkeypatch.setattr(benders, "TABLE_MODELS", -1)
    instance = tiny(seed)
    result = aigc_opt.solve(instance, method="benders", gap=1e-6)
    least = optimum(instance)
    assert result.status == "optimal" and result.lower_bound <= least + 1e-8 * max(1.0, abs(least))


@pytest.mark.parametrize(("family", "gap"), [("paper", 1e-5), ("switching", 1e-3), ("choice", 1e-4)])
def test_an_episode_in_the_middle_is_closed(family, gap):
    process = generate_two_timescale(family=family, seed=1, users=10, models=10, frames=3, slots=6)
    instance = aigc_opt.sample(process, 1)
    result = aigc_opt.solve(instance, method="benders", gap=gap)
    other = aigc_opt.solve(instance, gap=1e-6)
    assert result.status == "optimal" and result.lower_bound <= other.objective * (1 + 1e-9)
    assert result.objective >= other.lower_bound * (1 - 1e-9)
