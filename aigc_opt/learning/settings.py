"""Settings of a training: one frozen object, read from JSON, kept beside the agent."""

from __future__ import annotations

import os
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from aigc_opt.errors import InputError
from aigc_opt.instance.fields import Integer, NonNegative, Positive, Record, faults_of
from aigc_opt.instance.files import read_json

Count = Annotated[Integer, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]

ALGORITHMS = {"t2drl": "diffusion", "ddpg": "plain"}
"""What the actor of each algorithm is; everything else is the same."""


class Settings(Record):
    """How an agent is trained. All defaults are choices of this project.

    Attributes
    ----------
    actor : str
        ``diffusion`` (D3PG) or ``plain`` (DDPG).
    frames : int
        Length of the training, in frames of every environment together; rounds are whole, so that it ends with the
        first round (an episode in every environment) that reaches it.
    environments : int
        Episodes that run side by side.
    denoising_steps : int
        Reverse steps L of the diffusion actor.
    beta_min, beta_max : float
        Ends of the variance-preserving noise schedule.
    candidates : int
        Changed copies of the actor's action that are tried when the agent acts; the critic's favourite is taken.
    searches : int
        How often in a row; 0 = the actor's action as it is. While it trains it explores instead.
    width : int
        Neurons of hidden layers.
    batch : int
        Slots, or frames, of one update.
    slot_memory, frame_memory : int
        Slots and frames that are remembered.
    slot_discount, frame_discount : float
        What one slot gets changes nothing in the next, and without costs of switching frames are apart too: discounts
        near 0 leave out noise. A `frame_discount` of None is 0.9 where switching costs, else 0.1.
    soft_update : float
        Share by which targets follow in each update.
    actor_rate, critic_rate, cache_rate : float
        Learning rates of Adam at the start; they fall linearly to a tenth.
    exploration : float
        Standard deviation of the noise on raw actions (which are in [-1, 1]) at the start; falls linearly to a tenth.
    random_actions : float
        Share of slots that get a uniform raw action.
    epsilon_end, epsilon_share : float
        The share of random caches falls linearly from 1 to `epsilon_end` in the first `epsilon_share` of the training.
    warm_up : int
        Slots that are remembered before the first update.
    validations, validation_episodes : int
        How often during the training the agent as it stands is tried, and on how many episodes; the best one is kept.

    """

    actor: Literal["diffusion", "plain"] = "diffusion"
    frames: Count = 24_000
    environments: Count = 32
    denoising_steps: Count = 5
    beta_min: Positive = 0.1
    beta_max: Positive = 10.0
    candidates: Count = 16
    searches: Annotated[Integer, Field(ge=0)] = 2
    width: Count = 64
    batch: Count = 128
    slot_memory: Count = 100_000
    frame_memory: Count = 20_000
    slot_discount: Annotated[float, Field(ge=0, lt=1)] = 0.0
    frame_discount: Annotated[float, Field(ge=0, lt=1)] | None = None
    soft_update: Share = 0.005
    actor_rate: Positive = 1e-3
    critic_rate: Positive = 1e-3
    cache_rate: Positive = 1e-3
    exploration: NonNegative = 0.5
    random_actions: Share = 0.1
    epsilon_end: Share = 0.02
    epsilon_share: Share = 0.5
    warm_up: Count = 2_000
    validations: Count = 15
    validation_episodes: Count = 50


def read_settings(path: str | os.PathLike[str] | None, algorithm: str) -> Settings:
    """Return the settings of an algorithm, with what a JSON file says in the place of defaults.

    Raises
    ------
    InputError
        If the algorithm is unknown, or the file has unknown keys or values out of range.

    """
    if algorithm not in ALGORITHMS:
        raise InputError("--algorithm", [f"must be one of {', '.join(ALGORITHMS)}, got {algorithm!r}"])
    data = {} if path is None else read_json(path)
    try:
        return Settings.model_validate({"actor": ALGORITHMS[algorithm], **data})
    except ValidationError as error:
        raise InputError(str(path), faults_of(error)) from None
