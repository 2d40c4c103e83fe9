"""Policies that somebody could bring, for the tests."""

from __future__ import annotations

import sys

import numpy as np

import aigc_opt
from aigc_opt.instance.sample import draw_requests
from aigc_opt.policies.two_timescale import equal_grants


def nothing(view):
    return np.zeros(view.station.models)


def everything(view):
    return np.ones(view.station.models)


def wrong_shape(view):
    return np.ones(3)


def fails(view):
    raise ZeroDivisionError("by accident")


def undefined(view):
    return np.full(view.station.models, np.nan)


def undefined_placement(view):
    return np.full(view.stored.shape, np.nan), np.ones(view.stored.shape)


def leaves(view):
    sys.exit(3)


class Stationless:
    def __init__(self):
        pass

    def cache(self, view):
        return np.ones(view.station.models)


class Unmade:
    def __init__(self, *station):
        raise ZeroDivisionError("by accident")


class Equal:
    """Equal shares with the popular cache."""

    def __init__(self, station):
        self.station = station

    def allocate(self, view):
        grants = equal_grants(view.station, view.now, view.cache[None])
        return {name: getattr(grants, name)[0] for name in grants.__dataclass_fields__}


class Undefined(Equal):
    """Steps that are no numbers."""

    def allocate(self, view):
        grants = super().allocate(view)
        return grants | {"steps": np.nan * grants["steps"]}


class Chance:
    """Random caches, from its own generator and from the common one: a number more or less changes all that follow."""

    def __init__(self, *station):
        self.own = np.random.default_rng(5)

    def cache(self, view):
        return self.own.random(view.station.models) - np.random.random(view.station.models)  # noqa: NPY002


class FailsInASlot(Equal):
    def allocate(self, view):
        raise ZeroDivisionError("by accident")


class Clairvoyant:
    """Draws the episodes of seeds 0, 1, ... again, which nobody told it, and caches what each frame will ask for."""

    def __init__(self, station):
        self.station, self.seed = station, Clairvoyant.started
        Clairvoyant.started += 1
        drawn = draw_requests(station.process, station.users, station.models, max(self.seed, 0))
        self.slots = station.slots_of(drawn)
        self.caches = None

    started = -2  # made twice before the first episode, to see whether it is one

    def cache(self, view):
        if self.caches is None:
            process = self.station.process
            shape = (process.frames, process.slots, self.station.users)
            if len(view.past.model):
                assert np.array_equal(view.past.model, self.slots.model[: len(view.past.model)])
            self.caches = self.solve(shape)
        return self.caches[view.frame]

    def solve(self, shape):
        instance = aigc_opt.load(Clairvoyant.path)
        return np.round(aigc_opt.solve(aigc_opt.sample(instance, max(self.seed, 0))).solution.cached)

    path = None


def most_asked(view):
    """Deployment: load what is asked for."""
    return np.concatenate([np.sign(view.arrivals).ravel(), -np.ones(view.arrivals.size)])


def too_much(view):
    return np.ones_like(view.stored), np.ones_like(view.loaded)


def at_home(view):
    """Offloading: on the own device, most steps."""
    return "local", float(view.grid[-1])
