"""One episode of an evaluation: its hindsight, and what each policy makes of it, as the checker says.

The law of everything here is common random numbers: the episode is drawn once, and every policy meets the same one.
"""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from aigc_opt.api import load_solution, solve
from aigc_opt.envs.rollout import Rollout
from aigc_opt.envs.station import Grants, Slots, Station
from aigc_opt.errors import AigcOptError, InputError
from aigc_opt.evaluation.nonanticipative import PlannedPolicy, seed_of
from aigc_opt.evaluation.relaxation import relaxed_bound
from aigc_opt.instance.base import Instance
from aigc_opt.instance.sample import draw_episodes, sample
from aigc_opt.instance.two_timescale import TwoTimescaleInstance
from aigc_opt.policies.load import (
    AgentFolder,
    Decisions,
    NetworkPolicy,
    decisions_or_act,
    imported,
    is_path,
    two_timescale_policy,
)
from aigc_opt.policies.two_timescale import BASELINES, Popular
from aigc_opt.problems.problem import problem_of
from aigc_opt.problems.two_timescale.solution import TwoTimescaleSolution
from aigc_opt.result import Check, Limit, Result, Solution

HINDSIGHT_GAP = 1e-4
"""Relative gap to which each realised episode is solved; its certified lower bound counts, whatever the gap."""

OFFLINE = "offline"
"""The clairvoyant: the point of the hindsight solve, replayed."""

RELAXED = 1 << 20
"""Sets the seeds of penalties apart from those of replications."""

VIOLATIONS_KEPT = 5
"""Of a refused episode so many violations are told."""


@dataclass(frozen=True)
class Setting:
    """What an evaluation's episodes have in common; goes to every worker.

    Attributes
    ----------
    instance : Instance
        An instance with requests of any problem, or a process.
    policies : mapping of str to object
        Under each name what was asked for: a string, or an object of Python.
    seed : int
        Episode e has seed + e.
    strict : bool
        Whether raw decisions go to the checker as they are.
    time_limit : float or None
        Wall seconds of each hindsight solve.
    reachable : PlannedPolicy or None
        The policy near the best that knows only the present.
    relax : bool
        Whether to compute the information relaxation's bound.

    """

    instance: Instance
    policies: Mapping[str, Any]
    seed: int = 0
    strict: bool = False
    time_limit: float | None = None
    reachable: PlannedPolicy | None = None
    relax: bool = False


@dataclass
class Played:
    """What a policy made of an episode.

    Attributes
    ----------
    solution : Solution or None
        None where it found none.
    same_choices : Solution or None
        The same caches with the optimal allocation; None where there is no such thing, or it is `solution` itself.
    seconds, decisions : float, int
        Time that the policy took, and how often it was asked.

    """

    solution: Solution | None
    same_choices: Solution | None = None
    optimal_allocation: bool = False
    seconds: float = 0.0
    decisions: int = 0


