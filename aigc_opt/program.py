"""A linear or mixed-integer program as sparse arrays, with the names of its parts; and bounds that are evaluated here.

This is what is handed to a solver. A problem builds it block by block with `ProgramBuilder`, each block one family of
variables or constraints with the name that it has in the Pyomo formulation.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from aigc_opt.errors import SolverError

if TYPE_CHECKING:  # to import it takes a quarter of a command's start: it is done where a matrix is made
    import scipy.sparse as sp

INF = float("inf")

COSTS, COEFFICIENTS = 1e9, 1e6
"""Ratio of the largest to the smallest cost, and of the coefficients of a row, from which on a solver's bound is not
believed: solvers keep rows to 1e-6 of the row's size, and costs to 1e-7."""

Label = tuple[Any, ...]
"""Where in its block a row or column belongs: slot, server, model, ..., as a person writes them."""

Labels = Callable[[], Sequence[Label]]
"""Makes the index tuples of a block when names are asked for; solving never needs them."""


@dataclass(frozen=True)
class Block:
    """A family of columns or rows: `name`, where it starts, how many there are, and its index tuples on demand."""

    name: str
    start: int
    size: int
    labels: Labels

    @property
    def stop(self) -> int:
        """One past the last column or row."""
        return self.start + self.size

    def names(self) -> list[str]:
        """Return names as Pyomo writes them: ``stored[1,edge-1,chat]``."""
        return [f"{self.name}[{','.join(map(str, label))}]" if label else self.name for label in self.labels()]


