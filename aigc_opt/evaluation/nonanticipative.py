"""What a policy that knows only the present can reach, under a process's law: a policy near it, and how near.

What is known (formulations, 3): before a frame's cache is chosen, the law, everything before the frame, and the chain's
state in the frame; in a slot, that slot's requests, sizes and gains. Hence:

- In a slot, with the cache given, everything that its cost depends on is known and no later slot depends on the
  allocation: the optimal allocation is within reach of such a policy, slot by slot.
- Given the state j, a frame's requests are independent of all that was seen, so the past says nothing more: with
  ``c_j(x) = E[cost of a frame's slots with cache x | state j]`` (transfers left out: no decision about caches changes
  them) the best that can be reached is a dynamic program over (state, cache before) ::

      W_t(j, y) = min_x  switch(y, x) + c_j(x) + sum_i P(j, i) W_(t+1)(i, x)

  whose value is W_1 at the initial state and the initial cache,

  and without a cost of switching ``sum_t sum_j P(state_t = j) min_x c_j(x)``: frames decouple.

If the state were *not* observed, policies would know less and the value could only be higher, so the lower bound below
would stay one.

`c` is not known, but can be sampled. For tables c', the program's value DP(c') is a minimum over policies (each
decides from (t, j, y)) of functions linear in c': it is concave. So for an unbiased sample average c' of c, or of
a lower bound of it, ``E[DP(c')] <= DP(c)`` (Jensen; Mak, Morton and Wood 1999). For a fixed policy with cost J, whose
sampled cost J(c') is unbiased (or too high), on the same sample ::

    gap = J(c') - DP(c') >= 0          E[gap] >= J - (the best that can be reached)

Replications of `gap` are independent, so Student's t gives a confidence interval of the mean, and the mean cost of the
policy in the evaluated episodes, less the mean gap, is the statistical lower bound: it needs no cost to be estimated
apart from those episodes, and shares their luck with all policies that are compared with it. The policy comes from a
training sample of its own, so that its cost in the episodes is an out-of-sample upper bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from aigc_opt.api import solve
from aigc_opt.control import Control
from aigc_opt.envs.station import Station, instance_with
from aigc_opt.envs.views import FrameView
from aigc_opt.instance.sample import draw_requests
from aigc_opt.instance.two_timescale import Process, TwoTimescaleInstance
from aigc_opt.problems.two_timescale.enumeration import feasible_caches
from aigc_opt.problems.two_timescale.episode import Episode
from aigc_opt.problems.two_timescale.frames import Frames
from aigc_opt.problems.two_timescale.shares import Transfers
from aigc_opt.problems.two_timescale.solution import TwoTimescaleSolution
from aigc_opt.result import Limit

REPLICATIONS = 10
MOST_CACHES = 2048
"""Feasible caches that are all valued in every state; with more of them single frames are solved instead."""

SLOTS, TRAINING_SLOTS = 400, 1600
"""Slots that are drawn for each state, in a replication and for the policy."""

VALUES = 400_000
"""Slots times caches that are valued for a state at most; with many caches fewer slots are drawn."""

VALUE_RELATIVE = 1e-5
"""Relative gap of the sampled slots' costs; the bound uses their lower ends, the policy's cost their upper ends."""

SOLVE_GAP = 1e-3
"""Relative gap of single frames that are solved instead."""


def seed_of(*words: int) -> int:
    """Return a seed for `PCG64` that differs from those of episodes and from that of other words."""
    return int.from_bytes(np.random.SeedSequence([0xA1C, *words]).generate_state(4).tobytes(), "little") | 1 << 127


def draw_requests_in(station: Station, state: int, number: int, seed: int) -> dict[str, np.ndarray]:
    """Draw requests of one frame of so many slots in one state, (1, number, U), by the law of `aigc-opt sample`."""
    law = {name: getattr(station.process, name) for name in Process.model_fields}
    law |= {"frames": 1, "slots": number, "initial_state": state}
    return draw_requests(Process.model_construct(**law), station.users, station.models, seed)


def state_chances(process: Process) -> np.ndarray:
    """Probabilities of the states in each frame, shape (T, J)."""
    chance = [np.eye(len(process.transition))[process.initial_state]]
    for _ in range(process.frames - 1):
        chance.append(chance[-1] @ process.transition)
    return np.array(chance)


# --------------------------------------------------------------------------------------------- dynamic programming


@dataclass(frozen=True, eq=False)
class Plan:
    """The frames as a decision process over caches (S, M): chances of states, costs of switching. Sum scale.

    Attributes
    ----------
    caches : ndarray of bool, shape (S, M)
    chance : ndarray, shape (T, J)
    transition : ndarray, shape (J, J)
    first : ndarray, shape (S,)
        Switching from the initial cache.
    go : ndarray, shape (S, S), or None
        Switching from a cache to another; None where it costs nothing.

    """

    caches: np.ndarray
    chance: np.ndarray
    transition: np.ndarray
    first: np.ndarray
    go: np.ndarray | None

    @classmethod
    def of(cls, station: Station, caches: np.ndarray) -> Plan:
        """Make the plan of a station with a process."""
        e, after = station.template, caches.astype(float)
        first = station.switch_costs(e.initial, caches)
        go = (after @ e.switch)[None, :] - (after * e.switch) @ after.T if e.switches else None
        return cls(caches, state_chances(station.process), station.process.transition, first, go)

    def best(self, value: np.ndarray) -> tuple[float, list[np.ndarray]]:
        """Solve the program for a table of costs (J, S).

        Returns
        -------
        float
            The least expected cost of all frames.
        list of ndarray of int
            The policy: without switching one array (J,), the cache by state; with it T arrays, the first (J,), the
            others (J, S) by state and cache before.

        """
        if self.go is None:
            return float((self.chance @ value.min(axis=1)).sum()), [value.argmin(axis=1)]
        frames = len(self.chance)
        ahead = np.zeros(value.shape)  # what is expected after a frame in (state, cache)
        policy: list[np.ndarray] = []
        for _ in range(frames - 1):
            ways = [self.go + (value[j] + ahead[j])[None, :] for j in range(len(value))]
            policy.append(np.array([way.argmin(axis=1) for way in ways]))
            ahead = self.transition @ np.array([way.min(axis=1) for way in ways])
        last = self.first[None, :] + value + ahead
        policy.append(last.argmin(axis=1))
        return float(self.chance[0] @ last.min(axis=1)), policy[::-1]

    def cost(self, value: np.ndarray, policy: list[np.ndarray]) -> float:
        """Return the expected cost of a policy for a table of costs (J, S)."""
        states = np.arange(len(value))
        if self.go is None:
            return float((self.chance @ value[states, policy[0]]).sum())
        number = len(self.caches)
        mass = np.zeros(value.shape)  # probability of (state, cache) in the frame
        mass[states, policy[0]] = self.chance[0]
        total = float((mass * (value + self.first)).sum())
        for t in range(1, len(self.chance)):
            before = self.transition.T @ mass  # probability of (state now, cache before)
            moved = self.go[np.arange(number)[None, :], policy[t]]
            total += float((before * (moved + np.take_along_axis(value, policy[t], axis=1))).sum())
            mass = np.zeros(value.shape)
            np.add.at(mass, (states[:, None], policy[t]), before)
        return total


class PlannedPolicy:
    """The policy of a plan: caches by (frame, state, cache before), the optimal allocation in slots."""

    def __init__(self, plan: Plan, policy: list[np.ndarray]):
        self.caches, self.policy, self.coupled = plan.caches, policy, plan.go is not None
        self.number = {cache.tobytes(): s for s, cache in enumerate(plan.caches)}

    def cache(self, view: FrameView) -> np.ndarray:
        """Return the cache of a frame."""
        if not self.coupled or view.frame == 0:
            chosen = self.policy[0][view.state]
        else:
            chosen = self.policy[view.frame][view.state, self.number[np.ascontiguousarray(view.cache).tobytes()]]
        return self.caches[chosen].astype(float)


# ------------------------------------------------------------------------------------------------------- sampling


@dataclass(frozen=True, eq=False)
class Sampler:
    """Draws tables of costs. Whole tables where the caches are few; else single frames are solved.

    Attributes
    ----------
    instance : TwoTimescaleInstance
        With a process.
    station : Station
    caches : ndarray of bool, shape (S, M), or None
        All caches that a policy may choose; None = too many.

    """

    instance: TwoTimescaleInstance
    station: Station
    caches: np.ndarray | None

    @classmethod
    def of(cls, instance: TwoTimescaleInstance, station: Station) -> Sampler:
        """Choose the way.

        Where a cache may leave too few steps for its hits (`Station.safe`), only the empty one is certain to be
        feasible; a policy has to be, whatever is asked for.
        """
        if not station.safe:
            return cls(instance, station, np.zeros((1, station.models), bool))
        return cls(instance, station, feasible_caches(station.template, MOST_CACHES))

    @property
    def possible(self) -> bool:
        """Whether the best that can be reached can be bounded this way."""
        return self.caches is not None or not self.station.template.switches

    def slots(self, most: int) -> int:
        """Return how many slots to draw for a state."""
        return most if self.caches is None else int(np.clip(VALUES // len(self.caches), 50, most))

    def table(self, state: int, number: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Sample the expected costs of a frame with each cache: upper and lower ends, each (S,)."""
        station = self.station
        sample = station.episode(station.slots_of(draw_requests_in(station, state, number, seed)), 1)
        assert self.caches is not None  # else frames are solved, not tabulated
        of = np.zeros(len(self.caches), np.int64)
        upper, lower = _exact(sample, of, self.caches)
        return upper * station.slots / number, lower * station.slots / number

    def solved(self, state: int, number: int, seed: int, fixed: np.ndarray | None) -> dict[str, Any]:
        """Solve a sampled frame: a cache, a certified lower bound of all caches' cost, the cost of a `fixed` one."""
        station = self.station
        drawn = draw_requests_in(station, state, number, seed)
        result = solve(instance_with(self.instance, drawn), gap=SOLVE_GAP)
        if result.limit is Limit.INTERRUPT:
            raise KeyboardInterrupt
        assert isinstance(result.solution, TwoTimescaleSolution) and result.lower_bound is not None
        sample = station.episode(station.slots_of(drawn), 1)
        # The bound holds for slots and transfers together; less the transfers' least cost, or more, it stays one.
        lower = result.lower_bound * number - Transfers.of(sample).cost
        chosen = np.round(result.solution.cached[0]).astype(bool)
        upper = np.nan
        if fixed is not None:
            upper = float(_exact(sample, np.array([0]), fixed[None])[0][0])
        factor = station.slots / number
        return {"cache": chosen, "lower": lower * factor, "upper": upper * factor}


