"""Measurements of a generative model: a strict CSV of steps, quality loss, latency and perhaps energy."""

from __future__ import annotations

import csv
import io
import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from aigc_opt.errors import Fault, InputError
from aigc_opt.instance.fields import FAULTS_PER_ARRAY, quote
from aigc_opt.instance.files import read_bytes

if TYPE_CHECKING:
    import pandas as pd

REQUIRED, OPTIONAL = ("steps", "quality_loss", "latency_s"), ("energy_j",)

MEASUREMENTS_BYTES = 64 * 2**20
"""Largest file of measurements that is read."""


@dataclass(frozen=True, eq=False)
class Measurements:
    """Samples of one model, one entry a sample; several samples of a step count are allowed.

    Attributes
    ----------
    steps : ndarray, shape (N,)
        Denoising steps, >= 0.
    quality_loss : ndarray, shape (N,)
        Lower is better; any unit.
    latency_s : ndarray, shape (N,)
        Generation time, s.
    energy_j : ndarray, shape (N,), or None
        Energy of the generation, J.

    """

    steps: np.ndarray
    quality_loss: np.ndarray
    latency_s: np.ndarray
    energy_j: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.steps)

    def frame(self) -> pd.DataFrame:
        """Return a table with the columns of the file."""
        import pandas as pd

        return pd.DataFrame({name: column for name, column in vars(self).items() if column is not None})


def read_measurements(path: str | os.PathLike[str]) -> Measurements:
    """Read a CSV file with the header ``steps,quality_loss,latency_s`` and optionally ``energy_j``.

    Raises
    ------
    InputError
        With every fault of the file, each with its line: unknown or missing columns, rows of another length, values
        that are no finite numbers, or negative where that has no meaning.

    """
    origin = str(path)
    try:
        text = read_bytes(path, MEASUREMENTS_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(origin, [f"is not UTF-8 at byte {error.start}"]) from None
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    faults: list[Fault] = []
    values: list[list[float]] = []
    try:
        header = _header(next(rows, []), origin)
        for row in rows:
            if row:
                values.append(_numbers(row, header, rows.line_num, faults))
    except csv.Error as error:
        faults.append(Fault(f"line {rows.line_num}", f"is not CSV: {error}"))
    if not values and not faults:
        faults.append(Fault("", "has a header but no rows"))
    if faults:
        beyond = len(faults) - FAULTS_PER_ARRAY
        more = [Fault("", f"{beyond} more faults")] if beyond > 0 else []
        raise InputError(origin, faults[:FAULTS_PER_ARRAY] + more)
    columns = dict(zip(header, np.array(values).T, strict=True))
    return Measurements(**columns)


def _header(names: list[str], origin: str) -> list[str]:
    names = [name.strip() for name in names]
    faults = [
        Fault("line 1", f"column {name} is missing; the header is {','.join(REQUIRED)} and optionally energy_j")
        for name in REQUIRED
        if name not in names
    ]
    for index, name in enumerate(names):
        if name not in REQUIRED + OPTIONAL:
            faults.append(Fault("line 1", f"unknown column {quote(name)}"))
        elif name in names[:index]:
            faults.append(Fault("line 1", f"column {name} stands more than once"))
    if faults:
        raise InputError(origin, faults[:FAULTS_PER_ARRAY])
    return names


def _numbers(row: list[str], header: list[str], line: int, faults: list[Fault]) -> list[float]:
    """Return the numbers of a row, NaN where there is none, and note what is wrong with it."""
    if len(row) != len(header):
        faults.append(Fault(f"line {line}", f"must have {len(header)} values, got {len(row)}"))
        return [math.nan] * len(header)
    return [_number(cell, name, line, faults) for name, cell in zip(header, row, strict=True)]


def _number(cell: str, name: str, line: int, faults: list[Fault]) -> float:
    try:
        value = math.nan if "_" in cell else float(cell)  # Python reads 1_000, other programs do not
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        faults.append(Fault(f"line {line}", f"{name} must be a finite number, got {quote(cell)}"))
    elif value < 0 and name != "quality_loss":
        faults.append(Fault(f"line {line}", f"{name} must be >= 0, got {value:g}"))
    return value
