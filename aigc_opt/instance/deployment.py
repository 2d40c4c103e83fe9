"""Instances of the deployment problem: which models are stored and loaded at which server in which slot."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np

from aigc_opt.errors import Fault
from aigc_opt.instance.base import Instance, length, listed, repeated_names
from aigc_opt.instance.fields import Array, Name, NonNegative, Positive, Record, Sizes, array_field, describe, list_of
from aigc_opt.instance.profile import DeploymentModel


class Server(Record):
    """An edge server.

    Attributes
    ----------
    storage_gb, gpu_memory_gb : float
        Capacities, 10^9 bytes.
    cloud_gbps, io_gb_per_s : float
        Rate from the cloud (10^9 bit/s) and from disk to GPU (10^9 bytes/s).
    gpu_s, energy_j : float or None
        GPU-seconds of generation and joules per slot; None = no limit.

    """

    name: Name
    storage_gb: NonNegative
    gpu_memory_gb: NonNegative
    cloud_gbps: Positive
    io_gb_per_s: Positive
    gpu_s: NonNegative | None = None
    energy_j: NonNegative | None = None


class DeploymentWeights(Record):
    """Weights of the four terms of the objective."""

    delay: NonNegative = 1.0
    switching: NonNegative = 1.0
    storage: NonNegative = 1.0
    gpu_memory: NonNegative = 1.0


class InitialState(Record):
    """What is on disk and in GPU memory before the first slot; arrays [E, M] of 0 and 1."""

    stored: Annotated[Array, array_field("E", "M", binary=True)]
    loaded: Annotated[Array, array_field("E", "M", binary=True)]


class DeploymentInstance(Instance):
    """Edge servers, models and arrivals over slots.

    Attributes
    ----------
    cloud_delay_s : ndarray, shape (M,)
        Whole delay of a request served by the cloud, s.
    peer_delay_s : ndarray, shape (E, E), or None
        Extra delay of serving at server j a request that arrived at server i, s; NaN = no sharing; None = none at all.
    arrivals : ndarray, shape (T, E, M)
        Requests of each model that arrive at each server in each slot.
    initial : InitialState or None
        State before the first slot; None = nothing stored.

    """

    problem: Literal["deployment"]
    models: Annotated[tuple[DeploymentModel, ...], list_of(DeploymentModel)]
    slot_s: NonNegative = 300.0
    servers: Annotated[tuple[Server, ...], list_of(Server)]
    cloud_delay_s: Annotated[Array, array_field("M", minimum=0)]
    peer_delay_s: Annotated[Array, array_field("E", "E", minimum=0, null=True)] | None = None
    arrivals: Annotated[Array, array_field("T", "E", "M", minimum=0)]
    initial: InitialState | None = None
    weights: DeploymentWeights = DeploymentWeights()

    @classmethod
    def _sizes(cls, data: dict[str, Any]) -> Sizes:
        return {"E": length(data.get("servers")), "M": length(data.get("models"))}

    @classmethod
    def _cross_faults(cls, data: dict[str, Any]) -> Iterator[Fault]:
        yield from repeated_names(data, "models")
        yield from repeated_names(data, "servers")
        yield from _diagonal_faults(data.get("peer_delay_s"))
        yield from _initial_faults(data.get("initial"))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of slots T, servers E and models M."""
        return self.arrivals.shape

    @cached_property
    def shares(self) -> np.ndarray:
        """Whether requests that arrive at i may be served at j, shape (E, E) of bool; i always serves its own."""
        servers = len(self.servers)
        if self.peer_delay_s is None:
            return np.eye(servers, dtype=bool)
        return ~np.isnan(self.peer_delay_s)

    @cached_property
    def initial_stored(self) -> np.ndarray:
        """Stored before the first slot, shape (E, M) of 0 and 1."""
        return self.initial.stored if self.initial else np.zeros(self.shape[1:], dtype=np.int64)

    @cached_property
    def initial_loaded(self) -> np.ndarray:
        """Loaded before the first slot, shape (E, M) of 0 and 1."""
        return self.initial.loaded if self.initial else np.zeros(self.shape[1:], dtype=np.int64)


def _diagonal_faults(peer_delay: Any) -> Iterator[Fault]:
    for index, row in enumerate(listed(peer_delay)):
        entries = listed(row)
        if index < len(entries) and (isinstance(entries[index], bool) or entries[index] != 0):
            got = describe(entries[index])
            yield Fault(f"peer_delay_s[{index}][{index}]", f"must be 0 (a server shares with itself), got {got}")


def _initial_faults(initial: Any) -> Iterator[Fault]:
    if not isinstance(initial, dict):
        return
    pairs = zip(listed(initial.get("stored")), listed(initial.get("loaded")), strict=False)
    for j, (stored, loaded) in enumerate(pairs):
        for m, (on_disk, in_memory) in enumerate(zip(listed(stored), listed(loaded), strict=False)):
            if in_memory == 1 and on_disk == 0:
                yield Fault(f"initial.loaded[{j}][{m}]", "is 1, but the model is not stored there")
