"""Types of the fields of instance and solution files, and the one translation of their errors into words.

Scalars are strict pydantic types: ``true`` is not a number, ``1.0`` is an integer, NaN and infinity are refused.
Nested lists of numbers become read-only NumPy arrays in one pass (`array_field`), their shape checked against the
sizes that the reader of the file puts into the validation context (`Sizes`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
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
    ValidationInfo,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from aigc_opt.errors import Fault

FAULTS_PER_ARRAY = 20
"""How many bad entries of one array are named; what is beyond is counted."""

FAULTS_PER_FILE = 1000
"""How many faults of one file are named: more help nobody, and a hostile file could ask for millions."""

KEYS_PER_OBJECT = 1000
"""An object of more keys than this is refused as a whole: none has as many, and each would be a fault."""

LARGEST_INTEGER = 2**53
"""Largest integer that is read: beyond it JSON's numbers (doubles) do not hold every integer."""

Place = tuple[int | str, ...]
"""Where a value stands in a file: keys and indices, outermost first."""

Placed = tuple[Place, str]
"""Where something is wrong, and what was expected there."""

Sizes = Mapping[str, int | None]
"""Length of each axis letter as far as the file says it elsewhere (``{"E": 3, "M": 4}``); None = not known."""


class Record(BaseModel):
    """Base of everything that is read from a file: strict, frozen, no unknown keys, no NaN."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True
    )

    @model_validator(mode="before")
    @classmethod
    def _keys_can_be_named(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        if len(data) > KEYS_PER_OBJECT:
            raise fault(f"must be an object with some of the keys {', '.join(cls.model_fields)}; has {len(data)} keys")
        if not all(key.isascii() for key in data):
            # pydantic gives up the whole object at a key with a lone surrogate; escaped it is one unknown key.
            return {key.encode("utf-8", "backslashreplace").decode("utf-8"): item for key, item in data.items()}
        return data


def fault(message: str) -> PydanticCustomError:
    """Build an error whose text is shown as it is."""
    return PydanticCustomError("fault", "{text}", {"text": message})


def faults_at(title: str, found: Iterable[Placed], kind: str = "fault") -> ValidationError:
    """Several errors at places inside one value, as one exception that pydantic merges with the others."""
    details = [
        InitErrorDetails(type=PydanticCustomError(kind, "{text}", {"text": message}), loc=place, input=None)
        for place, message in found
    ]
    return ValidationError.from_exception_data(title, details)


def _integral(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        raise fault(f"must be an integer of at most 2^53, got {describe(value)}")
    return value


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
Name = Annotated[str, Field(min_length=1), AfterValidator(_readable_name)]


# ------------------------------------------------------------------------------------------------------- arrays


def is_real(value: object) -> bool:
    """Whether a value of a file, or of a call, is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf


def quote(text: str) -> str:
    """Text of a file in quotes, shortened: a file may hold a name of a million letters."""
    return repr(text) if len(text) <= 40 else f"{text[:37]!r}..."


