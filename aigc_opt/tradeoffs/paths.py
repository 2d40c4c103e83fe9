"""Numbers of an instance by their path (``servers[2].storage_gb``), and the values that they are to take."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np

from aigc_opt.errors import Fault, InputError
from aigc_opt.instance.base import Instance
from aigc_opt.instance.fields import Place, describe, path_of, quote

_KEY = r"[A-Za-z_][A-Za-z0-9_]*"
_PATH = re.compile(rf"{_KEY}(\[\d{{1,9}}\])*(\.{_KEY}(\[\d{{1,9}}\])*)*")
_PART = re.compile(rf"({_KEY})|\[(\d+)\]")

POINTS_AT_MOST = 1_000_000
"""A sweep of more points is refused: it would never end, and a slip such as ``0:1e9:1`` would fill the memory."""

KEPT_BYTES = 2**26
"""Instances are kept once they are made, up to so many bytes of arrays and `KEPT_AT_MOST` of them: a sweep makes each
to see whether it is one, and solves it later."""

KEPT_AT_MOST = 1000

Grid = Mapping[str, tuple[float, ...]]
"""Values that each path takes, in the order of the sweep."""


def parse_path(path: str) -> Place:
    """Split ``servers[2].storage_gb`` into its keys and indices.

    Raises
    ------
    InputError
        If it is written in any other way.

    """
    if not isinstance(path, str) or not _PATH.fullmatch(path):
        said = quote(path) if isinstance(path, str) else describe(path)
        raise InputError("vary", [f"must be a path such as edge.steps_per_slot or servers[2].storage_gb, got {said}"])
    return tuple(key if key else int(index) for key, index in _PART.findall(path))


def parse_values(text: str) -> tuple[float, ...]:
    """Read ``a,b,c`` or ``from:to:step``; the end of a range is included.

    Ranges are counted in decimals, so that ``0:1:0.1`` holds 0.3 and not 0.30000000000000004.

    Raises
    ------
    InputError
        If something is not a finite number, a step leads nowhere, or there are too many values.

    """
    ranged = ":" in text
    parts = text.split(":" if ranged else ",")
    numbers = []
    for part in parts:
        try:
            number = Decimal(part.strip())
        except InvalidOperation:
            number = Decimal("nan")
        if not number.is_finite() or not math.isfinite(float(number)):
            expected = "must be a,b,c or from:to:step with finite numbers"
            raise InputError("vary", [f"{expected}, got {quote(part)} in {quote(text)}"])
        numbers.append(number)
    if not ranged:
        return tuple(float(number) for number in numbers)
    if len(numbers) != 3:
        raise InputError("vary", [f"a range must be from:to:step, got {quote(text)}"])
    first, last, step = numbers
    if step == 0 or (last - first) / step < 0:
        raise InputError("vary", [f"the step of {quote(text)} does not lead from {first} to {last}"])
    count = int((last - first) / step) + 1
    if count > POINTS_AT_MOST:
        raise InputError("vary", [f"{quote(text)} has {count} values, more than {POINTS_AT_MOST}"])
    return tuple(float(first + k * step) for k in range(count))


def parse_varied(words: Iterable[str]) -> dict[str, tuple[float, ...]]:
    """Read ``PATH=VALUES`` words, one a path.

    Raises
    ------
    InputError
        If one is written in another way, or a path stands twice.

    """
    found: dict[str, tuple[float, ...]] = {}
    for word in words:
        path, sign, values = word.partition("=")
        if not sign:
            raise InputError("vary", [f"must be PATH=VALUES, got {quote(word)}"])
        if path in found:
            raise InputError("vary", [f"{path} stands more than once"])
        found[path] = parse_values(values)
    return found


def grid_of(instance: Instance, vary: Mapping[str, Iterable[float]]) -> Grid:
    """Check what is to be varied: paths that lead to numbers of the instance, finite values, none twice.

    Raises
    ------
    InputError
        With everything that is wrong.

    """
    faults: list[Fault | str] = []
    grid: dict[str, tuple[float, ...]] = {}
    data = instance.to_dict()
    for path, values in vary.items():
        try:
            number_at(data, parse_path(path))
        except InputError as error:
            faults += error.faults
            continue
        values = list(values) if not isinstance(values, str) and isinstance(values, Iterable) else [values]
        bad = [value for value in values if not _is_finite(value)]
        if bad:
            faults.append(Fault(path, f"must vary over finite numbers, got {describe(bad[0])}"))
            continue
        grid[path] = tuple(float(value) for value in values)
        repeated = [value for k, value in enumerate(grid[path]) if value in grid[path][:k]]
        if repeated or not values:
            what = f"{repeated[0]:g} stands more than once" if repeated else "must vary over at least one value"
            faults.append(Fault(path, what))
    if not vary:
        faults.append("must name at least one path")
    if not faults and (count := math.prod(map(len, grid.values()))) > POINTS_AT_MOST:
        faults.append(f"asks for {count} points, more than {POINTS_AT_MOST}")
    if faults:
        raise InputError("vary", faults)
    return grid


def _is_finite(value: Any) -> bool:
    real = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    return real and math.isfinite(value)


def number_at(data: dict[str, Any], place: Place) -> float | None:
    """Return the number (or the null in the place of one) at a place of a parsed file, defaults filled in.

    Raises
    ------
    InputError
        If the path leads nowhere, or to something else than a number.

    """
    value: Any = data
    for depth, part in enumerate(place):
        here, path = path_of(place[:depth]) or "the file", path_of(place)
        if isinstance(part, int):
            if not isinstance(value, list | tuple):
                raise InputError("vary", [Fault(path, f"{here} is {describe(value)}, which has no entries")])
            if part >= len(value):
                last = f"[0] to [{len(value) - 1}]" if len(value) else "none"
                raise InputError("vary", [Fault(path, f"{here} has entries {last}")])
        elif not isinstance(value, dict) or part not in value:
            there = f"has {', '.join(map(quote, value))}" if isinstance(value, dict) else f"is {describe(value)}"
            raise InputError("vary", [Fault(path, f"there is no such number: {here} {there}")])
        value = value[part]
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise InputError("vary", [Fault(path_of(place), f"must lead to one number, leads to {describe(value)}")])
    return value


class Varied:
    """Instances that differ from one in a few numbers, each validated as a file is.

    Parameters
    ----------
    instance : Instance
    grid : mapping
        Of `grid_of`.

    """

    def __init__(self, instance: Instance, grid: Grid):
        self.instance, self.grid = instance, grid
        self.places = [parse_path(path) for path in grid]
        self._data = instance.to_dict()
        requests = getattr(instance, "requests", None)
        if requests is not None and not any(place[0] == "requests" for place in self.places):
            # As arrays: a long episode's lists would be read anew for each point.
            self._data["requests"] = {key: getattr(requests, key) for key in type(requests).model_fields}
        self._made: dict[tuple[float, ...], Instance] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the instances: to make one takes less time than to send it."""
        return self.__dict__ | {"_made": {}}

    def points(self) -> Iterator[tuple[float, ...]]:
        """Every point of the grid, the last path fastest."""
        return itertools.product(*self.grid.values())

    def at(self, values: tuple[float, ...]) -> Instance:
        """Return the instance at a point.

        Raises
        ------
        InputError
            If there is no such instance: a number out of range, say. It names the point.

        """
        if values in self._made:
            return self._made[values]
        data: Any = self._data
        for place, value in zip(self.places, values, strict=True):
            data = _replaced(data, place, value)
        origin = ", ".join(f"{path}={value:g}" for path, value in zip(self.grid, values, strict=True))
        made = type(self.instance).from_dict(data, origin)
        each = sum(array.nbytes for part in (made, getattr(made, "requests", None)) for array in _arrays(part))
        if len(self._made) < KEPT_AT_MOST and (len(self._made) + 1) * each <= KEPT_BYTES:
            self._made[values] = made
        return made


def _arrays(part: Any) -> list[np.ndarray]:
    """Return the arrays among the fields of a model; None has none."""
    return [value for value in getattr(part, "__dict__", {}).values() if isinstance(value, np.ndarray)]


def _replaced(data: Any, place: Place, value: float) -> Any:
    """Copy of parsed JSON with another value at a place; what lies off the path is shared."""
    if not place:
        return value
    copied: Any = dict(data) if isinstance(data, dict) else list(data)
    copied[place[0]] = _replaced(data[place[0]], place[1:], value)
    return copied