class Episodes:
    """Plays episodes of one setting, in one process."""

    def __init__(self, setting: Setting):
        self.setting = setting
        instance = setting.instance
        self.station: Station  # of two timescales, like what the present episode has below
        self.slots: Slots
        self.states: np.ndarray | None = None
        self.two_timescale = isinstance(instance, TwoTimescaleInstance)
        self.brought: dict[str, Any] = {}
        self.recorded: list[Decisions] = []
        if isinstance(instance, TwoTimescaleInstance):
            self.station = Station(instance)
        make = self._two_timescale if self.two_timescale else self._one_shot
        self.players = {name: make(name, spec) for name, spec in setting.policies.items()}

    def try_policies(self) -> None:
        """Take each policy that somebody brings through the first frame of the first episode, before long work.

        For two timescales alone: elsewhere nothing is sampled before the policies are asked. An object is copied, and
        the common generators of random numbers are put back, so that no later number depends on it.

        Raises
        ------
        InputError
            If a policy fails, or its decisions are of no such shape or no numbers.

        """
        if not self.brought:
            return
        self._draw(0)
        for name, policy in self.brought.items():
            try:
                policy = copy.deepcopy(policy)
            except Exception:  # cannot be copied, for a reason of its own: a trial could change its later decisions
                continue
            with _faults_of(name, self.setting.seed), _randomness_kept():
                self._one_frame(Rollout(self.station, self.slots, self.states), policy, self.setting.strict, name)

    def read_decisions(self, number: int) -> None:
        """Read the decisions made elsewhere of so many episodes, before long work; they are read again when played.

        Raises
        ------
        InputError
            If some are missing, malformed, or of another episode.

        """
        seeds = range(self.setting.seed, self.setting.seed + number)
        for decisions in self.recorded:
            decisions.files(seeds)
        for seed in seeds if self.recorded else ():
            instance = self.setting.instance
            if isinstance(instance, TwoTimescaleInstance) and instance.process is not None:
                instance = sample(instance, seed)
            for decisions in self.recorded:
                load_solution(decisions.of(seed), instance)

    def play(self, number: int) -> dict[str, Any]:
        """Play an episode with every policy.

        Returns
        -------
        dict
            A JSON object: ``hindsight`` (a lower bound, or None), ``reachable`` and ``relaxed`` (costs, or None), and
            for every policy ``cost``, ``terms``, ``same_choices`` (cost), ``violations``, ``seconds``, ``decisions``.

        """
        setting = self.setting
        seed = setting.seed + number
        instance = self._draw(number)
        result = solve(instance, gap=HINDSIGHT_GAP, time_limit=setting.time_limit)
        if result.limit is Limit.INTERRUPT:
            raise KeyboardInterrupt
        record: dict[str, Any] = {
            "episode": number, "hindsight": result.lower_bound, "reachable": None, "relaxed": None, "policies": {}
        }  # fmt: skip
        check = problem_of(instance).check
        if setting.reachable is not None:
            record["reachable"] = check(instance, self._roll(setting.reachable, strict=False).solution).objective
        if setting.relax and isinstance(setting.instance, TwoTimescaleInstance) and self.states is not None:
            record["relaxed"] = relaxed_bound(
                setting.instance, self.station, self.slots, self.states, seed_of(setting.seed, RELAXED, number),
                setting.time_limit,
            )  # fmt: skip
        for name, player in self.players.items():
            with _faults_of(name, seed):
                played = player(instance, seed, result)
            record["policies"][name] = _told(played, instance, check)
        return record

    def _draw(self, number: int) -> Instance:
        """Return an episode's instance; sets what rollouts of it need."""
        instance, seed = self.setting.instance, self.setting.seed + number
        if not isinstance(instance, TwoTimescaleInstance):
            return instance
        if instance.process is not None:
            instance = sample(instance, seed)
        station = self.station
        self.slots = station.slots_in(instance)
        if station.process is not None:
            self.states = draw_episodes(station.process, station.users, station.models, [seed])[0][0]
        return instance

    # ----------------------------------------------------------------------------------------------- two timescales

    def _two_timescale(self, name: str, spec: Any) -> Callable[[Instance, int, Result], Played]:
        """Make a player of a policy: a function of episode, seed and hindsight."""
        station, strict = self.station, self.setting.strict
        if isinstance(spec, str) and spec == OFFLINE:
            return lambda instance, seed, result: Played(result.solution, optimal_allocation=True)
        if isinstance(spec, str) and spec in BASELINES:
            make = BASELINES[spec]
            return lambda instance, seed, result: self._roll(make(station, seed), strict=False)
        if isinstance(spec, str) and is_path(spec):
            found = decisions_or_act(spec)
            if isinstance(found, Decisions):
                return self._recorded(found)
            if isinstance(found, AgentFolder):
                agent = self.brought[name] = found.policy(station, self.setting.seed)
                return lambda instance, seed, result: self._roll(agent.seeded(seed), strict, name)
            policy = self.brought[name] = NetworkPolicy(found, station, spec)
            return lambda instance, seed, result: self._roll(policy, strict, name)
        found = imported(spec) if isinstance(spec, str) else spec
        self.brought[name] = two_timescale_policy(found, station, name)  # made anew for every episode
        return lambda instance, seed, result: self._roll(two_timescale_policy(found, station, name), strict, name)

    def _recorded(self, decisions: Decisions) -> Callable[[Instance, int, Result], Played]:
        self.recorded.append(decisions)

        def play(instance: Instance, seed: int, result: Result) -> Played:
            solution = load_solution(decisions.of(seed), instance)
            if not isinstance(solution, TwoTimescaleSolution):
                return Played(solution)
            return Played(solution, self._with_optimal_allocation(np.round(solution.cached) > 0))

        return play

    def _roll(self, policy: Any, strict: bool, name: str = "policy") -> Played:
        """Take a policy through the episode, showing it only what it may know."""
        rollout, station = Rollout(self.station, self.slots, self.states), self.station
        spent = 0.0
        while not rollout.over:
            spent += self._one_frame(rollout, policy, strict, name)
        alone = getattr(policy, "allocate", None) is None
        same = None if alone else self._with_optimal_allocation(rollout.cached)
        decisions = station.frames * (1 + station.slots)
        return Played(rollout.solution(), same, alone, spent, decisions)

    def _one_frame(self, rollout: Rollout, policy: Any, strict: bool, name: str) -> float:
        """Take a policy through the next frame; returns the seconds that its decisions took."""
        station = self.station
        choose = getattr(policy, "cache", None) or Popular(station).cache
        allocate = getattr(policy, "allocate", None)
        frame = rollout.frame_view()
        started = time.perf_counter()
        scores = _numbers(choose(frame), (station.models,), f"policy {name}", "cache(view)")
        spent = time.perf_counter() - started
        rollout.enter(scores > 0 if strict else station.amend_caches(scores[None])[0])
        if allocate is None:
            started = time.perf_counter()
            rollout.serve_optimally()
            return spent + time.perf_counter() - started
        for _ in range(station.slots):
            view = rollout.slot_view()
            started = time.perf_counter()
            raw = _grants(allocate(view), station, f"policy {name}")
            spent += time.perf_counter() - started
            rollout.serve(raw if strict else station.amend_grants(view.now, view.cache[None], raw))
        return spent

    def _with_optimal_allocation(self, cached: np.ndarray) -> Solution:
        rollout = Rollout(self.station, self.slots, self.states)
        for cache in cached:
            rollout.enter(cache)
            rollout.serve_optimally()
        return rollout.solution()

    # ------------------------------------------------------------------------------------ deployment and offloading

    def _one_shot(self, name: str, spec: Any) -> Callable[[Instance, int, Result], Played]:
        """Make a player of a method's name, of decisions, or of a policy that a rollout of the problem asks."""
        setting = self.setting
        problem = problem_of(setting.instance)
        if isinstance(spec, str) and spec == OFFLINE:
            return lambda instance, seed, result: Played(result.solution)
        if isinstance(spec, str) and spec in problem.methods:

            def by_method(instance: Instance, seed: int, result: Result) -> Played:
                started = time.perf_counter()
                found = solve(instance, method=spec, seed=seed, bound=False, time_limit=setting.time_limit)
                return Played(found.solution, seconds=time.perf_counter() - started, decisions=1)

            return by_method
        if isinstance(spec, str) and is_path(spec):
            found = decisions_or_act(spec)
            if isinstance(found, Decisions):
                return self._recorded(found)
        else:
            found = imported(spec) if isinstance(spec, str) else spec
        from aigc_opt.evaluation.sequential import sequential_player

        play = sequential_player(found, setting.instance, name, setting.strict)

        def by_policy(instance: Instance, seed: int, result: Result) -> Played:
            solution, seconds, decisions = play()
            return Played(solution, seconds=seconds, decisions=decisions)

        return by_policy


