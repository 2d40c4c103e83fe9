"""A point of the offloading problem: where each user's task runs, with how many steps, for how long."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import ValidationError

from aigc_opt.errors import Fault, InputError
from aigc_opt.instance.fields import Name, Real, Record, faults_of, list_of, quote
from aigc_opt.instance.offloading import OffloadingInstance

if TYPE_CHECKING:
    import pandas as pd

LOCAL, REJECTED = "local", "rejected"
"""Names of the two places that are no server."""


class _TaskFile(Record):
    user: Name
    place: Name
    steps: Real | None
    computation_s: Real | None


class _SolutionFile(Record):
    tasks: Annotated[tuple[_TaskFile, ...], list_of(_TaskFile)]


@dataclass(frozen=True)
class Assignment:
    """One task: its place (a server's name, ``local`` or ``rejected``), its steps and its seconds of computing.

    `steps` and `computation_s` are None exactly where the task is rejected.
    """

    user: str
    place: str
    steps: float | None
    computation_s: float | None


@dataclass(frozen=True)
class OffloadingSolution:
    """One `Assignment` a user, in the instance's order; nothing is promised about feasibility."""

    tasks: tuple[Assignment, ...]

    @classmethod
    def from_dict(cls, data: dict[str, Any], instance: OffloadingInstance, origin: str = "solution") -> Self:
        """Read a solution's JSON object.

        Raises
        ------
        InputError
            If tasks are missing or not in the order of the users, name a place that there is not, or have a null
            where there must be a number or the other way round.

        """
        try:
            file = _SolutionFile.model_validate(data)
        except ValidationError as error:
            raise InputError(origin, faults_of(error)) from None
        if faults := list(_faults(file, instance)):
            raise InputError(origin, faults)
        return cls(tuple(Assignment(t.user, t.place, t.steps, t.computation_s) for t in file.tasks))

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object."""
        return {
            "tasks": [
                {"user": t.user, "place": t.place, "steps": _plain(t.steps), "computation_s": t.computation_s}
                for t in self.tasks
            ]
        }

    def to_frame(self, instance: OffloadingInstance) -> pd.DataFrame:
        """Return one row a user: place, steps, speed used (GHz), seconds of computing and transfers, joules, loss.

        Numbers are NaN where a task is rejected; `delay_s` is computing and transfers together.
        """
        import pandas as pd

        profiles = {profile.name: profile for profile in instance.models}
        servers = {server.name: i for i, server in enumerate(instance.servers)}
        rows = []
        for user, task in zip(instance.users, self.tasks, strict=True):
            row: dict[str, Any] = {"user": user.name, "model": user.model, "place": task.place}
            if task.place != REJECTED and task.steps is not None and task.computation_s is not None:
                profile = profiles[user.model]
                work = profile.workload.base_gcycles + profile.workload.per_step_gcycles * task.steps
                ghz = work / task.computation_s if task.computation_s > 0 else float("inf")
                if task.place == LOCAL:
                    transfer = 0.0
                    energy = float("nan") if user.device is None else user.device.kappa * work * ghz**2
                else:
                    up, down = (float(r[servers[task.place]]) for r in (user.uplink_mbps, user.downlink_mbps))
                    sending = user.input_mbit / up if up > 0 else float("inf")
                    transfer = sending + (user.output_mbit / down if down > 0 else float("inf"))
                    energy = user.transmit_power_w * sending
                row |= {
                    "steps": task.steps, "ghz": ghz, "computation_s": task.computation_s, "transfer_s": transfer,
                    "delay_s": task.computation_s + transfer, "energy_j": energy,
                    "loss": float(profile.quality.value(task.steps)),
                }  # fmt: skip
            rows.append(row)
        columns = [
            "user", "model", "place", "steps", "ghz", "computation_s", "transfer_s", "delay_s", "energy_j", "loss",
        ]  # fmt: skip
        return pd.DataFrame(rows, columns=columns).set_index("user")


def _plain(value: float | None) -> float | int | None:
    return int(value) if value is not None and float(value).is_integer() else value


def _faults(file: _SolutionFile, instance: OffloadingInstance) -> Iterable[Fault]:
    if len(file.tasks) != len(instance.users):
        yield Fault("tasks", f"must have one entry a user ({len(instance.users)}), got {len(file.tasks)}")
        return
    places = {LOCAL, REJECTED, *(server.name for server in instance.servers)}
    for index, (task, user) in enumerate(zip(file.tasks, instance.users, strict=True)):
        at = f"tasks[{index}]"
        if task.user != user.name:
            yield Fault(f"{at}.user", f"must be {quote(user.name)}, in the order of users, got {quote(task.user)}")
        if task.place not in places:
            yield Fault(f"{at}.place", f"must be 'local', 'rejected' or a server's name, got {quote(task.place)}")
            continue
        for key in ("steps", "computation_s"):
            value = getattr(task, key)
            if task.place == REJECTED and value is not None:
                yield Fault(f"{at}.{key}", "must be null where the task is rejected")
            elif task.place != REJECTED and value is None:
                yield Fault(f"{at}.{key}", "must be a number where the task is served, got null")
