"""Instances of the offloading problem: where each user's task runs, with how many denoising steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from aigc_opt.errors import Fault
from aigc_opt.instance.base import Instance, length, listed, names_in, number, objects, repeated_names
from aigc_opt.instance.fields import (
    Array,
    Integer,
    Name,
    Names,
    NonNegative,
    Positive,
    Record,
    Sizes,
    array_field,
    list_of,
    quote,
)
from aigc_opt.instance.profile import OffloadingModel

RESERVED_PLACES = ("local", "rejected")


class Device(Record):
    """A user's own processor: highest speed (10^9 cycles/s) and energy coefficient (J per Gcycle per GHz^2)."""

    max_ghz: Positive
    kappa: NonNegative


class User(Record):
    """A user with one task.

    Attributes
    ----------
    uplink_mbps, downlink_mbps : ndarray, shape (E,)
        Rates to and from each server, 10^6 bit/s; 0 in either = out of reach.
    max_delay_s, battery_j : float
        Deadline of the task and energy that it may take from the battery.
    device : Device or None
        None = cannot run the task itself.
    rejection_penalty : float or None
        Cost of not serving the task; None = must be served.

    """

    name: Name
    model: Name
    weight: NonNegative = 1.0
    input_mbit: NonNegative
    output_mbit: NonNegative
    max_delay_s: Positive
    battery_j: NonNegative
    transmit_power_w: Positive
    uplink_mbps: Annotated[Array, array_field("E", minimum=0)]
    downlink_mbps: Annotated[Array, array_field("E", minimum=0)]
    device: Device | None
    rejection_penalty: NonNegative | None = None


class OffloadingServer(Record):
    """An edge server: speed shared by its tasks (10^9 cycles/s) and the models that it can run (None = all)."""

    name: Name
    ghz: Positive
    hosts: Names | None = None


class StepGrid(Record):
    """Step counts allowed: ``min``, ``min + stride``, ... up to ``max``, which may lie off the grid."""

    min: Annotated[Integer, Field(ge=0)]
    max: Annotated[Integer, Field(ge=0)]
    stride: Annotated[Integer, Field(ge=1)]


class OffloadingWeights(Record):
    """Weights of the three terms of a served task."""

    quality: NonNegative = 1.0
    delay: NonNegative = 1.0
    energy: NonNegative = 1.0


class OffloadingInstance(Instance):
    """Users with one task each, edge servers (possibly none), and the grid of denoising steps."""

    problem: Literal["offloading"]
    models: Annotated[tuple[OffloadingModel, ...], list_of(OffloadingModel)]
    users: Annotated[tuple[User, ...], list_of(User)]
    servers: Annotated[tuple[OffloadingServer, ...], list_of(OffloadingServer, least=0)]
    steps: StepGrid
    weights: OffloadingWeights = OffloadingWeights()

    @classmethod
    def _sizes(cls, data: dict[str, Any]) -> Sizes:
        servers = data.get("servers")
        return {
            "E": len(servers) if isinstance(servers, list | tuple) else None,
            "M": length(data.get("models")),
        }

    @classmethod
    def _cross_faults(cls, data: dict[str, Any]) -> Iterator[Fault]:
        for key in ("models", "users", "servers"):
            yield from repeated_names(data, key)
        models = set(names_in(data, "models"))
        for index, name in enumerate(names_in(data, "servers")):
            if name in RESERVED_PLACES:
                yield Fault(f"servers[{index}].name", f"must not be {name!r}, which is the name of another place")
        for index, user in enumerate(objects(data, "users")):
            if user.get("model") and isinstance(user["model"], str) and user["model"] not in models:
                yield Fault(f"users[{index}].model", f"must be the name of a model, got {quote(user['model'])}")
        for index, server in enumerate(objects(data, "servers")):
            seen: set[str] = set()
            for place, name in enumerate(listed(server.get("hosts"))):
                if not isinstance(name, str) or not name:
                    continue
                if name not in models:
                    yield Fault(f"servers[{index}].hosts[{place}]", f"must be the name of a model, got {quote(name)}")
                elif name in seen:
                    yield Fault(f"servers[{index}].hosts[{place}]", f"must be unique, but {quote(name)} stands twice")
                seen.add(name)
        yield from _step_faults(data)


def _step_faults(data: dict[str, Any]) -> Iterator[Fault]:
    steps = data.get("steps")
    if not isinstance(steps, dict):
        return
    low, high = number(steps.get("min")), number(steps.get("max"))
    if low is not None and high is not None and low > high:
        yield Fault("steps.max", f"must be >= steps.min ({low:g}), got {high:g}")
    if low is None:
        return
    for index, model in enumerate(objects(data, "models")):
        quality, workload = model.get("quality"), model.get("workload")
        if 0 <= low < 1 and isinstance(quality, dict) and quality.get("kind") == "power":
            message = f"a power curve has no value below 1 step, but steps.min is {low:g}"
            yield Fault(f"models[{index}].quality", message)
        if isinstance(workload, dict):
            base, slope = number(workload.get("base_gcycles")), number(workload.get("per_step_gcycles"))
            if base == 0 and slope is not None and (slope == 0 or (slope > 0 and low == 0)):
                yield Fault(f"models[{index}].workload", f"must be > 0 at every step count, but is 0 at {low:g} steps")
