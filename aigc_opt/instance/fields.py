"""Types of the fields of instance and solution files, and the one translation of their errors into words.

Scalars are strict pydantic types: ``true`` is not a number, ``1.0`` is an integer, NaN and infinity are refused.
Nested lists of numbers become read-only NumPy arrays in one pass (`array_field`), their shape checked against the
sizes that the reader of the file puts into the validation context (`Sizes`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from aigc_opt.errors import Fault

FAULTS_PER_ARRAY = 20
"""How many bad entries of one array are named; what is beyond is counted."""

Sizes = Mapping[str, int | None]
"""Length of each axis letter as far as the file says it elsewhere (``{"E": 3, "M": 4}``); None = not known."""


class Record(BaseModel):
    """Base of everything that is read from a file: strict, frozen, no unknown keys, no NaN."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True
    )


def fault(message: str) -> PydanticCustomError:
    """Build an error whose text is shown as it is."""
    return PydanticCustomError("fault", "{text}", {"text": message})


def faults_at(title: str, found: list[tuple[tuple[int | str, ...], str]]) -> ValidationError:
    """Several errors at places inside one value, as one exception that pydantic merges with the others."""
    details = [InitErrorDetails(type=fault(message), loc=place, input=None) for place, message in found]
    return ValidationError.from_exception_data(title, details)


