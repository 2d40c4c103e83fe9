"""One episode as flat arrays: what the solving modules work on, computed once from an instance.

Inside the solving modules costs are in the *sum scale*: the objective times T K, a plain sum over slots, in which a
switch weighs K times its cost. `Episode.scale` turns sums into objectives.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from aigc_opt.errors import InputError
from aigc_opt.instance.two_timescale import TwoTimescaleInstance
from aigc_opt.problems.two_timescale.curves import Curves

ROUNDING = 1e-9
"""Sizes that fill the storage to the last digit must fit in whatever order they are added up or taken off, or a bound
would leave out a cache that a point has. A thousandth of what the checker tolerates."""


@dataclass(frozen=True, eq=False)
class Episode:
    """Arrays of one episode of N = T K slots in time order.

    Attributes
    ----------
    frames, slots, users, models : int
        T, K, U, M.
    model : ndarray of int64, shape (N, U)
        Index of the requested model, -1 = no request.
    uplink_mbit, downlink_mbit : ndarray, shape (N, U)
        Sizes of the transfers, 0 = none.
    uplink_gain, downlink_gain : ndarray, shape (N, U)
        Channel power gains, linear.
    cloud : ndarray, shape (N, U)
        Weighted cost of serving a request in the cloud: backhaul, generation and loss, without the transfers, which
        cost the same wherever a request is served.
    size_gb : ndarray, shape (M,)
    storage_gb : float
        A `ROUNDING` larger than the file says.
    steps_per_slot, min_steps : float
    serve_all_hits : bool
    switch : ndarray, shape (M,)
        Cost of one switch in the sum scale.
    initial : ndarray of bool, shape (M,)
    curves : Curves
        Weighted cost of a request at the edge as a function of its steps.
    user_power_w : ndarray, shape (U,)
    power_w, uplink_hz, downlink_hz, noise_w_per_hz, weight_delay : float

    """

    frames: int
    slots: int
    users: int
    models: int
    model: np.ndarray
    uplink_mbit: np.ndarray
    downlink_mbit: np.ndarray
    uplink_gain: np.ndarray
    downlink_gain: np.ndarray
    cloud: np.ndarray
    size_gb: np.ndarray
    storage_gb: float
    steps_per_slot: float
    min_steps: float
    serve_all_hits: bool
    switch: np.ndarray
    initial: np.ndarray
    curves: Curves
    user_power_w: np.ndarray
    power_w: float
    uplink_hz: float
    downlink_hz: float
    noise_w_per_hz: float
    weight_delay: float

    @property
    def scale(self) -> float:
        """Factor from sums to the objective."""
        return 1.0 / (self.frames * self.slots)

    @property
    def switches(self) -> bool:
        """Whether frames are coupled by a cost of switching."""
        return bool((self.switch > 0).any())

    def part(self, first: int, last: int) -> Episode:
        """Return the episode of frames `first` to `last - 1` alone."""
        rows = slice(first * self.slots, last * self.slots)
        names = ("model", "uplink_mbit", "downlink_mbit", "uplink_gain", "downlink_gain", "cloud")
        return replace(self, frames=last - first, **{name: getattr(self, name)[rows] for name in names})

    @property
    def unit(self) -> float:
        """A power of two: about a thousandth of what a slot, or a switch, costs at most; 1 where nothing costs.

        Switches dearer than all slots together count as these, because they hardly pay and the digits of slots matter,
        but none is more than 10^9 units, beyond which HiGHS goes wrong.
        """
        edge = abs(self.curves.vertex_cost).max(axis=1)[np.maximum(self.model, 0)]
        slot = np.where(self.model >= 0, np.maximum(abs(self.cloud), edge), 0.0).sum(axis=1)
        switch = float(self.switch.max())
        dearest = max(float(slot.max()), min(switch, float(slot.sum())), 1e-6 * switch)
        return 2.0 ** round(math.log2(dearest / 1e3)) if dearest > 0 else 1.0

    def in_unit(self, unit: float) -> Episode:
        """Return the episode with its costs in a unit that is a power of two, so that no digit is lost."""
        return replace(
            self, cloud=self.cloud / unit, switch=self.switch / unit, weight_delay=self.weight_delay / unit,
            curves=self.curves.in_unit(unit),
        )  # fmt: skip

    @classmethod
    def of(cls, instance: TwoTimescaleInstance) -> Episode:
        """Compute the arrays of an instance that has requests.

        Raises
        ------
        InputError
            If the instance's numbers are so large that the objective or a signal-to-noise ratio would overflow.

        """
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            episode = cls._of(instance)
            strongest = {
                "uplink_gain": np.max(episode.user_power_w, initial=0.0) * episode.uplink_gain.max(initial=0.0),
                "downlink_gain": episode.power_w * episode.downlink_gain.max(initial=0.0),
            }
            noise = episode.noise_w_per_hz * np.array([episode.uplink_hz, episode.downlink_hz])
            ratios = np.array(list(strongest.values())) / noise
            dearest = episode.cloud.sum() + episode.model.size * abs(episode.curves.vertex_cost).max()
            most = dearest + episode.frames * episode.switch.sum()
        if not most < 1e250:
            words = "its numbers are so large that the objective would overflow; choose other units"
            raise InputError(instance.name, [words])
        for name, ratio in zip(strongest, ratios, strict=True):
            if not ratio < 1e250:
                words = "signal over noise in the whole band must be at most 1e250; choose a smaller gain or power"
                raise InputError(instance.name, [f"requests.{name}: {words}"])
        return episode

    @classmethod
    def _of(cls, instance: TwoTimescaleInstance) -> Episode:
        requests, edge, cloud, weights = instance.requests, instance.edge, instance.cloud, instance.weights
        frames, slots, users = requests.model.shape
        flat = (frames * slots, users)
        model = requests.model.reshape(flat)
        asked = model >= 0

        def given(values: np.ndarray, otherwise: float) -> np.ndarray:
            return np.where(asked, values.reshape(flat), otherwise)

        uplink, downlink = given(requests.input_mbit, 0.0), given(requests.output_mbit, 0.0)
        loss = np.array([float(profile.quality.value(np.array(cloud.steps))) for profile in instance.models])
        away_s = (
            (uplink + downlink) / edge.backhaul_mbps + cloud.latency.base_s + cloud.latency.per_step_s * cloud.steps
        )
        size = np.array([profile.storage_gb for profile in instance.models])
        memory = np.array([profile.gpu_memory_gb for profile in instance.models])
        warmup = np.array([profile.warmup_s for profile in instance.models])
        switch_s = 8.0 * size / edge.cloud_gbps + memory / edge.io_gb_per_s + warmup
        initial = np.zeros(len(size), bool) if instance.initial_cache is None else instance.initial_cache.astype(bool)
        return cls(
            frames=frames, slots=slots, users=users, models=len(size),
            model=model, uplink_mbit=uplink, downlink_mbit=downlink,
            uplink_gain=given(requests.uplink_gain, 1.0), downlink_gain=given(requests.downlink_gain, 1.0),
            cloud=np.where(asked, weights.delay * away_s + weights.quality * loss[np.maximum(model, 0)], 0.0),
            size_gb=size, storage_gb=edge.storage_gb * (1 + ROUNDING),
            steps_per_slot=edge.steps_per_slot, min_steps=edge.min_steps,
            serve_all_hits=instance.serve_all_hits, switch=slots * weights.switching * switch_s, initial=initial,
            curves=Curves.of(instance), user_power_w=instance.user_power_w, power_w=edge.power_w,
            uplink_hz=1e6 * edge.uplink_mhz, downlink_hz=1e6 * edge.downlink_mhz,
            noise_w_per_hz=10.0 ** ((edge.noise_dbm_per_hz - 30.0) / 10.0), weight_delay=weights.delay,
        )  # fmt: skip