def describe(value: Any) -> str:
    """Say what a value of a file is, shortly: ``-1``, ``text 'abc'``, ``null``, ``a list of 3``."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"text {quote(value)}"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, int) and abs(value) >= 10**40:
        return "a number of more than 40 digits"  # Python refuses to print very long ones
    if isinstance(value, float) and not math.isfinite(value):
        # What stands in the file may be a number, 1e999, that no double holds.
        return "NaN" if math.isnan(value) else f"{'-' if value < 0 else ''}Infinity (or a number as large)"
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _axis(letter: str, size: int) -> str:
    names = {"T": "slots or frames", "K": "slots", "E": "servers", "M": "models", "U": "users", "J": "states"}
    entries = "1 entry" if size == 1 else f"{size} entries"
    return f"{entries} ({names[letter]})" if letter in names else entries


_LISTS = frozenset((list, tuple))

_SKIPPED = object()
"""Stands in the place of entries that are not there, so that the entries that are can still be judged."""

_REPAIRED = 10**6
"""An array with bad rows is repaired up to this many entries, to look for further faults; a larger one is not."""


def _known_length(letter: str, sizes: Sizes) -> int | None:
    return int(letter) if letter.isdigit() else sizes.get(letter)


def _flatten(value: Any, axes: tuple[str, ...], sizes: Sizes) -> tuple[list[Any], tuple[int, ...], list[Placed]]:
    """Leaves and shape of nested lists, and the faults of their lengths.

    A bad row is cut, or filled with `_SKIPPED`, so that faults in other rows, and in the rest of it, are found too.
    """
    level: list[Any] = [value]
    shape: list[int] = []
    faults: list[Placed] = []
    for letter in axes:
        known = _known_length(letter, sizes)
        lengths = [len(item) if type(item) in _LISTS else -1 for item in level]
        expected = known if known is not None else next((size for size in lengths if size > 0), None)
        right = lengths.count(-1 if expected is None else expected)
        if right == len(level) and expected is not None:
            shape.append(expected)
            level = list(itertools.chain.from_iterable(level))
            continue
        wrong = [index for index, size in enumerate(lengths) if size != expected and level[index] is not _SKIPPED]
        for index in wrong[:FAULTS_PER_ARRAY]:
            if lengths[index] < 0:
                message = f"must be a list, got {describe(level[index])}"
            elif known is None and lengths[index] == 0:
                message = "must have at least one entry"
            else:
                why = ", as in the rows before" if known is None else ""
                message = f"must have {_axis(letter, expected or 0)}{why}, got {lengths[index]}"
            faults.append((_place(index, tuple(shape)), message))
        faults += _beyond(len(wrong))
        if wrong and (expected is None or len(level) * expected > _REPAIRED):
            raise faults_at("array", faults)
        if faults:
            level = [_repaired(item, expected or 0) for item in level]
        shape.append(expected or 0)
        level = list(itertools.chain.from_iterable(level))
    return level, tuple(shape), faults


def _repaired(row: Any, length: int) -> list[Any]:
    kept = list(row[:length]) if isinstance(row, list | tuple) else []
    return kept + [_SKIPPED] * (length - len(kept))


def _beyond(number: int) -> list[Placed]:
    """Return the line that counts the faults that are not named."""
    more = number - FAULTS_PER_ARRAY
    return [((), f"and {more} more {'entry' if more == 1 else 'entries'} like these")] if more > 0 else []


def _array_leaves(value: np.ndarray, axes: tuple[str, ...], sizes: Sizes) -> tuple[np.ndarray, tuple[int, ...]]:
    """Return entries and shape of an array that a program made, or that an npz held; the same rules as for lists."""
    if value.dtype.kind not in "fiu":
        raise fault(f"must be an array of numbers, got one of {value.dtype}")
    if value.ndim != len(axes):
        raise fault(f"must have {len(axes)} axes, got {value.ndim}")
    for axis, (letter, size) in enumerate(zip(axes, value.shape, strict=True)):
        known = _known_length(letter, sizes)
        if known is not None and size != known:
            raise fault(f"must have {_axis(letter, known)} along axis {axis}, got {size}")
        if size == 0 and known != 0:
            raise fault("must have at least one entry")
    return value.reshape(-1), value.shape


def _place(index: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the place of the index-th leaf of nested lists of this shape."""
    return tuple(int(i) for i in np.unravel_index(index, shape)) if shape else ()