def _integral(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _readable_name(value: str) -> str:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise fault("must be text that UTF-8 can hold, got a lone surrogate") from None
    return value


Real = Annotated[float, Field()]
NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Integer = Annotated[int, BeforeValidator(_integral)]
Text = Annotated[str, AfterValidator(_readable_name)]
Name = Annotated[Text, Field(min_length=1)]


# ------------------------------------------------------------------------------------------------------- arrays


def describe(value: Any) -> str:
    """Say what a value of a file is, shortly: ``-1``, ``text 'abc'``, ``null``, ``a list of 3``."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"text {value!r}" if len(value) <= 40 else f"text {value[:37]!r}..."
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return "an object"
    text = repr(value.item() if isinstance(value, np.generic) else value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _axis(letter: str, size: int | None) -> str:
    names = {"T": "slots or frames", "K": "slots", "E": "servers", "M": "models", "U": "users", "J": "states"}
    return f"{size} entries ({names[letter]})" if letter in names else f"{size} entries"


def _flatten(value: Any, axes: tuple[str, ...], sizes: Sizes) -> tuple[list[Any], tuple[int, ...]]:
    """Leaves and shape of nested lists, each level checked for its length before the next one is made."""
    level: list[Any] = [value]
    shape: list[int] = []
    for letter in axes:
        known = sizes.get(letter)
        if letter.isdigit():
            known = int(letter)
        found = []
        expected = known
        for index, item in enumerate(level):
            if not isinstance(item, list | tuple):
                message = f"must be a list, got {describe(item)}"
            elif not item and known != 0:
                message = "must have at least one entry"
            elif expected is not None and len(item) != expected:
                why = ", as in the first row" if known is None else ""
                message = f"must have {_axis(letter, expected)}{why}, got {len(item)}"
            else:
                expected = len(item)
                continue
            found.append((_place(index, tuple(shape)), message))
        if found:
            raise faults_at("array", _shortened(found))
        shape.append(expected or 0)
        level = list(itertools.chain.from_iterable(level))
    return level, tuple(shape)


def _array_leaves(value: np.ndarray, axes: tuple[str, ...], sizes: Sizes) -> tuple[np.ndarray, tuple[int, ...]]:
    """Return entries and shape of an array that a program made, or that an npz held; the same rules as for lists."""
    if value.dtype.kind not in "fiu":
        raise fault(f"must be an array of numbers, got one of {value.dtype}")
    if value.ndim != len(axes):
        raise fault(f"must have {len(axes)} axes, got {value.ndim}")
    for axis, (letter, size) in enumerate(zip(axes, value.shape, strict=True)):
        known = int(letter) if letter.isdigit() else sizes.get(letter)
        if known is not None and size != known:
            raise fault(f"must have {_axis(letter, known)} along axis {axis}, got {size}")
        if size == 0 and known != 0:
            raise fault("must have at least one entry")
    return value.reshape(-1), value.shape


def _place(index: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the place of the index-th leaf of nested lists of this shape."""
    return tuple(int(i) for i in np.unravel_index(index, shape)) if shape else ()


def _shortened(found: list[tuple[tuple[int | str, ...], str]]) -> list[tuple[tuple[int | str, ...], str]]:
    if len(found) <= FAULTS_PER_ARRAY:
        return found
    more = len(found) - FAULTS_PER_ARRAY
    return [*found[:FAULTS_PER_ARRAY], ((), f"and {more} more entries like these")]


@dataclass(frozen=True)
class ArrayRule:
    """What the entries of an array may be.

    Attributes
    ----------
    axes : tuple of str
        Axis letters, outermost first; a digit is a fixed length.
    minimum : float or None
        Smallest entry allowed.
    null : bool
        Whether entries may be null (they become NaN).
    integer : bool
        Whether entries must be whole numbers (null becomes -1, the array int64).

    """

    axes: tuple[str, ...]
    minimum: float | None = None
    exclusive: bool = False
    null: bool = False
    integer: bool = False

    def __call__(self, value: Any, info: Any) -> np.ndarray:
        """Turn nested lists (or an array) into a read-only array, or raise every fault found with its place."""
        sizes: Sizes = (info.context or {}).get("sizes", {})
        if isinstance(value, np.ndarray):
            leaves, shape = _array_leaves(value, self.axes, sizes)
            flat = leaves.astype(np.float64)
            absent = np.isnan(flat) & self.null
        else:
            leaves, shape = _flatten(value, self.axes, sizes)
            kinds = set(map(type, leaves))
            allowed = {int, float, type(None)} if self.null else {int, float}
            if kinds - allowed:
                bad = (index for index, item in enumerate(leaves) if type(item) not in allowed)
                self._refuse(bad, leaves, shape, "must be a number")
            try:
                flat = np.array(leaves, dtype=np.float64)  # None becomes NaN
            except OverflowError:
                bad = (index for index, item in enumerate(leaves) if item is not None and abs(item) > 1e308)
                self._refuse(bad, leaves, shape, "must be a finite number")
            if type(None) in kinds:
                absent = np.fromiter((item is None for item in leaves), bool, len(leaves))
            else:
                absent = np.zeros(flat.shape, bool)
        self._refuse_where(~np.isfinite(flat) & ~absent, leaves, shape, "must be a finite number")
        if self.minimum is not None:
            low = (flat <= self.minimum) if self.exclusive else (flat < self.minimum)
            words = f"must be {'>' if self.exclusive else '>='} {self.minimum:g}"
            self._refuse_where(low & ~absent, leaves, shape, words)
        if self.integer:
            self._refuse_where((flat != np.round(flat)) & ~absent, leaves, shape, "must be an integer")
            flat = np.where(absent, -1, flat).astype(np.int64)
        array = flat.reshape(shape)
        array.setflags(write=False)
        return array

    @staticmethod
    def _refuse_where(bad: np.ndarray, leaves: Any, shape: tuple[int, ...], message: str) -> None:
        if bad.any():
            ArrayRule._refuse(iter(np.flatnonzero(bad).tolist()), leaves, shape, message)

    @staticmethod
    def _refuse(indices: Iterator[int], leaves: Any, shape: tuple[int, ...], message: str) -> None:
        found = [(_place(index, shape), f"{message}, got {describe(leaves[index])}") for index in indices]
        raise faults_at("array", _shortened(found))


def plain_numbers(array: np.ndarray) -> Any:
    """Nested lists of an array for JSON: whole numbers without a decimal point, NaN as null."""
    if array.dtype.kind == "f":
        absent = np.isnan(array)
        if not absent.any():
            whole = np.round(array)
            return (
                whole.astype(np.int64) if np.array_equal(whole, array) and (abs(array) < 2**53).all() else array
            ).tolist()
        array = np.where(absent, None, array.astype(object))
    return array.tolist()


def array_field(*axes: str, **rule: Any) -> Any:
    """Annotate a field as an array with these axes; see `ArrayRule` for the keywords."""
    return Annotated[
        np.ndarray,
        BeforeValidator(ArrayRule(axes, **rule)),
        PlainSerializer(plain_numbers),
    ]


# ------------------------------------------------------------------------------------------------ errors in words


def path_of(place: tuple[int | str, ...]) -> str:
    """Write a place as people write it: ``servers[2].storage_gb``."""
    path = ""
    for part in place:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            key = part if part.isidentifier() else repr(part[:60])
            path += f".{key}" if path else key
    return path


_WORDS = {
    "missing": "is required, but missing",
    "extra_forbidden": "unknown key",
    "finite_number": "must be a finite number, got {got}",
    "float_type": "must be a number, got {got}",
    "int_type": "must be an integer, got {got}",
    "int_from_float": "must be an integer, got {got}",
    "string_type": "must be text, got {got}",
    "string_too_short": "must not be empty",
    "bool_type": "must be true or false, got {got}",
    "greater_than": "must be > {gt}, got {got}",
    "greater_than_equal": "must be >= {ge}, got {got}",
    "less_than_equal": "must be <= {le}, got {got}",
    "literal_error": "must be {expected}, got {got}",
    "list_type": "must be a list, got {got}",
    "tuple_type": "must be a list, got {got}",
    "dict_type": "must be an object, got {got}",
    "model_type": "must be an object, got {got}",
    "model_attributes_type": "must be an object, got {got}",
    "too_short": "must have at least one entry",
    "too_long": "must have at most {max_length} entries, got {actual_length}",
    "union_tag_not_found": "its {discriminator} is required, but missing",
    "union_tag_invalid": "its {discriminator} must be one of {expected_tags}, got '{tag}'",
}


def faults_of(error: ValidationError) -> list[Fault]:
    """Every error of a pydantic validation as a `Fault`, in the order of the file's fields."""
    faults = []
    for item in error.errors(include_url=False):
        if item["type"] == "too_short" and item["input"]:
            continue  # its entries were refused, each with an error of its own
        context = {
            name: f"{value:g}" if isinstance(value, float) else value for name, value in item.get("ctx", {}).items()
        }
        words = _WORDS.get(item["type"])
        if words is not None:
            message = words.format(got=describe(item["input"]), **context)
        else:
            message = str(context.get("text") or context.get("error") or item["msg"])
        place = tuple(part for part in item["loc"] if part not in _CURVE_TAGS)
        faults.append(Fault(path_of(place), message))
    return faults


_CURVE_TAGS = {"piecewise_linear", "exponential", "power"}
"""Tags that pydantic puts into the place of a union's error; no key of a file has these names."""
