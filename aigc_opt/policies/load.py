"""From what a user writes after ``--policy`` to a policy: a name, ``module:name``, a model file, or decisions.

A policy of two timescales has ``cache(view)`` (from a `FrameView`: scores or 0/1 of the models) or ``allocate(view)``
(from a `SlotView`: `Grants` of one row, or a dict or tuple of its four arrays), or both. What it lacks is filled in:
the optimal allocation, the `Popular` cache. A plain function is a `cache`. A class is called with the `Station`.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aigc_opt.envs import features
from aigc_opt.envs.actions import raw_grants_of, slot_action_size
from aigc_opt.envs.station import Grants, Station
from aigc_opt.envs.views import FrameView, SlotView
from aigc_opt.errors import InputError, MissingSolverError
from aigc_opt.instance.files import SOLUTION_BYTES, npz_beside, read_json
from aigc_opt.policies.learned import ENDINGS, Act, act_of, choice, probe
from aigc_opt.policies.two_timescale import Popular
from aigc_opt.problems.two_timescale.enumeration import feasible_caches

AGENT_FILE = "agent.json"
"""What a folder with an agent holds."""

NUMBERED_CACHES = 4096
"""With at most so many feasible caches a network may choose one by its number."""


DECISIONS = (".json", ".npz")
"""Endings of files of decisions."""


@dataclass(frozen=True)
class Decisions:
    """A file of decisions made elsewhere, or a folder with one for each episode, named by its seed."""

    path: Path

    def of(self, seed: int) -> Path:
        """Return the file of an episode, see `files`."""
        return self.files([seed])[0]

    def files(self, seeds: Iterable[int]) -> list[Path]:
        """Return the files of episodes, one for each seed.

        Raises
        ------
        InputError
            If some are not there.

        """
        found, missing = [], []
        for seed in seeds:
            ways = [self.path / f"{seed}{ending}" for ending in DECISIONS] if self.path.is_dir() else [self.path]
            file = next((way for way in ways if way.is_file()), None)
            if file is None:
                missing.append(seed)
            else:
                found.append(file)
        if missing:
            first, more = missing[0], f" and {len(missing) - 1} more" if missing[1:] else ""
            words = f"has no decisions for seed {first}{more}: there is no file {first}.json or {first}.npz in it"
            if not any(file.suffix in DECISIONS for file in self.path.glob("*")):
                words = f"holds no agent (there is no {AGENT_FILE} in it) and no decisions ({first}.json and so on)"
            raise InputError(str(self.path), [words])
        return found


CACHE_ALONE = ":cache"
"""Behind an agent's folder: only its caches, with the optimal allocation."""


@dataclass(frozen=True)
class AgentFolder:
    """A folder with an agent of `aigc_opt.learning`; with `alone` only its caches are asked for."""

    path: Path
    alone: bool

    def policy(self, station: Station, seed: int) -> Any:
        """Return the agent as a policy; `seed` is that of the noise that its actor starts from.

        Raises
        ------
        InputError
            If its files are damaged, or it is for another number of models.
        MissingSolverError
            If PyTorch is not installed.

        """
        try:
            from aigc_opt.learning.policy import LearnedCache, LearnedPolicy
        except ImportError:
            words = 'a learned agent needs torch, which is not installed; get it with: pip install "aigc_opt[learn]"'
            raise MissingSolverError(words) from None
        return (LearnedCache if self.alone else LearnedPolicy)(self.path, station, seed)


def path_in(spec: str) -> Path:
    """Return the file or folder that a policy's name means."""
    return Path(spec.removesuffix(CACHE_ALONE))


def is_path(spec: str) -> bool:
    """Whether a policy's name means a file or folder: it has an ending or a separator of one, or is there."""
    return Path(spec).suffix in (*ENDINGS, *DECISIONS) or os.sep in spec or path_in(spec).exists()


def files_of(spec: str) -> list[Path]:
    """Return the files that a policy's path stands for: all in a folder; of decisions also the npz that they name."""
    path = path_in(spec)
    if not path.is_file():
        return sorted(file for file in path.rglob("*") if file.is_file())
    found = [path]
    if path.suffix == ".json":
        data = read_json(path, SOLUTION_BYTES)
        for holder in (data, data.get("solution")):  # bare, or in a result
            if isinstance(holder, dict) and "npz" in holder:
                found.append(npz_beside(path, holder, "")[0])
    return found


def decisions_or_act(spec: str) -> Decisions | AgentFolder | Act:
    """Read a file or folder that a policy's name means.

    Raises
    ------
    InputError
        If there is none, or it is of no kind that is known.

    """
    path = path_in(spec)
    if (path / AGENT_FILE).is_file():
        return AgentFolder(path, spec.endswith(CACHE_ALONE))
    if spec.endswith(CACHE_ALONE):
        there = path.is_dir()
        why = f"there is no {AGENT_FILE} in it" if there else "there is no such folder"
        raise InputError(str(path), [f"must be the folder of an agent, but {why}"])
    if path.is_dir() or (path.is_file() and path.suffix in DECISIONS):
        return Decisions(path)
    if not path.exists():
        raise InputError(spec, ["there is no such file or folder"])
    if path.suffix not in ENDINGS:
        endings = ", ".join((*DECISIONS, *ENDINGS))
        raise InputError(spec, [f"must end in {endings}, or be a folder of decisions or of an agent"])
    return act_of(path)


