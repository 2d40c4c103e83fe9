"""One deployment instance as it is decided, slot by slot: placements are decided, their routing is optimal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aigc_opt.envs.station import definite
from aigc_opt.instance.deployment import DeploymentInstance, InitialState
from aigc_opt.problems.deployment.check import check
from aigc_opt.problems.deployment.costs import Costs
from aigc_opt.problems.deployment.routing import best_routing
from aigc_opt.problems.deployment.solution import DeploymentSolution

MOST = 50.0
"""Observations are clipped to it."""


@dataclass(frozen=True, eq=False)
class DeploymentView:
    """What is known when a slot's placement is chosen: the slot's own arrivals, and all earlier ones.

    Attributes
    ----------
    slot, slots : int
        From 0, of so many.
    stored, loaded : ndarray of int, shape (E, M)
        The placement before.
    arrivals : ndarray, shape (E, M)
    past : ndarray, shape (t, E, M)
    costs : Costs
        Weighted costs, sizes and capacities.

    """

    slot: int
    slots: int
    stored: np.ndarray
    loaded: np.ndarray
    arrivals: np.ndarray
    past: np.ndarray
    costs: Costs

    def vector(self) -> np.ndarray:
        """Return slot / T, stored, loaded, and ln(1 + arrivals), each server by server; shape (1 + 3 E M,), float32."""
        parts = [[self.slot / self.slots], self.stored.ravel(), self.loaded.ravel(), np.log1p(self.arrivals).ravel()]
        return np.clip(np.concatenate(parts), 0.0, MOST).astype(np.float32)


class DeploymentRollout:
    """A deployment instance on its way. Costs are shares of the objective, by the checker, a slot at a time.

    Actions are 2 E M scores, of loading and of storing, server by server. Models with a positive score of loading are
    loaded, highest first, as far as they fit disk, GPU memory and the energy of loads; they are stored too, and what
    disk is left goes to positive scores of storing, highest first.
    """

    def __init__(self, instance: DeploymentInstance, strict: bool = False):
        self.instance, self.strict, self.costs = instance, strict, Costs.of(instance)
        self.slots, self.servers, self.models = instance.shape
        self.slot = 0
        self.stored_now, self.loaded_now = instance.initial_stored.copy(), instance.initial_loaded.copy()
        self.stored, self.loaded = np.zeros(instance.shape, np.int64), np.zeros(instance.shape, np.int64)
        self.routing = np.zeros((*instance.shape, self.servers + 1))
        self.routing[..., -1] = 1.0
        self.observation_size, self.action_size = 1 + 3 * self.servers * self.models, 2 * self.servers * self.models

    @property
    def over(self) -> bool:
        """Whether all slots are decided."""
        return self.slot == self.slots

    def view(self) -> DeploymentView:
        """Return what is known in this slot."""
        past = self.instance.arrivals[: self.slot].copy()
        now = self.instance.arrivals[self.slot].copy()
        return DeploymentView(
            self.slot, self.slots, self.stored_now.copy(), self.loaded_now.copy(), now, past, self.costs
        )

    def act(self, action: np.ndarray) -> float:
        """Place what an action's scores say; return what the slot costs."""
        scores = definite(action).reshape(2, self.servers, self.models)
        if self.strict:
            return self.place(scores[1] > 0, scores[0] > 0)
        stored, loaded = np.zeros(scores.shape[1:], np.int64), np.zeros(scores.shape[1:], np.int64)
        for j in range(self.servers):
            disk, memory, energy = (
                x[j] for x in (self.costs.storage_gb, self.costs.gpu_memory_gb, self.costs.energy_j)
            )
            for m in np.argsort(-scores[0, j], kind="stable"):
                needs = 0.0 if self.loaded_now[j, m] else self.costs.load_j[m]
                size, held = self.costs.size_gb[m], self.costs.memory_gb[m]
                if scores[0, j, m] > 0 and size <= disk and held <= memory and needs <= energy:
                    loaded[j, m] = stored[j, m] = 1
                    disk, memory, energy = disk - size, memory - held, energy - needs
            for m in np.argsort(-scores[1, j], kind="stable"):
                if scores[1, j, m] > 0 and not stored[j, m] and self.costs.size_gb[m] <= disk:
                    stored[j, m] = 1
                    disk -= self.costs.size_gb[m]
        return self.place(stored, loaded)

    def place(self, stored: np.ndarray, loaded: np.ndarray) -> float:
        """Set the slot's placement as it is, route optimally, go to the next slot; return what the slot costs."""
        t = self.slot
        data = {name: getattr(self.instance, name) for name in type(self.instance).model_fields}
        before = InitialState.model_construct(stored=self.stored_now, loaded=self.loaded_now)
        one = DeploymentInstance.model_construct(
            **{**data, "arrivals": self.instance.arrivals[t : t + 1], "initial": before}
        )
        self.stored_now, self.loaded_now = np.asarray(stored).astype(np.int64), np.asarray(loaded).astype(np.int64)
        routing = best_routing(one, self.costs, self.loaded_now[None])
        if routing is not None:  # else its loads take more energy than there is, which the checker refuses
            self.routing[t] = routing[0]
        self.stored[t], self.loaded[t] = self.stored_now, self.loaded_now
        self.slot += 1
        part = DeploymentSolution(self.stored[t : t + 1], self.loaded[t : t + 1], self.routing[t : t + 1])
        cost = check(one, part).objective
        assert cost is not None  # what was routed here may serve
        return cost

    def solution(self) -> DeploymentSolution:
        """Return all decisions so far, for the checker."""
        return DeploymentSolution(self.stored, self.loaded, self.routing)

    def actions_of(self, solution: DeploymentSolution) -> list[np.ndarray]:
        """Return the T actions that mean a solution's placement."""
        pairs = zip(np.round(solution.loaded), np.round(solution.stored), strict=True)
        return [np.concatenate([2.0 * loaded.ravel() - 1.0, 2.0 * stored.ravel() - 1.0]) for loaded, stored in pairs]
