"""A point of the two-timescale problem: caches of the frames, and what every request gets."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Self

import numpy as np
from pydantic import ValidationError

from aigc_opt.errors import InputError
from aigc_opt.instance.fields import Array, Record, array_field, faults_of, plain_numbers
from aigc_opt.instance.files import dump_json, read_npz, save_with_arrays, write_text
from aigc_opt.instance.two_timescale import TwoTimescaleInstance

if TYPE_CHECKING:
    import pandas as pd

SOLUTION_ARRAYS = ("cached", "at_edge", "steps", "uplink_share", "downlink_share")
BINARIES = ("cached", "at_edge")


class _SolutionFile(Record):
    cached: Annotated[Array, array_field("T", "M")]
    at_edge: Annotated[Array, array_field("T", "K", "U")]
    steps: Annotated[Array, array_field("T", "K", "U")]
    uplink_share: Annotated[Array, array_field("T", "K", "U")]
    downlink_share: Annotated[Array, array_field("T", "K", "U")]


@dataclass(frozen=True, eq=False)
class TwoTimescaleSolution:
    """Caches and allocation; nothing is promised about feasibility, that is the checker's word.

    Attributes
    ----------
    cached : ndarray, shape (T, M)
        1 where a model is in the edge server's cache during a frame.
    at_edge : ndarray, shape (T, K, U)
        1 where a request is served at the edge.
    steps : ndarray, shape (T, K, U)
        Denoising steps of requests at the edge, 0 elsewhere.
    uplink_share, downlink_share : ndarray, shape (T, K, U)
        Shares of the bandwidths.

    """

    cached: np.ndarray
    at_edge: np.ndarray
    steps: np.ndarray
    uplink_share: np.ndarray
    downlink_share: np.ndarray

    @classmethod
    def from_dict(cls, data: dict[str, Any], instance: TwoTimescaleInstance, origin: str = "solution") -> Self:
        """Read a solution's JSON object, or the npz file that it points to (beside the file `origin`).

        In an npz the two binary arrays are int64, or float64 like the others.

        Raises
        ------
        InputError
            If arrays are missing, of another shape than the instance's, or hold something else than numbers.

        """
        if "npz" in data:
            data = _read_npz(data, origin)
        frames, slots, users = instance.requests.model.shape
        sizes = {"T": frames, "K": slots, "U": users, "M": len(instance.models)}
        try:
            file = _SolutionFile.model_validate(data, context={"sizes": sizes})
        except ValidationError as error:
            raise InputError(origin, faults_of(error)) from None
        return cls(*(getattr(file, name) for name in SOLUTION_ARRAYS))

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object, arrays inline."""
        return {name: plain_numbers(np.asarray(getattr(self, name))) for name in SOLUTION_ARRAYS}

    def save(self, path: str | os.PathLike[str], npz: bool = False) -> None:
        """Write a solution file.

        Parameters
        ----------
        path : path
            The JSON file.
        npz : bool
            Whether the arrays go into an npz file beside it, see `save_with_arrays`.

        Raises
        ------
        InputError
            If a file cannot be written.

        """
        if not npz:
            write_text(path, dump_json(self.to_dict()))
            return
        kinds = {name: np.int64 if name in BINARIES else np.float64 for name in SOLUTION_ARRAYS}
        arrays = {name: np.asarray(getattr(self, name)).astype(kinds[name]) for name in SOLUTION_ARRAYS}
        save_with_arrays(path, {}, "", arrays)

    def to_frame(self, instance: TwoTimescaleInstance) -> pd.DataFrame:
        """Return one row for each request: frame, slot and user, the model, and what the request gets."""
        import pandas as pd

        asked = instance.requests.model >= 0
        frame, slot, user = np.nonzero(asked)
        index = pd.MultiIndex.from_arrays([frame + 1, slot + 1, user + 1], names=["frame", "slot", "user"])
        names = np.array([model.name for model in instance.models])
        model = instance.requests.model[asked]
        columns = {
            "model": names[model],
            "cached": np.round(self.cached).astype(int)[frame, model],
            "at_edge": np.round(self.at_edge).astype(int)[asked],
            **{name: np.asarray(getattr(self, name))[asked] for name in SOLUTION_ARRAYS[2:]},
        }
        return pd.DataFrame(columns, index=index)


def _read_npz(data: dict[str, Any], origin: str) -> dict[str, np.ndarray]:
    try:
        return read_npz(origin, data, "", SOLUTION_ARRAYS, BINARIES)
    except InputError as error:
        try:
            return read_npz(origin, data, "", SOLUTION_ARRAYS)
        except InputError:
            raise error from None