def imported(spec: str) -> Any:
    """Import ``module:name``; modules of the working folder too.

    Raises
    ------
    InputError
        If there is no such module or name.

    """
    module, _, name = spec.partition(":")
    if not module or not name:
        raise InputError(
            "policy", [f"must be a known name, module:name, a model file, an agent's folder or decisions, got {spec!r}"]
        )
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except ModuleNotFoundError as error:
        other = f", and no folder {module!r} with an agent" if spec.endswith(CACHE_ALONE) else ""
        raise InputError(f"policy {spec}", [f"there is no module {error.name!r}{other}"]) from None
    except AttributeError:
        raise InputError(f"policy {spec}", [f"module {module!r} has no {name!r}"]) from None
    return found


class _Function:
    """A function that chooses caches, as a policy."""

    def __init__(self, cache: Any):
        self.cache = cache


def made(policy: Callable[..., Any], spec: str, how: str, *arguments: Any) -> Any:
    """Make a policy of a class that somebody brings.

    Raises
    ------
    InputError
        If it cannot be called like that, or fails.

    """
    try:
        return policy(*arguments)
    except (Exception, SystemExit) as error:
        words = f"a class is called {how}, and this one failed: {type(error).__name__}: {error}"
        raise InputError(f"policy {spec}", [words]) from error


def two_timescale_policy(found: Any, station: Station, spec: str) -> Any:
    """Make a policy of two timescales from what was imported or given: an instance, a class, or a function.

    Raises
    ------
    InputError
        If a class cannot be made, or it has neither `cache` nor `allocate`.

    """
    if isinstance(found, type):
        found = made(found, spec, "with the Station", station)
    if not (hasattr(found, "cache") or hasattr(found, "allocate")):
        if not callable(found):
            words = f"must be a function or have cache(view) or allocate(view), got {type(found).__name__}"
            raise InputError(f"policy {spec}", [words])
        found = _Function(found)
    return found


class NetworkPolicy:
    """A policy of two timescales from a network, whose sizes say which environment it was trained on.

    ===================  ==============================================  ============================================
    input                output                                          trained on
    ===================  ==============================================  ============================================
    `frame_size`         M numbers (scores, or 0/1)                      caching
    `frame_size`         one integer, or a score for each feasible one   caching with ``actions="discrete"``
    `slot_size`          M + `slot_action_size`                          joint
    `slot_size`          `slot_action_size`                              allocation (the cache is `Popular`)
    ===================  ==============================================  ============================================

    Raises
    ------
    InputError
        If the sizes are none of these.

    """

    def __init__(self, act: Act, station: Station, spec: str):
        self.act, self.station = act, station
        self.caches: np.ndarray | None = None
        models, part = station.models, slot_action_size(station)
        frame, slot = features.frame_size(station), features.slot_size(station)
        for kind, answer in probe(act, {"frame": frame, "slot": slot}):
            if kind == "frame" and answer.size == models and answer.ndim:
                self.cache = self._scores
                return
            if kind == "frame" and self._numbered(answer):
                self.cache = self._chosen
                return
            if kind == "slot" and answer.size == models + part:
                self.cache, self.allocate = self._joint_scores, self._joint_grants
                return
            if kind == "slot" and answer.size == part:
                self.cache, self.allocate = Popular(station).cache, self._grants
                return
        words = f"its sizes fit no environment of this instance (observations of {frame} or {slot} numbers)"
        raise InputError(spec, [words])

    def _numbered(self, answer: np.ndarray) -> bool:
        self.caches = feasible_caches(self.station.template, NUMBERED_CACHES)
        return self.caches is not None and (answer.size in (1, len(self.caches)))

    def _scores(self, view: FrameView) -> np.ndarray:
        return np.asarray(self.act(view.vector()), float)

    def _chosen(self, view: FrameView) -> np.ndarray:
        assert self.caches is not None
        return self.caches[choice(self.act(view.vector()), len(self.caches))].astype(float)

    def _joint_scores(self, view: FrameView) -> np.ndarray:
        return np.asarray(self.act(view.joint_vector()), float)[: self.station.models]

    def _joint_grants(self, view: SlotView) -> Grants:
        action = np.asarray(self.act(view.vector()), float)[None, self.station.models :]
        return raw_grants_of(self.station, view.now, view.cache[None], action)

    def _grants(self, view: SlotView) -> Grants:
        return raw_grants_of(self.station, view.now, view.cache[None], np.asarray(self.act(view.vector()))[None])
