"""A model's profile from measurements: a curve of quality loss, affine latency and energy, and how good they are."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from aigc_opt.errors import InputError
from aigc_opt.instance.curve_fits import FITTERS, Samples, fit_line
from aigc_opt.instance.files import dump_json, write_text
from aigc_opt.instance.measurements import Measurements, read_measurements
from aigc_opt.instance.profile import Energy, Exponential, Latency, PiecewiseLinear, Quality

KINDS = ("piecewise_linear", "exponential", "power")

POOR_R2 = 0.9
"""Below this R^2 a fit is said to be poor."""

POOR_MISS = 0.1
"""A curve that misses the mean at a step count by more than this share of the means' range is said to be poor there."""

LARGEST = 1e100
"""Larger numbers are refused: their squares would overflow."""


@dataclass(frozen=True, eq=False)
class Fit:
    """Curves of one model, ready to stand in an instance, and how well they describe the measurements.

    Attributes
    ----------
    quality : PiecewiseLinear, Exponential or Power
    latency : Latency
    energy : Energy or None
    n, step_counts : int
        Samples, and distinct step counts among them.
    steps : tuple of float
        Fewest and most steps measured.
    r2 : dict
        Coefficient of determination over all samples: ``quality``, ``latency`` and, where measured, ``energy``.
    bic : dict
        Bayesian information criterion of every kind of curve that was tried; the least one is taken.
    warnings : tuple of str

    """

    quality: Quality
    latency: Latency
    energy: Energy | None
    n: int
    step_counts: int
    steps: tuple[float, float]
    r2: dict[str, float]
    bic: dict[str, float]
    warnings: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object: ``quality``, ``latency``, ``energy`` as in a model, and ``fit``."""
        return {
            "quality": self.quality.model_dump(mode="json"),
            "latency": self.latency.model_dump(mode="json"),
            "energy": None if self.energy is None else self.energy.model_dump(mode="json"),
            "fit": {
                "r2": self.r2,
                "n": self.n,
                "step_counts": self.step_counts,
                "steps": list(self.steps),
                "criterion": "BIC",
                "bic": self.bic,
                "warnings": list(self.warnings),
            },
        }

    def summary(self) -> str:
        """Return what a person wants to know of the fit."""
        latency, energy = self.latency, self.energy
        lines = [
            f"{self.n} samples at {self.step_counts} step counts from {self.steps[0]:g} to {self.steps[1]:g}",
            f"  quality  R^2 {self.r2['quality']:.4f}  {_formula(self.quality)}",
            f"  latency  R^2 {self.r2['latency']:.4f}  {latency.base_s:g} + {latency.per_step_s:g} s seconds",
        ]
        if energy is not None:
            lines.append(f"  energy   R^2 {self.r2['energy']:.4f}  {energy.base_j:g} + {energy.per_step_j:g} s joules")
        if len(self.bic) > 1:
            lines.append(f"  BIC      {', '.join(f'{kind} {bic:.1f}' for kind, bic in self.bic.items())}")
        return "\n".join(lines)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the profile as JSON.

        Raises
        ------
        InputError
            If the file cannot be written there.

        """
        write_text(path, dump_json(self.to_dict()))


def fit(measurements: Measurements | str | os.PathLike[str], quality: str = "auto", origin: str | None = None) -> Fit:
    """Fit a model's profile to measurements.

    Parameters
    ----------
    measurements : Measurements or path
        Or the CSV file that holds them.
    quality : str
        ``piecewise_linear`` (breakpoints and their number are found), ``exponential``, ``power``, or ``auto``: of these
        three the one with the least Bayesian information criterion ``n ln(SSE / n) + k ln n``, k free parameters, among
        of which there are step counts enough; of equals the first one.
    origin : str, optional
        Where the measurements come from, for errors.

    Raises
    ------
    InputError
        If the file has faults, or the measurements do not suffice for the curve asked for.

    """
    origin = origin or ("measurements" if isinstance(measurements, Measurements) else str(measurements))
    if quality not in ("auto", *KINDS):
        raise InputError(origin, [f"--quality must be one of auto, {', '.join(KINDS)}, got {quality!r}"])
    data = measurements if isinstance(measurements, Measurements) else read_measurements(measurements)
    columns = [
        values for values in (data.steps, data.quality_loss, data.latency_s, data.energy_j) if values is not None
    ]
    if max(abs(values).max() for values in columns) > 1e100:
        raise InputError(origin, [f"has numbers beyond {LARGEST:g}; choose other units"])
    samples = Samples(data.steps, data.quality_loss)
    kinds = KINDS if quality == "auto" else (quality,)
    tried: dict[str, tuple[float, Quality]] = {}
    for kind in kinds:
        found = FITTERS[kind](samples, quality == "auto")
        if isinstance(found, str):
            if quality != "auto":
                raise InputError(origin, [f"cannot be fitted by {kind}: {found}"])
        else:
            tried[kind] = found
    chosen = min(tried, key=lambda kind: tried[kind][0])
    curve = tried[chosen][1]
    r2 = {"quality": samples.r2(curve.value(data.steps))}
    warnings = _doubts(samples, curve, r2["quality"])
    base, slope = fit_line(data.steps, data.latency_s)
    latency = Latency(base_s=base, per_step_s=slope)
    lines = {"latency": (data.latency_s, base + slope * data.steps)}
    energy = None
    if data.energy_j is not None:
        base, slope = fit_line(data.steps, data.energy_j)
        energy = Energy(base_j=base, per_step_j=slope)
        lines["energy"] = (data.energy_j, base + slope * data.steps)
    for name, (measured, fitted) in lines.items():
        r2[name] = Samples(data.steps, measured).r2(fitted)
        if r2[name] < POOR_R2:
            warnings.append(f"{name}: the affine fit is poor, R^2 = {r2[name]:.3f}")
    return Fit(
        quality=curve, latency=latency, energy=energy, n=len(data), step_counts=len(samples.steps),
        steps=(float(samples.steps[0]), float(samples.steps[-1])), r2=r2,
        bic={kind: bic for kind, (bic, _) in tried.items()}, warnings=tuple(warnings),
    )  # fmt: skip


def _formula(curve: Quality) -> str:
    if isinstance(curve, PiecewiseLinear):
        return "piecewise linear through " + " ".join(f"({s:g}, {q:g})" for s, q in curve.points.tolist())
    if isinstance(curve, Exponential):
        return f"{curve.floor:g} + {curve.ceiling - curve.floor:g} exp(-s / {curve.scale:g})"
    return f"{curve.floor:g} + {curve.coefficient:g} s^-{curve.exponent:g}"


def _doubts(samples: Samples, curve: Quality, r2: float) -> list[str]:
    """Say where the curve should not be trusted."""
    found = []
    if r2 < POOR_R2:
        found.append(f"quality: the {curve.kind} fit is poor, R^2 = {r2:.3f}")
    missed = samples.mean - curve.value(samples.steps)
    spread = float(np.ptp(samples.mean))
    worst = int(abs(missed).argmax())
    if spread > 0 and abs(missed[worst]) > POOR_MISS * spread:
        found.append(
            f"quality: the curve misses the mean at {samples.steps[worst]:g} steps by {missed[worst]:.3g}, "
            f"{100 * abs(missed[worst]) / spread:.0f}% of the means' range"
        )
    if len(samples.steps) < 5:
        found.append(f"quality: only {len(samples.steps)} step counts are measured; breakpoints need at least 5")
    return found
