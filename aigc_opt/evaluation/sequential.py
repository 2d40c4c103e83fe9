"""Policies of deployment and offloading that somebody brings, taken through a rollout of the problem.

A function of a view (`DeploymentView`, `OffloadingView`), or an object with ``act(view)``. For deployment it returns
(stored, loaded), each (E, M), or an action; for offloading (place's name, steps), or an action. A model file gets
``view.vector()`` and returns an action.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from aigc_opt.envs.deployment_rollout import DeploymentRollout
from aigc_opt.envs.offloading_rollout import OffloadingRollout
from aigc_opt.errors import InputError
from aigc_opt.instance.base import Instance
from aigc_opt.policies.load import made
from aigc_opt.result import Solution

ROLLOUTS: dict[str, Callable[[Any, bool], DeploymentRollout | OffloadingRollout]] = {
    "deployment": DeploymentRollout,
    "offloading": OffloadingRollout,
}

Turn = tuple[Solution | None, float, int]
"""What a policy decided (None where it found no point), its seconds, and how often it was asked."""


def sequential_player(found: Any, instance: Instance, name: str, strict: bool) -> Callable[[], Turn]:
    """Return a function that plays the instance once.

    Parameters
    ----------
    found : object
        A class (called without arguments), a function of a view, an object with `act`, or a network's `act`, which
        is a function of a vector and is known by its module.

    Raises
    ------
    InputError
        If it cannot be called, or a class cannot be made.

    """
    vector = getattr(found, "__module__", "") == "aigc_opt.policies.learned"
    if inspect.isclass(found):
        found = made(found, name, "without arguments")
    act = found if callable(found) and not hasattr(found, "act") else getattr(found, "act", None)
    if act is None:
        raise InputError(f"policy {name}", [f"must be a function or have act(view), got {type(found).__name__}"])

    def play() -> Turn:
        rollout, spent = ROLLOUTS[instance.problem](instance, strict), 0.0
        decisions = 0
        while not rollout.over:
            view = rollout.view()
            started = time.perf_counter()
            answer = act(view.vector()) if vector else act(view)
            spent += time.perf_counter() - started
            decisions += 1
            rollout.act(_action(answer, rollout, f"policy {name}"))
        return rollout.solution(), spent, decisions

    return play


def _action(answer: Any, rollout: Any, origin: str) -> np.ndarray:
    """Read what a policy returned as an action of the rollout."""
    if isinstance(answer, tuple) and len(answer) == 2:
        if isinstance(rollout, OffloadingRollout) and isinstance(answer[0], str):
            try:
                return rollout.action(*answer)
            except ValueError:
                raise InputError(origin, [f"there is no place {answer[0]!r}"]) from None
        if isinstance(rollout, DeploymentRollout):
            stored, loaded = (np.asarray(part, float).ravel() for part in answer)
            answer = np.concatenate([2.0 * loaded - 1.0, 2.0 * stored - 1.0])
    action = np.asarray(answer, float).reshape(-1)
    if action.size != rollout.action_size:
        raise InputError(origin, [f"an action must have {rollout.action_size} numbers, got {action.size}"])
    return action