def _exact(sample: Episode, frames: np.ndarray, caches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return upper and lower values of `Frames.exact`; Ctrl-C raises, because half of a sample is none."""
    control = Control()
    with control.catching_interrupts():
        found = Frames(sample).exact(frames, caches, VALUE_RELATIVE, control)
    if control.interrupted:
        raise KeyboardInterrupt
    return found


@dataclass(frozen=True, eq=False)
class Nonanticipative:
    """A policy that knows only the present, and replications of how much better another one could be.

    Attributes
    ----------
    policy : PlannedPolicy
    gaps : ndarray, shape (R,)
        Shares of the objective, each >= 0 but for rounding; their mean estimates a number that is at least what the
        policy's expected cost is above the best one's.
    way : str
        How, in words.

    """

    policy: PlannedPolicy
    gaps: np.ndarray
    way: str


Mapper = Callable[[Callable[..., Any], Iterable[tuple[Any, ...]]], Iterable[Any]]


def nonanticipative(
    instance: TwoTimescaleInstance,
    seed: int,
    station: Station | None = None,
    map_calls: Mapper | None = None,
    told: Callable[[int, int], None] | None = None,
) -> Nonanticipative | None:
    """Find a policy near the best that knows only the present, and bound how near; None where that is out of reach.

    Parameters
    ----------
    instance : TwoTimescaleInstance
        With a process.
    seed : int
        Of the samples, which are independent of all episodes.
    map_calls : callable, optional
        ``map_calls(function, arguments)`` calls the function for each tuple of arguments and returns the results in
        order, in parallel perhaps.
    told : callable, optional
        Called at first and after each sample with how many there are, and how many there will be.

    """
    station = station or Station(instance)
    sampler = Sampler.of(instance, station)
    if not sampler.possible:
        return None
    calls: list[tuple[Any, ...]]
    mapped = map_calls or (lambda function, calls: (function(*call) for call in calls))
    done, whole = 0, (REPLICATIONS + 1) * station.states

    def run(function: Callable[..., Any], calls: Iterable[tuple[Any, ...]]) -> Iterable[Any]:
        nonlocal done
        for found in mapped(function, calls):
            done += 1
            if told is not None:
                told(done, whole)
            yield found

    if told is not None:
        told(done, whole)
    states = range(station.states)
    few, many = sampler.slots(SLOTS), sampler.slots(TRAINING_SLOTS)
    rounds = [seed_of(seed, 0), *(seed_of(seed, r) for r in range(1, REPLICATIONS + 1))]
    scale = station.template.scale
    if sampler.caches is not None:
        calls = [(sampler, j, few if r else many, seed_of(s, j)) for r, s in enumerate(rounds) for j in states]
        tables = list(run(_table, calls))
        upper, lower = (
            np.array([table[k] for table in tables]).reshape(len(rounds), station.states, -1) for k in range(2)
        )
        plan = Plan.of(station, sampler.caches)
        _, policy = plan.best(upper[0])
        gaps = [plan.cost(upper[r], policy) - plan.best(lower[r])[0] for r in range(1, len(rounds))]
        way = f"all {len(plan.caches)} feasible caches in {station.states} states"
        way += ", dynamic programming over (state, cache)" if plan.go is not None else ", frame by frame"
    else:
        found = list(run(_solved, [(sampler, j, many, seed_of(rounds[0], j), None) for j in states]))
        plan = Plan.of(station, np.unique(np.array([item["cache"] for item in found]), axis=0))
        number = [int((plan.caches == item["cache"]).all(axis=1).argmax()) for item in found]
        policy = [np.array(number)]
        calls = [(sampler, j, few, seed_of(s, j), plan.caches[number[j]]) for s in rounds[1:] for j in states]
        solved = list(run(_solved, calls))
        width = np.array([item["upper"] - item["lower"] for item in solved]).reshape(REPLICATIONS, -1)
        gaps = (width @ plan.chance.sum(axis=0)).tolist()
        way = f"sampled frames solved in {station.states} states, frame by frame"
    way += f"; {REPLICATIONS} replications of {few} slots a state, policy from {many}"
    if not station.safe:
        way += "; only policies that are feasible whatever is asked for are bounded, which here cache nothing"
    return Nonanticipative(PlannedPolicy(plan, policy), scale * np.array(gaps), way)


def _table(sampler: Sampler, *words: Any) -> tuple[np.ndarray, np.ndarray]:
    return sampler.table(*words)


def _solved(sampler: Sampler, *words: Any) -> dict[str, Any]:
    return sampler.solved(*words)
