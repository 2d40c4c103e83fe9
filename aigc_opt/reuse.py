"""What one solve leaves to the next of a sweep: exact results of parts that both have in common.

Nothing is kept outside `reusing`. What is kept is found again by the hash of *all* that went into it, so that a solve
that finds it computes the numbers that it would have computed anyway. Each thread keeps its own.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

KEPT_AT_MOST = 24
"""Parts that are kept, those used last: a few neighbouring points have a few parts each."""

ROWS_AT_MOST = 200_000
"""Of a table: one that would grow beyond is begun anew."""

Made = TypeVar("Made")


class _Kept(threading.local):
    def __init__(self) -> None:
        self.on = False
        self.parts: OrderedDict[bytes, Any] = OrderedDict()


_kept = _Kept()


@contextmanager
def reusing() -> Iterator[None]:
    """Let solves of this thread use and keep parts; what earlier ones kept is still there."""
    before, _kept.on = _kept.on, True
    try:
        yield
    finally:
        _kept.on = before


def forget() -> None:
    """Drop what this thread keeps."""
    _kept.parts.clear()


def shared(
    make: Callable[[], Made],
    name: str,
    *parts: np.ndarray | float | bool,
    keep: Callable[[Made], bool] = lambda made: True,
) -> Made:
    """Return what is kept under a name and all of `parts`, or make it and keep it where that is wanted.

    Parameters
    ----------
    make : callable
        Depends on nothing but `parts`.
    name : str
        Says what it makes.
    parts : ndarray or number
        Compared by type, shape and every bit.
    keep : callable
        Whether what was made is whole; what a clock cut short is not.

    """
    if not _kept.on:
        return make()
    digest = hashlib.blake2b(name.encode(), digest_size=16)
    for part in parts:
        array = np.ascontiguousarray(part)
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(array.data)
    key = digest.digest()
    if key not in _kept.parts:
        made = make()
        if not keep(made):
            return made
        _kept.parts[key] = made
    _kept.parts.move_to_end(key)
    while len(_kept.parts) > KEPT_AT_MOST:
        _kept.parts.popitem(last=False)
    return _kept.parts[key]


class Table:
    """Rows of results by an integer each, solved when they are asked for first."""

    def __init__(self) -> None:
        self.codes = np.empty(0, np.int64)
        self.columns: tuple[np.ndarray, ...] = ()

    def rows(
        self, codes: np.ndarray, solve: Callable[[np.ndarray], tuple[tuple[np.ndarray, ...], bool]]
    ) -> tuple[np.ndarray, ...]:
        """Return the columns' rows of some codes.

        Parameters
        ----------
        codes : ndarray of int64, shape (n,)
            Rising.
        solve : callable
            Takes indices into `codes`; returns columns with a row for each, and whether they may be kept.

        """
        at = np.searchsorted(self.codes, codes)
        known = at < len(self.codes)
        known[known] = self.codes[at[known]] == codes[known]
        new = np.flatnonzero(~known)
        if not len(new):
            return tuple(column[at] for column in self.columns)
        made, whole = solve(new)
        if len(new) == len(codes):
            answer = made
        else:
            answer = tuple(column[np.minimum(at, len(self.codes) - 1)] for column in self.columns)
            for column, fresh in zip(answer, made, strict=True):
                column[new] = fresh
        if whole:
            fits = 0 < len(self.codes) <= ROWS_AT_MOST - len(new)
            old, columns = (self.codes, self.columns) if fits else (self.codes[:0], tuple(c[:0] for c in made))
            place = np.searchsorted(old, codes[new])
            self.codes = np.insert(old, place, codes[new])
            self.columns = tuple(
                np.insert(column, place, fresh, axis=0) for column, fresh in zip(columns, made, strict=True)
            )
        return answer


def table(name: str, *parts: np.ndarray | float | bool) -> Table | None:
    """Return the table kept under a name and `parts`, None outside `reusing`."""
    return shared(Table, name, *parts) if _kept.on else None
