"""Coefficients of the deployment program that both the arrays and the methods read, computed once from an instance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from aigc_opt.control import require_memory
from aigc_opt.errors import InputError
from aigc_opt.instance.deployment import DeploymentInstance, Server
from aigc_opt.instance.profile import DeploymentModel

ROUTINGS = 4
"""Routings [T, E, M, E + 1] in memory at once: the best one, a new one, one in the checker, shares of the prices."""


@dataclass(frozen=True)
class Costs:
    """Weighted costs and resource uses of a deployment instance.

    Attributes
    ----------
    serve : ndarray, shape (E, M, E + 1)
        Weighted delay of one request that arrives at i, by the server that serves it; last = cloud; inf = not shared.
    fetch, load : ndarray, shape (E, M)
        Weighted time of copying a model from the cloud to disk, and from disk to GPU memory with its start-up.
    hold_stored, hold_loaded : ndarray, shape (E, M)
        Weighted cost of a slot on disk and in GPU memory, as shares of the server's capacity.
    work_s, work_j : ndarray, shape (M,)
        GPU-seconds and joules of one request.
    load_j : ndarray, shape (M,)
        Joules of one load.
    size_gb, memory_gb : ndarray, shape (M,)
        Sizes of the models.
    storage_gb, gpu_memory_gb, gpu_s, energy_j : ndarray, shape (E,)
        Capacities of the servers; inf = no limit.

    """

    serve: np.ndarray
    fetch: np.ndarray
    load: np.ndarray
    hold_stored: np.ndarray
    hold_loaded: np.ndarray
    work_s: np.ndarray
    work_j: np.ndarray
    load_j: np.ndarray
    size_gb: np.ndarray
    memory_gb: np.ndarray
    storage_gb: np.ndarray
    gpu_memory_gb: np.ndarray
    gpu_s: np.ndarray
    energy_j: np.ndarray

    @classmethod
    def of(cls, instance: DeploymentInstance) -> Costs:
        """Compute the coefficients of an instance.

        Raises
        ------
        InputError
            If the instance's numbers are so large that the objective would overflow, or the routings that every method
            compares do not fit into memory.

        """
        slots, servers, models = instance.shape
        routing = 8.0 * slots * servers * models * (servers + 1)
        require_memory(instance.name, "the routing of its requests", ROUTINGS * routing)
        with np.errstate(over="ignore", invalid="ignore"):
            costs = cls._of(instance)
            dearest = np.where(np.isfinite(costs.serve), costs.serve, 0.0).max(axis=2)
            each_slot = costs.fetch + costs.load + costs.hold_stored + costs.hold_loaded
            most = (instance.arrivals * dearest).sum() + len(instance.arrivals) * each_slot.sum()
            work = (instance.arrivals * np.maximum(costs.work_s, costs.work_j)).sum()
        if not (np.isfinite(costs.serve[:, :, -1]).all() and most < 1e300 and work < 1e300):
            words = "its numbers are so large that the objective would overflow; choose other units"
            raise InputError(instance.name, [words])
        return costs

    @classmethod
    def _of(cls, instance: DeploymentInstance) -> Costs:
        models, servers, weights = instance.models, instance.servers, instance.weights

        def of_models(value: Callable[[DeploymentModel], float]) -> np.ndarray:
            return np.array([value(model) for model in models], dtype=float)

        def of_servers(value: Callable[[Server], float | None]) -> np.ndarray:
            return np.array([np.inf if value(server) is None else value(server) for server in servers], dtype=float)

        size_gb = of_models(lambda model: model.storage_gb)
        memory_gb = of_models(lambda model: model.gpu_memory_gb)
        work_s = of_models(lambda model: model.latency.base_s + model.latency.per_step_s * model.nominal_steps)
        storage_gb = of_servers(lambda server: server.storage_gb)
        gpu_memory_gb = of_servers(lambda server: server.gpu_memory_gb)
        cloud_gbps = of_servers(lambda server: server.cloud_gbps)
        io_gb_per_s = of_servers(lambda server: server.io_gb_per_s)
        warmup_s = of_models(lambda model: model.warmup_s)

        peer = np.zeros((len(servers), len(servers))) if instance.peer_delay_s is None else instance.peer_delay_s
        peer = np.where(instance.shares, peer, np.inf)
        at_edge = peer[:, None, :] + work_s[None, :, None]
        at_cloud = np.broadcast_to(instance.cloud_delay_s[None, :, None], (len(servers), len(models), 1))
        with np.errstate(invalid="ignore"):
            serve = weights.delay * np.concatenate([at_edge, at_cloud], axis=2)
        serve[~np.isfinite(np.concatenate([at_edge, at_cloud], axis=2))] = np.inf

        def share(size: np.ndarray, capacity: np.ndarray) -> np.ndarray:
            return size[None, :] / np.where(capacity > 0, capacity, np.inf)[:, None]

        return cls(
            serve=serve,
            fetch=weights.switching * 8 * size_gb[None, :] / cloud_gbps[:, None],
            load=weights.switching * (memory_gb[None, :] / io_gb_per_s[:, None] + warmup_s[None, :]),
            hold_stored=weights.storage * share(size_gb, storage_gb),
            hold_loaded=weights.gpu_memory * share(memory_gb, gpu_memory_gb),
            work_s=work_s,
            work_j=of_models(lambda model: model.energy.base_j + model.energy.per_step_j * model.nominal_steps),
            load_j=of_models(lambda model: model.load_j),
            size_gb=size_gb,
            memory_gb=memory_gb,
            storage_gb=storage_gb,
            gpu_memory_gb=gpu_memory_gb,
            gpu_s=of_servers(lambda server: server.gpu_s),
            energy_j=of_servers(lambda server: server.energy_j),
        )
