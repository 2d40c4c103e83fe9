"""Means with Student's confidence intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import t as student


@dataclass(frozen=True)
class Estimate:
    """A mean of independent numbers, the variance of that mean, and its degrees of freedom (0 = unknown variance)."""

    mean: float
    variance: float
    freedom: float

    @classmethod
    def of(cls, values: Any) -> Estimate:
        """Estimate the mean of independent numbers, of which there must be one at least."""
        found = np.asarray(values, float)
        variance = float(found.var(ddof=1)) / found.size if found.size > 1 else 0.0
        return cls(float(found.mean()), variance, found.size - 1.0)

    def plus(self, other: Estimate, sign: float = 1.0) -> Estimate:
        """Add (or with -1 subtract) an independent estimate; degrees of freedom by Welch and Satterthwaite."""
        total = self.variance + other.variance
        if not (self.freedom and other.freedom):
            freedom = 0.0
        elif total == 0.0:
            freedom = min(self.freedom, other.freedom)
        else:
            freedom = total**2 / (self.variance**2 / self.freedom + other.variance**2 / other.freedom)
        return Estimate(self.mean + sign * other.mean, total, freedom)

    def interval(self, confidence: float) -> list[float] | None:
        """Return the two-sided confidence interval, None where there are fewer than two numbers."""
        if not self.freedom:
            return None
        half = float(student.ppf(0.5 + 0.5 * confidence, self.freedom)) * self.variance**0.5
        return [self.mean - half, self.mean + half]

    def to_dict(self, confidence: float) -> dict[str, Any]:
        """Return the JSON object."""
        return {"mean": self.mean, "ci": self.interval(confidence)}
