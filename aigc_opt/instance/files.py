"""The strict door: files are read here, and nothing is written that is not whole.

Every reader raises `InputError` with all faults of a file; nothing else comes out of a bad file.
"""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from aigc_opt.errors import Fault, InputError
from aigc_opt.instance.base import Instance, head_of
from aigc_opt.instance.deployment import DeploymentInstance
from aigc_opt.instance.fields import path_of
from aigc_opt.instance.offloading import OffloadingInstance
from aigc_opt.instance.two_timescale import REQUEST_ARRAYS, TwoTimescaleInstance

INSTANCES: dict[str, type[Instance]] = {
    "deployment": DeploymentInstance,
    "offloading": OffloadingInstance,
    "two_timescale": TwoTimescaleInstance,
}

INSTANCE_BYTES = 128 * 2**20
"""Largest JSON instance that is read; episodes that are longer come as npz."""

SOLUTION_BYTES = 2 * 2**30
"""Largest JSON solution or result that is read."""


class _Object(dict):
    """A JSON object that remembers which of its keys stood there twice."""

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
    origin = str(path)
    text = _read_text(path, limit)
    repeated = False

    def as_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal repeated
        made = _Object(pairs)
        if len(made) != len(pairs):
            repeated = True
            keys = [key for key, _ in pairs]
            made.repeated = tuple(dict.fromkeys(key for key in keys if keys.count(key) > 1))
        return made

    try:
        data = json.loads(text, object_pairs_hook=as_object)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise InputError(origin, [f"is not JSON: {error.msg[0].lower()}{error.msg[1:]} at {where}"]) from None
    except RecursionError:
        raise InputError(origin, ["is nested too deep"]) from None
    except ValueError as error:  # an integer of more digits than Python converts
        raise InputError(origin, [f"is not JSON that can be read: {error}"]) from None
    if not isinstance(data, dict):
        raise InputError(origin, ["must hold one JSON object"])
    if repeated:
        raise InputError(origin, _repeated_keys(data, ()))
    return data


def _read_text(path: str | os.PathLike[str], limit: int) -> str:
    origin = str(path)
    try:
        with open(path, "rb") as file:
            raw = file.read(limit + 1)
    except IsADirectoryError:
        raise InputError(origin, ["is a folder, expected a file"]) from None
    except FileNotFoundError:
        raise InputError(origin, ["there is no such file"]) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(origin, [f"cannot be read: {reason}"]) from None
    if len(raw) > limit:
        hint = "; long arrays of requests can be put into an npz" if limit == INSTANCE_BYTES else ""
        raise InputError(origin, [f"is larger than {limit // 2**20} MiB, the most that is read{hint}"])
    if not raw.strip():
        raise InputError(origin, ["is empty, expected one JSON object"])
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(origin, [f"is not UTF-8 at byte {error.start}"]) from None


def _repeated_keys(value: Any, place: tuple[int | str, ...]) -> list[Fault]:
    faults = []
    if isinstance(value, dict):
        faults += [Fault(path_of((*place, key)), "stands more than once") for key in getattr(value, "repeated", ())]
        for key, item in value.items():
            faults += _repeated_keys(item, (*place, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            if isinstance(item, dict | list):
                faults += _repeated_keys(item, (*place, index))
    return faults


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
    data = read_json(path)
    kind = INSTANCES[head_of(data, INSTANCES, origin)]
    if isinstance(data.get("requests"), dict) and "npz" in data["requests"]:
        data["requests"] = read_npz(path, data["requests"], "requests", REQUEST_ARRAYS)
    return kind.from_dict(data, origin)


def read_npz(path: str | os.PathLike[str], holder: dict[str, Any], field: str, keys: tuple[str, ...]) -> dict[str, Any]:
    """Read the arrays of the npz file that ``{"npz": "name"}`` in the file at `path` points to.

    Raises
    ------
    InputError
        If the name has a folder in it, the file is not there, or its keys are not exactly `keys`.

    """
    origin = str(path)
    name = holder["npz"]
    if set(holder) != {"npz"}:
        raise InputError(origin, [Fault(field, "must have no other key beside npz")])
    if not isinstance(name, str) or not name or Path(name).name != name:
        raise InputError(origin, [Fault(f"{field}.npz", "must be a file name without a folder")])
    place = Path(path).parent / name
    try:
        with np.load(place, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("not an archive of arrays")
            found = set(archive.files)
            if found != set(keys):
                raise InputError(
                    str(place),
                    [f"must have exactly the arrays {', '.join(keys)}, got {', '.join(sorted(found))}"],
                )
            arrays = {key: archive[key] for key in keys}
    except FileNotFoundError:
        raise InputError(origin, [Fault(f"{field}.npz", f"there is no file {name!r} beside this one")]) from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(str(place), [f"is not an npz file that can be read: {error}"]) from None
    return arrays


def save(instance: Instance, path: str | os.PathLike[str]) -> None:
    """Write an instance as JSON; the old file stays until the new one is whole."""
    write_text(path, dump_json(instance.to_dict()))


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
    target = Path(path)
    try:
        if target.is_dir():
            raise IsADirectoryError(None, "is a folder, expected a file")
        if target.exists() and not target.is_file():  # a pipe or a device cannot be replaced
            target.write_text(text, encoding="utf-8")
            return
        handle, name = tempfile.mkstemp(prefix=f".{target.name[:40]}.", dir=target.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            mode = target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask()
            os.chmod(name, mode)
            os.replace(name, target)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise InputError(str(path), [f"cannot be written: {error.strerror or error}"]) from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
