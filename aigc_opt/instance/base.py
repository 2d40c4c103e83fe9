"""What the instances of all problems share: the head of the file, validation in two levels, canonical form."""

from __future__ import annotations

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import islice
from typing import Annotated, Any, Literal, Self

import numpy as np
import rfc8785
from pydantic import BeforeValidator, ValidationError

from aigc_opt.errors import Fault, InputError
from aigc_opt.instance.fields import (
    FAULTS_PER_FILE,
    Name,
    Record,
    Sizes,
    Text,
    describe,
    fault,
    faults_of,
    is_real,
    quote,
)

FORMAT = "aigc-opt/instance"
VERSION = 1


def _not_a_truth(value: Any) -> Any:
    if isinstance(value, bool):  # for Python true is 1
        raise fault(f"must be {VERSION}, got {describe(value)}")
    return value


class Instance(Record, ABC):
    """Head of every instance file; `from_dict` is the one way in.

    An instance knows nothing of solvers. It is frozen: arrays are read-only, equality and hash follow the canonical
    form (`sha256`), so that a name or a description does not make two instances differ by accident.
    """

    format: Literal["aigc-opt/instance"]
    version: Annotated[Literal[1], BeforeValidator(_not_a_truth)]
    problem: str
    name: Name
    description: Text = ""
    source: Text = ""

    @classmethod
    def from_dict(cls, data: dict[str, Any], origin: str = "instance") -> Self:
        """Validate the parsed file `data`.

        Parameters
        ----------
        data : dict
            The JSON object of an instance file; where it has numbers and lists, NumPy's numbers and arrays (or what
            NumPy makes an array of, such as a column of a table) do as well.
        origin : str
            What to call it in errors: the file's name.

        Raises
        ------
        InputError
            With every fault of the file: fields first, then what refers from one part of it to another.

        """
        if not isinstance(data, dict):
            raise InputError(origin, [f"must be one JSON object, got {describe(data)}"])
        data = _plain(data)
        faults: list[Fault] = []
        instance = None
        try:
            instance = cls.model_validate(data, context={"sizes": cls._sizes(data)})
        except ValidationError as error:
            faults += faults_of(error)
        known = {fault.path for fault in faults}
        crossing = (fault for fault in cls._cross_faults(data) if not fault.path or fault.path not in known)
        faults += islice(crossing, FAULTS_PER_FILE)
        if faults or instance is None:
            raise InputError(origin, faults)
        return instance

    @classmethod
    @abstractmethod
    def _sizes(cls, data: dict[str, Any]) -> Sizes:
        """Length of each axis letter as the file's lists of objects say it, None where they cannot be counted."""

    @classmethod
    @abstractmethod
    def _cross_faults(cls, data: dict[str, Any]) -> Iterator[Fault]:
        """Faults between parts of the file. Reads the raw file, so that one bad field does not hide the others."""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of the instance, with defaults filled in and nothing that the file did not have."""
        data = self.model_dump(warnings=False)
        for model in data["models"]:
            # None = a field that this problem does not read and the file does not have.
            for key in [key for key, value in model.items() if value is None]:
                del model[key]
        return data

    def canonical(self) -> bytes:
        """Return the canonical form: defaults filled in, `description` and `source` left out, then RFC 8785."""
        data = self.to_dict()
        data.pop("description")
        data.pop("source")
        for model in data["models"]:
            model.pop("source", None)
        return canonical_json(data)

    @cached_property
    def sha256(self) -> str:
        """Hash of the canonical form, hexadecimal."""
        return hashlib.sha256(self.canonical()).hexdigest()

    @property
    def identity(self) -> dict[str, str]:
        """Name, problem and sha256: how a file that belongs to the instance says so."""
        return {"name": self.name, "problem": self.problem, "sha256": self.sha256}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Instance) and self.sha256 == other.sha256

    def __hash__(self) -> int:
        return hash(self.sha256)


# Nested arrays of numbers as `json` writes them, and what RFC 8785 writes otherwise in them: a point after a whole
# number, a zero in a small exponent; and rare numbers: zero with a sign, other exponents, integers that are no double.
_ONLY_NUMBERS = re.compile(r"[][0-9eE+.,nul-]*")
_POINT, _EXPONENT = re.compile(r"\.0(?=[],])"), re.compile(r"e-0(?=[789])")
_RARE = re.compile(r"-0\.0(?=[],])|-?\d+(?:\.\d+)?e(?:-0[56]|\+\d+)")
_MARKS_OF_RARE = ("e-05", "e-06", "e+", "-0.0")
_LONG = re.compile(r"(?<=[\[,-])\d{16,}(?=[\],])")


def _as_double(found: re.Match[str]) -> str:
    return rfc8785.dumps(float(found[0])).decode()


def canonical_json(value: Any) -> bytes:
    """Return the form of RFC 8785, with every number as a double; arrays of numbers at the speed of `json`."""
    if isinstance(value, dict):
        items = sorted(value.items(), key=lambda item: item[0].encode("utf-16-be"))
        return b"{" + b",".join(rfc8785.dumps(key) + b":" + canonical_json(item) for key, item in items) + b"}"
    if isinstance(value, list | tuple):
        text = json.dumps(value, separators=(",", ":"))
        if _ONLY_NUMBERS.fullmatch(text):
            text = _RARE.sub(_as_double, text) if any(mark in text for mark in _MARKS_OF_RARE) else text
            text = _LONG.sub(_as_double, text)
            return _EXPONENT.sub("e-", _POINT.sub("", text)).encode()
        return b"[" + b",".join(map(canonical_json, value)) + b"]"
    return rfc8785.dumps(_floats(value))


def _floats(value: Any) -> Any:
    """Make every number a double, which is what RFC 8785 writes; an integer beyond 2^53 would be refused otherwise."""
    if isinstance(value, dict):
        return {key: _floats(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_floats(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


_JSON_SCALARS = frozenset((int, float, str, bool, type(None)))


_DEEPEST = 10
"""No field of an instance nests as deep; a hostile file may nest deeper than Python calls."""


def _plain(value: Any, depth: int = 0) -> Any:
    """Return a value with Python's numbers in the place of NumPy's, and lists of lists in that of lists of arrays.

    An array of numbers stays one: its field reads it as it is.
    """
    if depth > _DEEPEST:
        return value
    if isinstance(value, dict):
        return {key: _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        # What a file held has nothing to change, and may have millions of numbers.
        return value if set(map(type, value)) <= _JSON_SCALARS else [_nested(_plain(item, depth + 1)) for item in value]
    if hasattr(value, "__array__"):
        array = np.asarray(value)
        if array.ndim and array.dtype.kind in "fiu":
            return array
        return float(array) if not array.ndim and array.dtype.kind == "f" else array.tolist()
    return value


def _nested(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


# ----------------------------------------------------------------------- reading the raw file for cross references


def length(value: Any) -> int | None:
    """Count a raw list or array; None where it is neither, or is empty."""
    counts = isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim > 0)
    return len(value) or None if counts else None


def listed(value: Any) -> list[Any] | tuple[Any, ...]:
    """Return a raw list (or an array as one); an empty one in the place of what is none."""
    if isinstance(value, np.ndarray) and value.ndim:
        return value.tolist()
    return value if isinstance(value, list | tuple) else []


def names_in(data: dict[str, Any], key: str) -> list[str | None]:
    """Names of the objects of a raw list; None where one has none."""
    found = (item.get("name") for item in objects(data, key))
    return [name if isinstance(name, str) and name else None for name in found]


def objects(data: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """Objects of a raw list, an empty one in the place of what is none."""
    nothing: dict[str, Any] = {}
    return [item if isinstance(item, dict) else nothing for item in listed(data.get(key))]


def number(value: Any) -> float | None:
    """Return a raw number; None where it is not one, or no double holds it."""
    try:
        return float(value) if is_real(value) else None
    except OverflowError:
        return None


def repeated_names(data: dict[str, Any], key: str) -> Iterator[Fault]:
    """Faults of names that stand twice in one list."""
    first: dict[str, int] = {}
    for index, name in enumerate(names_in(data, key)):
        if name is None:
            continue
        if name in first:
            yield Fault(f"{key}[{index}].name", f"must be unique, but {quote(name)} is also {key}[{first[name]}]")
        first.setdefault(name, index)


def head_of(data: Any, problems: Iterable[str], origin: str) -> str:
    """Return the problem of the instance that `data` holds.

    Raises
    ------
    InputError
        If it says none that there is, with everything wrong about its head: what else it must hold is not known.

    """
    if not isinstance(data, dict):
        raise InputError(origin, [f"must be one JSON object, got {describe(data)}"])
    expected: dict[str, tuple[Any, ...]] = {"format": (FORMAT,), "version": (VERSION,), "problem": tuple(problems)}
    faults = {}
    for key, allowed in expected.items():
        if key not in data:
            faults[key] = "is required, but missing"
        elif isinstance(data[key], bool) or data[key] not in allowed:
            faults[key] = f"must be {' or '.join(repr(item) for item in allowed)}, got {describe(data[key])}"
    if "problem" in faults:
        raise InputError(origin, [Fault(key, message) for key, message in faults.items()])
    return data["problem"]
