"""The strict door: files are read here, and nothing is written that is not whole.

Every reader raises `InputError` with all faults of a file; nothing else comes out of a bad file.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import io
import json
import math
import os
import re
import tempfile
import zipfile
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from aigc_opt.control import require_memory
from aigc_opt.errors import Fault, InputError
from aigc_opt.instance.base import Instance, head_of
from aigc_opt.instance.deployment import DeploymentInstance
from aigc_opt.instance.fields import FAULTS_PER_FILE, Place, describe, path_of, quote
from aigc_opt.instance.offloading import OffloadingInstance
from aigc_opt.instance.two_timescale import REQUEST_ARRAYS, TwoTimescaleInstance

INSTANCES: dict[str, type[Instance]] = {
    "deployment": DeploymentInstance,
    "offloading": OffloadingInstance,
    "two_timescale": TwoTimescaleInstance,
}

INSTANCE_BYTES = 64 * 2**20
"""Largest JSON instance that is read; episodes that are longer come as npz."""

SOLUTION_BYTES = 2**30
"""Largest JSON solution or result that is read."""

INLINE_REQUESTS = 50_000
"""An episode of more places for requests (frames x slots x users) is saved with its arrays in an npz file."""

NPZ_BYTES = 2**29
"""Largest npz file that is read, unpacked."""

HEAD_BYTES = 2**20
"""A file that is larger must start like a JSON object before the rest of it is read."""

BYTES_A_VALUE, BYTES_A_LIST = 32.0, 64.0
"""Memory of a number and of a list that JSON holds, measured."""

INTEGER_DIGITS = 308
"""An integer of more digits is read as a double, mostly infinite: fields then refuse it by its path, and Python
need not convert it, which takes long and has a limit of its own."""


class _Object(dict[str, Any]):
    """A JSON object in which some keys stood more than once."""

    repeated: tuple[str, ...] = ()


def read_json(path: str | os.PathLike[str], limit: int = INSTANCE_BYTES) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    NaN and Infinity are let through as floats, so that the fields can name them by their path.

    Raises
    ------
    InputError
        If the file cannot be read, is larger than `limit` bytes, is not UTF-8, is not one JSON object, or has
        a key twice in one object.

    """
    data, faults = _parse(path, limit)
    if faults:
        raise InputError(str(path), faults)
    return data


