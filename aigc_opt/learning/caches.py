"""The action set of the Q-network: which caches it chooses among, beyond 2^M too.

With at most `ALL` feasible caches the set is all of them. With more it is a pool of `POOL` caches, packed in random
orders (half of them drawn by popularity), half of them up to a random fill; targets are maxima over the pool, and
whoever acts greedily goes on from the pool's best by putting a model in, taking one out or exchanging two as long as
the network's value rises.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from aigc_opt.envs.station import Station
from aigc_opt.learning.networks import CacheValue
from aigc_opt.problems.two_timescale.enumeration import feasible_caches
from aigc_opt.problems.two_timescale.search import flips_of, packed

ALL = 4096
"""Up to this many feasible caches all of them are the set."""

POOL = 2048
CLIMBS = 20
"""Most exchanges on the way up from the pool's best."""


class CacheSet:
    """Caches to choose from.

    Attributes
    ----------
    caches : ndarray of bool, shape (C, M)
    complete : bool
        Whether these are all feasible ones.

    """

    def __init__(self, station: Station):
        e = station.template
        self.size_gb, self.storage_gb = e.size_gb, e.storage_gb
        if not station.safe:  # no cache can be promised to leave steps enough
            self.caches, self.complete = np.zeros((1, station.models), bool), True
        else:
            every = feasible_caches(e, ALL)
            self.complete = every is not None
            self.caches = _pool(station) if every is None else np.asarray(every, bool)
        self.bits = torch.as_tensor(self.caches, dtype=torch.float32)
        self._flips = flips_of(station.models)[2]

    def __len__(self) -> int:
        return len(self.caches)

    @torch.no_grad()
    def best(self, network: CacheValue, observation: Tensor) -> np.ndarray:
        """Return the caches (n, M) of the largest values found."""
        chosen = self.caches[network.table(observation, self.bits).argmax(1).numpy()]
        return chosen if self.complete else self._climbed(network, observation, chosen.copy())

    def _climbed(self, network: CacheValue, observation: Tensor, chosen: np.ndarray) -> np.ndarray:
        for k in range(len(chosen)):
            of_state = network.state(observation[k : k + 1])
            value = float((of_state[:, 1:] * network.cache(_bits(chosen[k : k + 1]))).sum())
            for _ in range(CLIMBS):
                near = chosen[k] ^ self._flips
                near = near[near @ self.size_gb <= self.storage_gb]
                values = (network.cache(_bits(near)) @ of_state[0, 1:]).numpy()
                best = int(values.argmax())
                if values[best] <= value + 1e-6 * abs(value):
                    break
                chosen[k], value = near[best], float(values[best])
        return chosen


def _bits(caches: np.ndarray) -> Tensor:
    return torch.as_tensor(caches, dtype=torch.float32)


def _pool(station: Station) -> np.ndarray:
    e, random = station.template, np.random.default_rng(0)
    popular = np.full(station.models, 1.0 / station.models)
    if station.process is not None:
        weight = (1.0 + np.arange(station.models)) ** -station.process.zipf_exponents[:, None]
        popular = 0.1 * popular + 0.9 * (weight / weight.sum(axis=1, keepdims=True)).mean(axis=0)
    everything = np.ones(station.models, bool)
    pool = np.zeros((POOL, station.models), bool)  # the first one stays empty
    for k in range(1, POOL):
        order = random.choice(station.models, station.models, replace=False, p=popular if k % 2 else None)
        pool[k] = packed(order, everything, e, random.uniform(0.3, 1.0) if k % 4 > 1 else 1.0)
    return np.unique(pool, axis=0)