def _double(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


@dataclass(frozen=True)
class ArrayRule:
    """What the entries of an array may be.

    Attributes
    ----------
    axes : tuple of str
        Axis letters, outermost first; a digit is a fixed length.
    minimum : float or None
        Smallest entry allowed, itself included unless `exclusive`.
    null : bool
        Whether entries may be null (they become NaN).
    integer : bool
        Whether entries must be whole numbers (null becomes -1, the array int64).
    binary : bool
        Whether entries must be 0 or 1; the array is int64.

    """

    axes: tuple[str, ...]
    minimum: float | None = None
    exclusive: bool = False
    null: bool = False
    integer: bool = False
    binary: bool = False

    def __call__(self, value: Any, info: ValidationInfo) -> np.ndarray:
        """Turn nested lists (or an array) into a read-only array, or raise every fault found with its place."""
        sizes: Sizes = (info.context or {}).get("sizes", {})
        faults: list[Placed] = []
        leaves: list[Any] | np.ndarray
        if isinstance(value, np.ndarray):
            leaves, shape = _array_leaves(value, self.axes, sizes)
            flat = leaves.astype(np.float64)
            absent = (np.isnan(flat) | (self.integer & (flat == -1))) & self.null
            refused = skipped = np.zeros(flat.shape, bool)
        else:
            leaves, shape, faults = _flatten(value, self.axes, sizes)
            flat, absent, refused, skipped = self._numbers(leaves)
        # Each entry is told its first fault only, in this order.
        rules = {
            "must be a number": refused,
            "must be a finite number": ~np.isfinite(flat) & ~absent,
            **self.rules(flat, absent, shape, info),
        }
        kind = np.full(flat.shape, -1)
        for code, broken in enumerate(rules.values()):
            kind[(kind < 0) & broken & ~skipped] = code
        messages = list(rules)
        wrong = np.flatnonzero(kind >= 0)
        for index in wrong[:FAULTS_PER_ARRAY].tolist():
            faults.append((_place(index, shape), f"{messages[kind[index]]}, got {describe(leaves[index])}"))
        faults += _beyond(len(wrong))
        if faults:
            raise faults_at("array", faults)
        if self.integer or self.binary:
            flat = np.where(absent, -1, flat).astype(np.int64)
        array = flat.reshape(shape)
        array.setflags(write=False)
        return array

    def rules(
        self, flat: np.ndarray, absent: np.ndarray, shape: tuple[int, ...], info: ValidationInfo
    ) -> dict[str, np.ndarray]:
        """Return what entries must be, in words, and which are not."""
        found: dict[str, np.ndarray] = {}
        if self.minimum is not None:
            words = f"must be {'>' if self.exclusive else '>='} {self.minimum:g}"
            found[words] = (flat <= self.minimum) if self.exclusive else (flat < self.minimum)
        if self.binary:
            found["must be 0 or 1"] = (flat != 0) & (flat != 1)
        if self.integer:
            found["must be an integer"] = flat != np.round(flat)
            found["must be an integer of at most 2^53"] = np.abs(flat) > LARGEST_INTEGER
        return {words: broken & ~absent for words, broken in found.items()}

    def _numbers(self, leaves: list[Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return the entries as doubles; and which are null and may be, which are no numbers, which are not there."""
        kinds = set(map(type, leaves))
        absent = refused = skipped = np.zeros(len(leaves), bool)
        if kinds - {int, float}:
            skipped = np.fromiter((item is _SKIPPED for item in leaves), bool, len(leaves))
            absent = np.fromiter((item is None for item in leaves), bool, len(leaves))
            refused = np.fromiter((type(item) not in (int, float) for item in leaves), bool, len(leaves)) & ~skipped
            if self.null:
                refused &= ~absent
            else:
                absent = np.zeros(len(leaves), bool)
            leaves = [item if type(item) in (int, float) else math.nan for item in leaves]
        try:
            flat = np.array(leaves, dtype=np.float64)
        except OverflowError:
            flat = np.array([_double(item) for item in leaves])
        return flat, absent, refused, skipped


def plain_numbers(array: np.ndarray) -> Any:
    """Nested lists of an array for JSON: whole numbers without a decimal point, NaN as null."""
    if array.dtype.kind == "f":
        absent = np.isnan(array)
        if not absent.any():
            whole = np.round(array)
            return (
                whole.astype(np.int64) if np.array_equal(whole, array) and (abs(array) < 2**53).all() else array
            ).tolist()
        array = array.astype(object)
        array[absent] = None
    return array.tolist()


Array = Annotated[np.ndarray, PlainSerializer(plain_numbers)]


def array_field(*axes: str, **rule: Any) -> BeforeValidator:
    """Return the rule that stands beside `Array` in a field's type; see `ArrayRule` for the keywords."""
    return BeforeValidator(ArrayRule(axes, **rule))


# ------------------------------------------------------------------------------------------------ errors in words


def path_of(place: Place) -> str:
    """Write a place as people write it: ``servers[2].storage_gb``."""
    path = ""
    for part in place:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            key = part if part.isidentifier() and len(part) <= 60 else quote(part)
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
    "string_unicode": "must be text that UTF-8 can hold, got a lone surrogate",
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
    "union_tag_not_found": "is required, but missing",
    "union_tag_invalid": "must be one of {expected_tags}, got {got}",
}


_PLACED = "placed"
"""Type of errors whose place is already the file's, see `list_of`."""


def faults_of(error: ValidationError) -> list[Fault]:
    """Every error of a pydantic validation as a `Fault`, in the order of the file's fields."""
    return [Fault(path_of(place), message) for place, message in places_of(error)]


def places_of(error: ValidationError) -> list[Placed]:
    """Every error of a pydantic validation as a place and what was expected there."""
    found = []
    for item in error.errors(include_url=False):
        if item["type"] == "too_short" and item["input"]:
            continue  # its entries were refused, each with an error of its own
        place, value = item["loc"], item["input"]
        if "quality" in place and item["type"] != _PLACED:
            # pydantic puts the curve's kind into the place of its errors: quality.power.floor.
            at = place.index("quality") + 1
            place = place[:at] + place[at + 1 :]
        if item["type"].startswith("union_tag"):
            place, value = (*place, "kind"), value.get("kind") if isinstance(value, dict) else value
        context = {
            name: f"{number:g}" if isinstance(number, float) else number for name, number in item.get("ctx", {}).items()
        }
        if item["type"] == "float_type" and isinstance(value, int) and not isinstance(value, bool):
            item["type"] = "finite_number"  # an integer that no double holds
        words = _WORDS.get(item["type"])
        if words is not None:
            message = words.format(got=describe(value), **context)
        else:
            message = str(context.get("text") or context.get("error") or item["msg"])
        found.append((place, message))
    return found


# ---------------------------------------------------------------------------------------------- lists of objects


def list_of(record: type[Record], least: int = 1) -> BeforeValidator:
    """Return the rule that stands beside ``tuple[record, ...]`` in a field's type: at least so many of them.

    Errors in them are named up to a limit.
    """

    def read(value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, list | tuple):
            raise fault(f"must be a list, got {describe(value)}")
        if len(value) < least:
            raise fault("must have at least one entry")
        made, faults = [], []
        for index, item in enumerate(value):
            if isinstance(item, record):
                made.append(item)
                continue
            try:
                made.append(record.model_validate(item, context=info.context))
            except ValidationError as error:
                faults += [((index, *place), message) for place, message in places_of(error)]
            if len(faults) >= FAULTS_PER_FILE:
                faults.append(((), f"the entries after [{index}] were not looked at"))
                break
        if faults:
            raise faults_at("list", faults, _PLACED)
        return tuple(made)

    return BeforeValidator(read)


def names_at(value: Any) -> tuple[str, ...]:
    """Read a list of names, or raise every fault of it with its place."""
    if not isinstance(value, list | tuple):
        raise fault(f"must be a list, got {describe(value)}")
    if not value:
        raise fault("must have at least one entry")
    faults: list[Placed] = []
    for index, item in enumerate(value):
        if not isinstance(item, str):
            faults.append(((index,), f"must be text, got {describe(item)}"))
        elif not item:
            faults.append(((index,), "must not be empty"))
        elif not item.isascii() and item.encode("utf-8", "replace").decode("utf-8") != item:
            faults.append(((index,), _WORDS["string_unicode"]))
    if faults:
        raise faults_at("names", faults[:FAULTS_PER_ARRAY] + _beyond(len(faults)))
    return tuple(value)


Names = Annotated[tuple[str, ...], BeforeValidator(names_at)]
