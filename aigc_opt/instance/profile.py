"""A generative model's profile: sizes, latency, energy, workload and its quality curve."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, ValidationInfo, field_validator

from aigc_opt.instance.fields import (
    FAULTS_PER_ARRAY,
    Array,
    Name,
    NonNegative,
    Positive,
    Real,
    Record,
    Text,
    array_field,
    fault,
    faults_at,
)


class Latency(Record):
    """Time of a generation of s denoising steps: ``base_s + per_step_s * s`` seconds."""

    base_s: NonNegative
    per_step_s: NonNegative


class Energy(Record):
    """Energy of a generation of s denoising steps: ``base_j + per_step_j * s`` joules."""

    base_j: NonNegative = 0.0
    per_step_j: NonNegative = 0.0


class Workload(Record):
    """Computation of a generation of s denoising steps: ``base_gcycles + per_step_gcycles * s``, 10^9 cycles."""

    base_gcycles: NonNegative
    per_step_gcycles: NonNegative


class PiecewiseLinear(Record):
    """Quality loss linear between `points` ``[[s1, q1], ...]`` and constant outside them; need not be convex."""

    kind: Literal["piecewise_linear"]
    points: Annotated[Array, array_field("P", "2")]

    @field_validator("points")
    @classmethod
    def _falls(cls, points: np.ndarray) -> np.ndarray:
        found = []
        steps, loss = points.T
        for index in np.flatnonzero(steps < 0):
            found.append(((int(index), 0), f"must be >= 0, got {steps[index]:g}"))
        for index in np.flatnonzero(np.diff(steps) <= 0) + 1:
            message = f"must be above the step before it ({steps[index - 1]:g}), got {steps[index]:g}"
            found.append(((int(index), 0), message))
        for index in np.flatnonzero(np.diff(loss) > 0) + 1:
            message = f"a quality loss may not rise with more steps, got {loss[index - 1]:g} then {loss[index]:g}"
            found.append(((int(index), 1), message))
        if found:
            raise faults_at("quality", found[:FAULTS_PER_ARRAY])
        return points

    def value(self, steps: np.ndarray | float) -> np.ndarray:
        """Quality loss at `steps` (any shape)."""
        return np.interp(steps, self.points[:, 0], self.points[:, 1])


class Exponential(Record):
    """Quality loss ``floor + (ceiling - floor) exp(-s / scale)``."""

    kind: Literal["exponential"]
    floor: Real
    ceiling: Real
    scale: Positive

    @field_validator("ceiling")
    @classmethod
    def _falls(cls, ceiling: float, info: ValidationInfo) -> float:
        floor = info.data.get("floor")
        if floor is not None and ceiling < floor:
            raise fault(f"must be >= floor ({floor:g}), got {ceiling:g}: a quality loss may not rise")
        return ceiling

    def value(self, steps: np.ndarray | float) -> np.ndarray:
        """Quality loss at `steps` (any shape)."""
        return self.floor + (self.ceiling - self.floor) * np.exp(-np.asarray(steps, float) / self.scale)


class Power(Record):
    """Quality loss ``floor + coefficient * s^(-exponent)``, for s >= 1."""

    kind: Literal["power"]
    floor: Real
    coefficient: Positive
    exponent: Positive

    def value(self, steps: np.ndarray | float) -> np.ndarray:
        """Quality loss at `steps` (any shape, each >= 1)."""
        return self.floor + self.coefficient * np.asarray(steps, float) ** -self.exponent


Quality = Annotated[PiecewiseLinear | Exponential | Power, Field(discriminator="kind")]


class ModelProfile(Record):
    """A generative model. Which fields must be there depends on the problem; each problem's class below says so.

    Attributes
    ----------
    storage_gb, gpu_memory_gb : float or None
        Size on disk, and in GPU memory once loaded, 10^9 bytes.
    warmup_s, load_j : float
        Fixed start-up time (s) and energy (J) of a load, beyond the copy.
    nominal_steps : float or None
        Denoising steps of an ordinary request, where steps are not decided.

    """

    # A field that the problem does not read may be left out (None), but a null in the file is an error:
    # pydantic does not check defaults, so the types stay without None.
    name: Name
    storage_gb: Positive = None  # type: ignore[assignment]
    gpu_memory_gb: Positive = None  # type: ignore[assignment]
    warmup_s: NonNegative = 0.0
    load_j: NonNegative = 0.0
    nominal_steps: NonNegative = None  # type: ignore[assignment]
    latency: Latency = None  # type: ignore[assignment]
    energy: Energy = Energy()
    workload: Workload = None  # type: ignore[assignment]
    quality: Quality = None  # type: ignore[assignment]
    source: Text = ""


class DeploymentModel(ModelProfile):
    """What the deployment problem reads of a model."""

    storage_gb: Positive
    gpu_memory_gb: Positive
    nominal_steps: NonNegative
    latency: Latency


class OffloadingModel(ModelProfile):
    """What the offloading problem reads of a model."""

    workload: Workload
    quality: Quality


class TwoTimescaleModel(ModelProfile):
    """What the two-timescale problem reads of a model."""

    storage_gb: Positive
    gpu_memory_gb: Positive
    latency: Latency
    quality: Quality