@contextmanager
def _faults_of(name: str, seed: int) -> Iterator[None]:
    """Say of an exception that it is the policy's; a policy that ends the program is at fault like any other."""
    try:
        yield
    except AigcOptError:
        raise
    except (Exception, SystemExit) as error:
        words = f"failed in the episode of seed {seed}: {type(error).__name__}: {error}"
        raise InputError(f"policy {name}", [words]) from error


@contextmanager
def _randomness_kept() -> Iterator[None]:
    """Put the common generators of Python and NumPy back to where they were."""
    ours, numpys = random.getstate(), np.random.get_state()  # noqa: NPY002 - somebody may use it
    try:
        yield
    finally:
        random.setstate(ours)
        np.random.set_state(numpys)  # noqa: NPY002


def _told(played: Played, instance: Instance, check: Callable[[Any, Any], Check]) -> dict[str, Any]:
    """Return what the checker says of a policy's episode, as a JSON object."""
    told: dict[str, Any] = {
        "cost": None, "terms": None, "same_choices": None, "violations": [],
        "seconds": played.seconds, "decisions": played.decisions,
    }  # fmt: skip
    if played.solution is None:
        told["violations"] = [{"constraint": "no_decisions", "where": "episode", "amount": 1.0}]
        return told
    checked = check(instance, played.solution)
    if not checked.feasible or checked.objective is None:
        none = [{"constraint": "no_value", "where": "episode", "amount": 1.0}]
        told["violations"] = [v.to_dict() for v in checked.violations[:VIOLATIONS_KEPT]] or none
        return told
    told |= {"cost": checked.objective, "terms": checked.terms}
    if played.optimal_allocation:
        told["same_choices"] = checked.objective
    elif played.same_choices is not None:
        same = check(instance, played.same_choices)
        told["same_choices"] = same.objective if same.feasible else None
    return told


def _numbers(value: Any, shape: tuple[int, ...], origin: str, what: str) -> np.ndarray:
    try:
        found = np.asarray(value, float)
    except (TypeError, ValueError):
        raise InputError(origin, [f"{what} must return numbers, got {type(value).__name__}"]) from None
    if found.shape != shape:
        raise InputError(origin, [f"{what} must return an array of shape {list(shape)}, got {list(found.shape)}"])
    if np.isnan(found).any():
        raise InputError(origin, [f"{what} must return numbers, got NaN"])
    return found


_PARTS = ("at_edge", "steps", "uplink_share", "downlink_share")


def _grants(value: Any, station: Station, origin: str) -> Grants:
    """Read what `allocate` returned: `Grants`, a dict or a tuple of its four arrays, each (U,) or (1, U)."""
    if isinstance(value, Grants):
        value = {name: getattr(value, name) for name in _PARTS}
    if isinstance(value, tuple | list) and len(value) == len(_PARTS):
        value = dict(zip(_PARTS, value, strict=True))
    if not isinstance(value, Mapping) or set(value) != set(_PARTS):
        raise InputError(origin, [f"allocate(view) must return Grants, or {', '.join(_PARTS)}"])
    parts = {}
    for name in _PARTS:
        flat = np.asarray(value[name], float).reshape(-1)
        parts[name] = _numbers(flat, (station.users,), origin, f"{name} of allocate(view)")[None]
    parts["at_edge"] = parts["at_edge"] > 0.5
    return Grants(**parts)
