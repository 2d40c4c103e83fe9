"""Shared fixtures: where instances are, deterministic hypothesis, tiny random instances of every shape."""

from __future__ import annotations

import dataclasses
import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from aigc_opt.instance.base import Instance

ROOT = Path(__file__).resolve().parent.parent

# Who starts the tests in the background of a shell starts them deaf to Ctrl-C, which several of them send.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples every time and no deadline, so that a slow machine does not fail.
settings.register_profile(
    "fixed", derandomize=True, deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("fixed")


def changed(instance: Instance, **values) -> Instance:
    """An instance with other values of some keys of its file."""
    return type(instance).from_dict(instance.to_dict() | values)


def edited(data: dict, *path_and_value) -> dict:
    """A copy of parsed JSON with another value at a path (keys and indices, then the value; KeyError = without it)."""
    *path, last, value = path_and_value
    data = json.loads(json.dumps(data))
    inner = data
    for key in path:
        inner = inner[key]
    if value is KeyError:
        del inner[last]
    else:
        inner[last] = value
    return data


def broken(solution: Any, **changes: dict[tuple[int, ...], float]) -> Any:
    """A copy of a solution of arrays with some entries set: ``cached={(0, 1): 2}``."""
    arrays = {
        field.name: np.array(getattr(solution, field.name), dtype=float) for field in dataclasses.fields(solution)
    }
    for name, entries in changes.items():
        for place, value in entries.items():
            arrays[name][place] = value
    return dataclasses.replace(solution, **arrays)


@pytest.fixture(scope="session")
def examples() -> Path:
    return ROOT / "instances" / "examples"


@pytest.fixture(scope="session")
def optima(examples: Path) -> dict[str, float | None]:
    return json.loads((examples / "optima.json").read_text())


def _instances(text: str) -> tuple[int, int]:
    """Seeds of `--random-instances`: N = those below N, FIRST:END = those in between."""
    first, _, last = text.rpartition(":")
    return int(first or 0), int(last)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--random-instances", type=_instances, default=(0, 24), metavar="N|FIRST:END",
        help="random instances on which all methods are compared (tests/test_all_methods.py)",
    )  # fmt: skip