@dataclass(frozen=True, eq=False)
class LinearProgram:
    """Minimise ``cost @ x + offset`` over ``row_lower <= matrix @ x <= row_upper``, ``lower <= x <= upper``.

    Attributes
    ----------
    cost, lower, upper : ndarray, shape (n,)
    integer : ndarray of bool, shape (n,)
    matrix : scipy.sparse.csc_array, shape (m, n)
        By columns, because HiGHS keeps it so: handed over by rows it takes more than twice as long.
    row_lower, row_upper : ndarray, shape (m,)
    columns, rows : tuple of Block
        Families in the order of their indices.

    """

    cost: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    integer: np.ndarray
    matrix: sp.csc_array
    row_lower: np.ndarray
    row_upper: np.ndarray
    columns: tuple[Block, ...] = ()
    rows: tuple[Block, ...] = ()
    offset: float = 0.0

    def __post_init__(self) -> None:
        """Refuse numbers that a solver would answer wrongly on instead of refusing them itself.

        Raises
        ------
        SolverError
            If a cost, coefficient or bound is NaN, a cost or coefficient infinite, or a bound infinite on the
            wrong side.

        """
        if not (np.isfinite(self.cost).all() and np.isfinite(self.matrix.data).all() and np.isfinite(self.offset)):
            raise SolverError("the program has a cost or coefficient that is not a finite number")
        for low, high in ((self.lower, self.upper), (self.row_lower, self.row_upper)):
            if np.isnan(low).any() or np.isnan(high).any() or (low == INF).any() or (high == -INF).any():
                raise SolverError("the program has a bound that is NaN or infinite on the wrong side")

    def block(self, name: str) -> Block:
        """Return the family of columns with this name."""
        return next(block for block in self.columns if block.name == name)

    def relaxed(self) -> LinearProgram:
        """Return the linear relaxation: the same program, no variable integer."""
        return LinearProgram(
            self.cost, self.lower, self.upper, np.zeros_like(self.integer), self.matrix,
            self.row_lower, self.row_upper, self.columns, self.rows, self.offset,
        )  # fmt: skip

    def around(self, x: np.ndarray, free: np.ndarray) -> LinearProgram:
        """Return the program in which only some columns are free and all others stay as a point has them.

        A restriction: its feasible points, with the others' values beside them, are feasible here, at the same cost.
        Small where few are free, so that no solver has to find that out first.

        Parameters
        ----------
        x : ndarray, shape (n,)
        free : ndarray of bool, shape (n,)

        """
        import scipy.sparse as sp

        kept = self.matrix[:, np.flatnonzero(free)].tocsr()
        rows = np.flatnonzero(np.diff(kept.indptr))
        still = np.where(free, 0.0, x)
        used = (self.matrix @ still)[rows]
        return LinearProgram(
            self.cost[free], self.lower[free], self.upper[free], self.integer[free], sp.csc_array(kept[rows]),
            self.row_lower[rows] - used, self.row_upper[rows] - used, offset=self.offset + float(self.cost @ still),
        )  # fmt: skip

    def within_range(self) -> bool:
        """Whether a solver can tell small costs, and small coefficients of a row, beside large ones; warns if not.

        What a solver says of a mixed-integer program is no bound then: HiGHS has said half more than the optimum.
        """
        import scipy.sparse as sp  # here: as above

        size = abs(sp.csr_array(self.matrix))
        size.eliminate_zeros()
        filled = np.flatnonzero(np.diff(size.indptr))
        starts = size.indptr[filled]
        least, most = (
            part.reduceat(size.data, starts) if filled.size else np.ones(1) for part in (np.minimum, np.maximum)
        )
        row = int(np.argmax(most / least))
        cost = abs(self.cost[self.cost != 0])
        found = {"costs": (cost.min(initial=INF), cost.max(initial=0.0), COSTS)}
        found["coefficients of a row"] = (least[row], most[row], COEFFICIENTS)
        within = True
        for what, (low, high, ratio) in found.items():
            if high > ratio * low:
                within = False
                warnings.warn(
                    f"{what} range in magnitude from {low:.0e} to {high:.0e}: the solver's word on the bound is left "
                    "out, and its choice among small ones may suffer from rounding",
                    stacklevel=2,
                )
        return within

    @cached_property
    def column_names(self) -> list[str]:
        """Names of all columns, in order."""
        return list(itertools.chain.from_iterable(block.names() for block in self.columns))

    @cached_property
    def row_names(self) -> list[str]:
        """Names of all rows, in order."""
        return list(itertools.chain.from_iterable(block.names() for block in self.rows))

    def dual_bound(self, row_duals: np.ndarray) -> float:
        """Evaluate the Lagrangian bound of the rows' multipliers: a lower bound on every feasible point's cost.

        For multipliers y (>= 0 on a row's lower side, <= 0 on its upper side) every feasible x, integer or not, has ::

            cost @ x >= sum(y+ row_lower - y- row_upper) + min {(cost - A'y) @ x : lower <= x <= upper}

        because ``y @ (A x)`` is at least the first sum (weak duality). The right side is evaluated here, whatever
        solver the multipliers came from; a multiplier on a side that is infinite is set to 0, so that any vector gives
        a valid (perhaps useless) bound. What rounding can add is bounded a priori (n products and sums are within
        n u / (1 - n u) of the sum of absolute values, u = 2^-53; Higham, Accuracy and Stability of Numerical
        Algorithms, 2nd ed., section 3.1) and taken off.

        Parameters
        ----------
        row_duals : ndarray, shape (m,)
            Any numbers; NaN counts as 0.

        Returns
        -------
        float
            The bound; -inf where a variable without a finite bound has a reduced cost that is, or by rounding may
            be, of the wrong sign.

        """
        y = np.where(np.isfinite(row_duals), row_duals, 0.0)
        y = np.where((y > 0) & np.isinf(self.row_lower), 0.0, y)
        y = np.where((y < 0) & np.isinf(self.row_upper), 0.0, y)
        side = np.where(y > 0, self.row_lower, np.where(y < 0, self.row_upper, 0.0))

        unit = 2.0**-53
        transposed = self.matrix.T
        reduced = self.cost - transposed @ y
        entries = np.diff(self.matrix.indptr) + 2
        doubt = entries * unit * (abs(self.cost) + abs(transposed) @ abs(y))
        with np.errstate(invalid="ignore", over="ignore"):  # 0 * inf = 0 here
            corners = [cost * at for cost in (reduced - doubt, reduced + doubt) for at in (self.lower, self.upper)]
        least = np.min([np.where(np.isnan(corner), 0.0, corner) for corner in corners], axis=0)
        parts = np.concatenate([y * side, least, [self.offset]])
        total = float(parts.sum())
        return total - (parts.size + 2) * unit * float(abs(parts).sum()) if np.isfinite(total) else -INF