def _parse(path: str | os.PathLike[str], limit: int) -> tuple[dict[str, Any], list[Fault]]:
    """Return the object in a file, and the faults of keys that stand there twice (the last one counts)."""
    origin = str(path)
    text = _read_text(path, limit)
    repeated = False

    def as_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal repeated
        made = dict(pairs)
        if len(made) != len(pairs):
            repeated = True
            made = _Object(made)
            made.repeated = tuple(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        return made

    def as_integer(digits: str) -> int | float:
        return int(digits) if len(digits) <= INTEGER_DIGITS else float(digits)

    with _no_collection():
        try:
            data = json.loads(text, object_pairs_hook=as_object, parse_int=as_integer)
        except json.JSONDecodeError as error:
            what = f"{error.msg[0].lower()}{error.msg[1:]}".removesuffix(" at")
            where = f"line {error.lineno} column {error.colno}"
            raise InputError(origin, [f"is not JSON: {what} at {where}"]) from None
        except RecursionError:
            raise InputError(origin, ["is nested too deep, expected one JSON object"]) from None
    if not isinstance(data, dict):
        raise InputError(origin, [f"must be one JSON object, got {describe(data)}"])
    return data, _repeated_keys(data) if repeated else []


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the garbage collector from looking through millions of new lists again and again: it finds nothing."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


def read_bytes(path: str | os.PathLike[str], limit: int, hint: str = "", *, json_object: bool = False) -> bytes:
    """Read a whole file of at most `limit` bytes; `hint` is added to what is said of a larger one.

    With `json_object`, of a large file that does not start like one only the start is read.

    Raises
    ------
    InputError
        If there is no such file, it cannot be read, it is larger, or it is large and does not start as it must.

    """
    origin = str(path)
    start, raw = b"{", b""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size <= limit:
                if json_object and size > HEAD_BYTES:
                    raw = file.read(HEAD_BYTES)
                    start = raw.removeprefix(BOM_UTF8).lstrip()[:1] or start  # white space so far: go on
                if start == b"{":
                    raw += file.read(limit + 1 - len(raw))
    except IsADirectoryError:
        raise InputError(origin, ["is a folder, expected a file"]) from None
    except FileNotFoundError:
        raise InputError(origin, ["there is no such file"]) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(origin, [f"cannot be read: {reason}"]) from None
    if start != b"{":
        raise InputError(origin, [f"is not one JSON object: starts with {quote(start.decode('latin-1'))}"])
    if max(size, len(raw)) > limit:
        raise InputError(origin, [f"is larger than {limit // 2**20} MiB, the most that is read{hint}"])
    return raw


def _read_text(path: str | os.PathLike[str], limit: int) -> str:
    origin = str(path)
    hint = "; long arrays of requests can be put into an npz" if limit == INSTANCE_BYTES else ""
    raw = read_bytes(path, limit, hint, json_object=True)
    if not raw or raw.isspace():
        raise InputError(origin, ["is empty, expected one JSON object"])
    # Counted in the text, strings included: far cheaper than to build a million objects and then refuse them.
    commas, brackets, colons = raw.count(b","), raw.count(b"[") + raw.count(b"{"), raw.count(b":")
    for what, count, most in (
        ("values", commas, limit // 16),
        ("lists and objects", brackets, limit // 128),
        ("keys", colons, limit // 128),
    ):
        if count > most:
            raise InputError(origin, [f"has more than {most} {what}, the most that is read{hint}"])
    if len(raw) > HEAD_BYTES:
        needed = len(raw) + BYTES_A_VALUE * commas + BYTES_A_LIST * brackets
        require_memory(origin, f"{commas:,} values", needed)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(origin, [f"is not UTF-8 at byte {error.start}"]) from None


def _repeated_keys(data: dict[str, Any]) -> list[Fault]:
    faults: list[Fault] = []
    # Not by recursion: JSON may be nested deeper than Python calls.
    waiting: list[tuple[Any, Place]] = [(data, ())]
    while waiting and len(faults) < FAULTS_PER_FILE:
        value, place = waiting.pop()
        faults += [Fault(path_of((*place, key)), "stands more than once") for key in getattr(value, "repeated", ())]
        inside = value.items() if isinstance(value, dict) else enumerate(value)
        waiting += reversed([(item, (*place, key)) for key, item in inside if isinstance(item, dict | list)])
    return faults[:FAULTS_PER_FILE]


def load(path: str | os.PathLike[str]) -> Instance:
    """Read an instance file of any problem.

    Returns
    -------
    DeploymentInstance, OffloadingInstance or TwoTimescaleInstance

    Raises
    ------
    InputError
        With every fault of the file, each with the path of the value.

    """
    origin = str(path)
    data, faults = _parse(path, INSTANCE_BYTES)
    unread = False
    try:
        kind = INSTANCES[head_of(data, INSTANCES, origin)]
        requests = data.get("requests")
        if kind is TwoTimescaleInstance and isinstance(requests, dict) and "npz" in requests:
            try:
                data["requests"] = _requests_of(read_npz(path, requests, "requests", REQUEST_ARRAYS, ("model",)))
            except InputError as error:
                faults += error.faults
                unread = True
        with _no_collection():
            instance = kind.from_dict(data, origin)
    except InputError as error:
        # Where the npz cannot be read, its place in the file was refused already.
        faults += [fault for fault in error.faults if not (unread and fault.path.startswith("requests"))]
    if faults:
        raise InputError(origin, faults)
    return instance


Kind = TypeVar("Kind", bound=Instance)


def loaded(given: Instance | str | os.PathLike[str]) -> Instance:
    """Return an instance, read from its file where a path is given.

    Raises
    ------
    InputError
        If it is neither, or with every fault of the file.

    """
    if isinstance(given, Instance):
        return given
    if isinstance(given, str | os.PathLike):
        return load(given)
    raise InputError("instance", [f"must be an instance or the path of one, got {type(given).__name__}"])


def loaded_as(kind: type[Kind], given: Instance | str | os.PathLike[str]) -> Kind:
    """Return an instance of one problem, read from its file where a path is given.

    Raises
    ------
    InputError
        As `loaded`, or if it is of another problem.

    """
    instance = loaded(given)
    if not isinstance(instance, kind):
        problem = next(name for name, known in INSTANCES.items() if known is kind)
        raise InputError(instance.name, [f"must be of problem {problem}"])
    return instance


def _requests_of(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Requests out of an npz; what stands where there is no request is ignored, whatever it is."""
    model = arrays["model"]
    none = model == -1
    return {
        key: np.where(none, np.nan, values) if key != "model" and values.shape == model.shape else values
        for key, values in arrays.items()
    }


def npz_beside(path: str | os.PathLike[str], holder: Any, field: str) -> tuple[Path, list[Fault]]:
    """Return the path of the npz file that ``{"npz": "name"}`` in the file at `path` points to, and other faults of it.

    Raises
    ------
    InputError
        If `holder`, which stands there as `field`, names no file in the same folder.

    """
    at = f"{field}.npz" if field else "npz"
    if not isinstance(holder, dict) or "npz" not in holder:
        raise InputError(str(path), [Fault(at, "is required, but missing")])
    name = holder["npz"]
    faults = [
        Fault(path_of((field, key) if field else (key,)), "unknown key beside npz") for key in holder if key != "npz"
    ]
    if not isinstance(name, str) or name in ("", ".", "..") or set(name) & set("/\\\0"):
        raise InputError(str(path), [*faults, Fault(at, f"must be a file name without a folder, got {describe(name)}")])
    return Path(path).parent / name, faults


def read_npz(
    path: str | os.PathLike[str],
    holder: dict[str, Any],
    field: str,
    keys: tuple[str, ...],
    integers: tuple[str, ...] = (),
) -> dict[str, np.ndarray]:
    """Read the arrays of the npz file that ``{"npz": "name"}`` in the file at `path` points to.

    Parameters
    ----------
    holder : dict
        The object with the key ``npz``.
    field : str
        Its path in the file, for errors.
    keys : tuple of str
        Arrays that must be there, and no others.
    integers : tuple of str
        Those of them that are int64; the others are float64.

    Raises
    ------
    InputError
        With every fault: the name has a folder in it, the file is not there or no npz, its keys are not `keys`, an
        array is of another type or order.

    """
    origin = str(path)
    at = f"{field}.npz" if field else "npz"
    beside, faults = npz_beside(path, holder, field)
    said = quote(beside.name)
    try:
        with zipfile.ZipFile(beside) as archive:
            members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
            if set(members) != set(keys) or len(archive.infolist()) != len(keys):
                got = ", ".join(map(quote, sorted(members)[:10])) or "none"
                faults.append(Fault(at, f"{said} must have exactly the arrays {', '.join(keys)}, got {got}"))
            elif sum(member.file_size for member in members.values()) > NPZ_BYTES:
                faults.append(
                    Fault(at, f"{said} is larger than {NPZ_BYTES // 2**20} MiB unpacked, the most that is read")
                )
            if faults:
                raise InputError(origin, faults)
            arrays = {}
            for key in keys:
                try:
                    arrays[key] = _array_of(archive.read(members[key]), np.int64 if key in integers else np.float64)
                except ValueError as error:
                    faults.append(Fault(f"{at}: {key}", str(error)))
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(origin, [*faults, Fault(at, f"there is no file {said} beside this one")]) from None
    except OSError as error:
        raise InputError(origin, [*faults, Fault(at, f"{said} cannot be read: {error.strerror or error}")]) from None
    except Exception:  # zipfile, and what unpacks for it, raise all kinds of errors on a damaged file
        raise InputError(origin, [*faults, Fault(at, f"{said} is not an npz file, or is damaged")]) from None
    if faults:
        raise InputError(origin, faults)
    return arrays


def _array_of(raw: bytes, kind: type) -> np.ndarray:
    """Return the array in the bytes of an npy file; ValueError says what is wrong with it.

    Not numpy's reader: that one makes the array that the header promises before it looks whether it is there.
    """
    file = io.BytesIO(raw)
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
    except Exception:
        raise ValueError("is not an array in npy format") from None
    expected = np.dtype(kind).newbyteorder("<")
    if dtype != expected:
        raise ValueError(
            f"must be an array of {expected.name}, little-endian, got {dtype.str if dtype.names is None else 'records'}"
        )
    if fortran:
        raise ValueError("must be in C order, got Fortran order")
    if min(shape, default=0) < 0 or math.prod(shape) * expected.itemsize != len(raw) - file.tell():
        raise ValueError(f"does not hold what its shape {list(shape)} says")
    return np.frombuffer(raw, expected, offset=file.tell()).reshape(shape).astype(kind)


def save(instance: Instance, path: str | os.PathLike[str]) -> None:
    """Write an instance as JSON; the old file stays until the new one is whole.

    A long episode's requests go into an npz file beside it, see `save_with_arrays`.
    """
    if isinstance(instance, TwoTimescaleInstance) and _is_long(instance):
        arrays = {key: getattr(instance.requests, key) for key in REQUEST_ARRAYS}
        save_with_arrays(path, instance.model_copy(update={"requests": None}).to_dict(), "requests", arrays)
        return
    write_text(path, dump_json(instance.to_dict()))


def _is_long(instance: TwoTimescaleInstance) -> bool:
    return instance.requests is not None and instance.requests.model.size > INLINE_REQUESTS


def save_with_arrays(
    path: str | os.PathLike[str], data: dict[str, Any], field: str, arrays: Mapping[str, np.ndarray]
) -> None:
    """Write a JSON file and beside it the npz that it names; whoever reads them finds both old or both new.

    The npz's name is the JSON's with the hash of the arrays, so that a new one replaces no old one: what counts is the
    moment in which the JSON is replaced. After that the npz that the old JSON named is removed.

    Parameters
    ----------
    path : path
        The JSON file.
    data : dict
        Its object without the arrays.
    field : str
        Where ``{"npz": name}`` stands in it; empty = the object itself.
    arrays : mapping of str to ndarray
        Written as `read_npz` reads them: C order, little-endian, nothing pickled.

    Raises
    ------
    InputError
        If a file cannot be written.

    """
    target = Path(path)
    packed = io.BytesIO()
    # Any: NumPy's own keywords stand beside those for arrays.
    plain: dict[str, Any] = {
        key: np.ascontiguousarray(array, array.dtype.newbyteorder("<")) for key, array in arrays.items()
    }
    np.savez_compressed(packed, **plain)
    content = packed.getvalue()
    name = f"{target.stem}-{hashlib.sha256(content).hexdigest()[:16]}.npz"
    before = _npz_named_in(target, field)
    write_bytes(target.parent / name, content)
    write_text(target, dump_json(data | ({field: {"npz": name}} if field else {"npz": name})))
    if before not in (None, name) and re.fullmatch(rf"{re.escape(target.stem)}-[0-9a-f]{{16}}\.npz", str(before)):
        with contextlib.suppress(OSError):
            os.unlink(target.parent / str(before))


def _npz_named_in(path: Path, field: str) -> str | None:
    """Return the npz that a JSON file points to, None where there is no such file or pointer."""
    try:
        data: Any = read_json(path) if path.is_file() else {}
    except InputError:
        return None
    holder = data.get(field) if field else data
    name = holder.get("npz") if isinstance(holder, dict) else None
    return name if isinstance(name, str) else None


def dump_json(data: dict[str, Any]) -> str:
    """JSON text of `data`: one line for each key of the file, one for each item of a list of objects or of lists."""
    parts = []
    for key, value in data.items():
        head = f" {json.dumps(key)}: "
        if isinstance(value, list) and value and isinstance(value[0], dict | list):
            rows = ",\n".join(f"  {_compact(item)}" for item in value)
            parts.append(f"{head}[\n{rows}\n ]")
        else:
            parts.append(head + _compact(value))
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _compact(value: Any) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a file at once: beside it first, then renamed, so that it is never half written.

    Raises
    ------
    InputError
        If the file cannot be written there.

    """
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file at once, as `write_text` does."""
    try:
        target = Path(os.path.realpath(path))  # a link stays one, what it points to is replaced
        if target.is_dir():
            raise IsADirectoryError(None, "is a folder, expected a file")
        if target.exists() and not target.is_file():  # a pipe or a device cannot be replaced
            target.write_bytes(content)
            return
        handle, name = tempfile.mkstemp(prefix=f".{target.name[:40]}.", dir=target.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            mode = target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask()
            os.chmod(name, mode)
            os.replace(name, target)
        except BaseException:
            os.unlink(name)
            raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(str(path), [f"cannot be written: {reason}"]) from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
