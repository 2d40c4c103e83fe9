"""A point of the deployment problem: placement and routing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Self

import numpy as np
from pydantic import ValidationError

from aigc_opt.errors import InputError
from aigc_opt.instance.deployment import DeploymentInstance
from aigc_opt.instance.fields import Array, Record, array_field, faults_of, plain_numbers

if TYPE_CHECKING:
    import pandas as pd


class _SolutionFile(Record):
    stored: Annotated[Array, array_field("T", "E", "M")]
    loaded: Annotated[Array, array_field("T", "E", "M")]
    routing: Annotated[Array, array_field("T", "E", "M", "O")]


@dataclass(frozen=True, eq=False)
class DeploymentSolution:
    """Placement and routing; nothing is promised about feasibility, that is the checker's word.

    Attributes
    ----------
    stored, loaded : ndarray, shape (T, E, M)
        1 where a model is on disk, and in GPU memory.
    routing : ndarray, shape (T, E, M, E + 1)
        Share of the requests that arrive at a server which each server, and last the cloud, serves.

    """

    stored: np.ndarray
    loaded: np.ndarray
    routing: np.ndarray

    @classmethod
    def from_dict(cls, data: dict[str, Any], instance: DeploymentInstance, origin: str = "solution") -> Self:
        """Read a solution's JSON object.

        Raises
        ------
        InputError
            If arrays are missing, of another shape than the instance's, or hold something else than numbers.

        """
        slots, servers, models = instance.shape
        sizes = {"T": slots, "E": servers, "M": models, "O": servers + 1}
        try:
            file = _SolutionFile.model_validate(data, context={"sizes": sizes})
        except ValidationError as error:
            raise InputError(origin, faults_of(error)) from None
        return cls(file.stored, file.loaded, file.routing)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object."""
        return {
            "stored": plain_numbers(np.asarray(self.stored)),
            "loaded": plain_numbers(np.asarray(self.loaded)),
            "routing": plain_numbers(np.asarray(self.routing)),
        }

    def to_frame(self, instance: DeploymentInstance) -> pd.DataFrame:
        """Return one row for each slot, server and model: state, switches, arrivals and who serves them.

        Columns ``local``, ``peers`` and ``cloud`` are requests that arrive there and are served by the server itself,
        by others, and by the cloud; ``serves`` is what the server generates for anybody.
        """
        import pandas as pd

        slots, servers, models = instance.shape
        index = pd.MultiIndex.from_product(
            [range(1, slots + 1), [s.name for s in instance.servers], [m.name for m in instance.models]],
            names=["slot", "server", "model"],
        )
        stored, loaded = np.round(self.stored).astype(int), np.round(self.loaded).astype(int)
        amount = instance.arrivals[..., None] * self.routing
        own = amount[:, np.arange(servers), :, np.arange(servers)].transpose(1, 0, 2)
        columns = {
            "stored": stored,
            "loaded": loaded,
            "fetches": np.maximum(0, np.diff(stored, axis=0, prepend=instance.initial_stored[None])),
            "loads": np.maximum(0, np.diff(loaded, axis=0, prepend=instance.initial_loaded[None])),
            "arrivals": instance.arrivals,
            "local": own,
            "peers": amount[..., :servers].sum(axis=3) - own,
            "cloud": amount[..., servers],
            "serves": amount[..., :servers].sum(axis=1).transpose(0, 2, 1),
        }
        return pd.DataFrame({name: array.reshape(-1) for name, array in columns.items()}, index=index)