@dataclass
class ProgramBuilder:
    """Collects the families of a `LinearProgram`, each as arrays."""

    _cost: list[np.ndarray] = field(default_factory=list)
    _lower: list[np.ndarray] = field(default_factory=list)
    _upper: list[np.ndarray] = field(default_factory=list)
    _integer: list[np.ndarray] = field(default_factory=list)
    _columns: list[Block] = field(default_factory=list)
    _row_lower: list[np.ndarray] = field(default_factory=list)
    _row_upper: list[np.ndarray] = field(default_factory=list)
    _rows: list[Block] = field(default_factory=list)
    _entries: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = field(default_factory=list)
    _width: int = 0
    _height: int = 0

    def variable(
        self,
        name: str,
        cost: np.ndarray,
        labels: Labels,
        upper: np.ndarray | float = 1.0,
        integer: bool = False,
    ) -> np.ndarray:
        """Add a family of variables between 0 and `upper`.

        Parameters
        ----------
        cost : ndarray
            Cost of each; its shape is the family's.

        Returns
        -------
        ndarray of int32
            Column of each, in the shape of `cost`.

        """
        size = cost.size
        self._columns.append(Block(name, self._width, size, labels))
        self._cost.append(cost.ravel())
        self._lower.append(np.zeros(size))
        self._upper.append(np.broadcast_to(upper, cost.shape).ravel())
        self._integer.append(np.full(size, integer))
        index = np.arange(self._width, self._width + size, dtype=np.int32).reshape(cost.shape)
        self._width += size
        return index

    def constraint(
        self,
        name: str,
        terms: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray | float]],
        upper: np.ndarray,
        labels: Labels,
        lower: np.ndarray | float = -INF,
    ) -> None:
        """Add a family of rows ``lower <= sum of terms <= upper``.

        Parameters
        ----------
        terms : sequence of (row, column, coefficient)
            Arrays that broadcast together; `row` counts from 0 within the family, zero coefficients are left out.
        upper, lower : ndarray, shape (rows,)

        """
        size = upper.size
        for row, column, coefficient in terms:
            shape = np.broadcast_shapes(np.shape(row), np.shape(column), np.shape(coefficient))
            # Shifted before it is broadcast, and 32 bits wide as the solver's indices are: less to write.
            row = (np.asarray(row) + self._height).astype(np.int32, copy=False)
            rows, columns, values = (np.broadcast_to(part, shape).ravel() for part in (row, column, coefficient))
            keep = values != 0
            self._entries.append((rows, columns, values) if keep.all() else (rows[keep], columns[keep], values[keep]))
        self._rows.append(Block(name, self._height, size, labels))
        self._row_lower.append(np.broadcast_to(lower, upper.shape).ravel())
        self._row_upper.append(upper.ravel())
        self._height += size

    def build(self, offset: float = 0.0) -> LinearProgram:
        """Return the program."""
        import scipy.sparse as sp

        def joined(parts: list[np.ndarray], dtype: type = float) -> np.ndarray:
            return np.concatenate(parts).astype(dtype, copy=False) if parts else np.zeros(0, dtype)

        row = joined([entry[0] for entry in self._entries], np.int32)
        column = joined([entry[1] for entry in self._entries], np.int32)
        value = joined([entry[2] for entry in self._entries])
        matrix = sp.csc_array((value, (row, column)), shape=(self._height, self._width))
        return LinearProgram(
            cost=joined(self._cost), lower=joined(self._lower), upper=joined(self._upper),
            integer=joined(self._integer, bool), matrix=matrix,
            row_lower=joined(self._row_lower), row_upper=joined(self._row_upper),
            columns=tuple(self._columns), rows=tuple(self._rows), offset=offset,
        )  # fmt: skip
