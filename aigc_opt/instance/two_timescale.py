"""Instances of the two-timescale problem: episodes of requests, or the process that episodes are drawn from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator

from aigc_opt.errors import Fault
from aigc_opt.instance.base import Instance, length, number, objects, repeated_names
from aigc_opt.instance.fields import (
    FAULTS_PER_ARRAY,
    Array,
    ArrayRule,
    Integer,
    NonNegative,
    Positive,
    Real,
    Record,
    Sizes,
    array_field,
    fault,
    faults_at,
    list_of,
    plain_numbers,
)
from aigc_opt.instance.profile import Latency, TwoTimescaleModel

REQUEST_ARRAYS = ("model", "input_mbit", "output_mbit", "uplink_gain", "downlink_gain")


class Edge(Record):
    """The base station with its edge server; rates in 10^6 bit/s or 10^9 bit/s, bandwidths in 10^6 Hz."""

    storage_gb: NonNegative
    steps_per_slot: NonNegative
    min_steps: NonNegative = 1.0
    max_steps: Positive
    uplink_mhz: Positive
    downlink_mhz: Positive
    power_w: Positive
    noise_dbm_per_hz: Annotated[float, Field(ge=-3000, le=3000)] = -174.0  # so that in watts it is a double, above 0
    backhaul_mbps: Positive
    cloud_gbps: Positive
    io_gb_per_s: Positive


class Cloud(Record):
    """The cloud: steps that it takes for every request, and its latency."""

    steps: NonNegative
    latency: Latency


class TwoTimescaleWeights(Record):
    """Weights of the three terms of the objective."""

    delay: NonNegative = 0.7
    quality: NonNegative = 0.3
    switching: NonNegative = 0.0


class IndexRule(ArrayRule):
    """Entries are indices into the models, or null."""

    def rules(
        self, flat: np.ndarray, absent: np.ndarray, shape: tuple[int, ...], info: ValidationInfo
    ) -> dict[str, np.ndarray]:
        """Return what entries must be, in words, and which are not."""
        found = super().rules(flat, absent, shape, info)
        models = ((info.context or {}).get("sizes") or {}).get("M")
        if models is not None:
            found[f"must be null or an index below {models} (models)"] = (flat >= models) & ~absent
        return found


class RequestRule(ArrayRule):
    """Entries must be there, and gains above 0, where `model` says that there is a request."""

    def rules(
        self, flat: np.ndarray, absent: np.ndarray, shape: tuple[int, ...], info: ValidationInfo
    ) -> dict[str, np.ndarray]:
        """Return what entries must be, in words, and which are not."""
        found = super().rules(flat, absent, shape, info)
        model = info.data.get("model")
        if model is not None and model.shape == shape:  # else it is refused, and where requests are is not known
            asked = model.reshape(-1) >= 0
            found["is required where there is a request"] = absent & asked
            if str(info.field_name).endswith("gain"):
                found["must be > 0"] = asked & (flat == 0)
        return found


_MODEL = BeforeValidator(IndexRule(("T", "K", "U"), minimum=0, null=True, integer=True))
_PER_REQUEST = BeforeValidator(RequestRule(("T", "K", "U"), minimum=0, null=True))


class Requests(Record):
    """One realised episode; arrays [T, K, U], NaN in the last four where there is no request.

    Attributes
    ----------
    model : ndarray of int64
        Index of the requested model, -1 = no request.
    input_mbit, output_mbit : ndarray
        Sizes, 10^6 bit.
    uplink_gain, downlink_gain : ndarray
        Channel power gains, linear.

    """

    model: Annotated[Array, _MODEL]
    input_mbit: Annotated[Array, _PER_REQUEST]
    output_mbit: Annotated[Array, _PER_REQUEST]
    uplink_gain: Annotated[Array, _PER_REQUEST]
    downlink_gain: Annotated[Array, _PER_REQUEST]

    @field_validator(*REQUEST_ARRAYS[1:])
    @classmethod
    def _given_where_asked(cls, values: np.ndarray, info: ValidationInfo) -> np.ndarray:
        model = info.data.get("model")
        if model is None:  # refused itself: where there are requests is not known
            return values
        if values.shape != model.shape:
            raise fault(f"must have the shape of model, {list(model.shape)}, got {list(values.shape)}")
        values = np.where(model >= 0, values, np.nan)
        values.setflags(write=False)
        return values


def _ordered(value: np.ndarray) -> np.ndarray:
    if value[0] > value[1]:
        raise fault(f"must be [lo, hi] with lo <= hi, got [{value[0]:g}, {value[1]:g}]")
    return value


Size = Annotated[Array, array_field("2", minimum=0), AfterValidator(_ordered)]
Distance = Annotated[Array, array_field("2", minimum=0, exclusive=True), AfterValidator(_ordered)]


class PathLoss(Record):
    """Path loss ``intercept + slope * log10(distance in km)`` dB."""

    intercept: Real = 128.1
    slope: Real = 37.6


class Process(Record):
    """The law that episodes are drawn from.

    Attributes
    ----------
    zipf_exponents : ndarray, shape (J,)
        Popularity of each state of the chain: P(model m) proportional to (1 + m)^-exponent.
    transition : ndarray, shape (J, J)
        Probabilities of the next frame's state, a row for each state.
    input_mbit, output_mbit, distance_m : ndarray, shape (2,)
        Ranges of uniform draws.

    """

    frames: Annotated[Integer, Field(ge=1)]
    slots: Annotated[Integer, Field(ge=1)]
    zipf_exponents: Annotated[Array, array_field("J", minimum=0)]
    transition: Annotated[Array, array_field("J", "J", minimum=0)]
    initial_state: Annotated[Integer, Field(ge=0)]
    request_probability: Annotated[float, Field(ge=0, le=1)] = 1.0
    input_mbit: Size
    output_mbit: Size
    distance_m: Distance
    path_loss_db: PathLoss = PathLoss()
    fading: Literal["rayleigh", "none"]

    @field_validator("transition")
    @classmethod
    def _rows_are_laws(cls, transition: np.ndarray) -> np.ndarray:
        sums = transition.sum(axis=1)
        wrong = np.flatnonzero(abs(sums - 1) > 1e-9)[:FAULTS_PER_ARRAY].tolist()
        if wrong:
            raise faults_at("transition", [((state,), f"must sum to 1, got {sums[state]:.12g}") for state in wrong])
        return transition

    @field_validator("initial_state")
    @classmethod
    def _is_a_state(cls, initial_state: int, info: ValidationInfo) -> int:
        exponents = info.data.get("zipf_exponents")
        if exponents is not None and initial_state >= len(exponents):
            raise fault(f"must be a state below {len(exponents)}, got {initial_state}")
        return initial_state


class TwoTimescaleInstance(Instance):
    """A base station over T frames of K slots with U users: one episode (`requests`) or its law (`process`)."""

    problem: Literal["two_timescale"]
    models: Annotated[tuple[TwoTimescaleModel, ...], list_of(TwoTimescaleModel)]
    edge: Edge
    user_power_w: Annotated[Array, array_field("U", minimum=0, exclusive=True)]
    cloud: Cloud
    serve_all_hits: bool = True
    initial_cache: Annotated[Array, array_field("M", binary=True)] | None = None
    weights: TwoTimescaleWeights = TwoTimescaleWeights()
    requests: Requests = None  # type: ignore[assignment]
    process: Process = None  # type: ignore[assignment]

    @classmethod
    def _sizes(cls, data: dict[str, Any]) -> Sizes:
        process = data.get("process")
        states = process.get("zipf_exponents") if isinstance(process, dict) else None
        return {
            "M": length(data.get("models")),
            "U": length(data.get("user_power_w")),
            "J": length(states),
        }

    @classmethod
    def _cross_faults(cls, data: dict[str, Any]) -> Iterator[Fault]:
        yield from repeated_names(data, "models")
        given = [key for key in ("requests", "process") if key in data]
        if len(given) != 1:
            yield Fault("", f"must have exactly one of requests and process, got {' and '.join(given) or 'neither'}")
        edge = data.get("edge")
        edge = edge if isinstance(edge, dict) else {}
        low, high = number(edge.get("min_steps", 1)), number(edge.get("max_steps"))
        if low is not None and high is not None and low > high:
            yield Fault("edge.max_steps", f"must be >= edge.min_steps ({low:g}), got {high:g}")
        cloud = data.get("cloud")
        steps = number(cloud.get("steps")) if isinstance(cloud, dict) else None
        for index, model in enumerate(objects(data, "models")):
            quality = model.get("quality")
            if isinstance(quality, dict) and quality.get("kind") == "power":
                for name, least in (("edge.min_steps", low), ("cloud.steps", steps)):
                    if least is not None and 0 <= least < 1:
                        message = f"a power curve has no value below 1 step, but {name} is {least:g}"
                        yield Fault(f"models[{index}].quality", message)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of the instance; whichever of `requests` and `process` it has."""
        data = super().to_dict()
        data = {key: value for key, value in data.items() if value is not None or key not in ("requests", "process")}
        if self.requests is not None:
            asked = self.requests.model
            data["requests"]["model"] = plain_numbers(np.where(asked < 0, np.nan, asked))
        return data
