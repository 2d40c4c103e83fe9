"""The errors that users see: each one says what is wrong and where."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Fault(NamedTuple):
    """One thing wrong with a file: where it is (``servers[2].storage_gb``, may be empty) and what was expected."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class AigcOptError(Exception):
    """Base of every error that this package raises on purpose."""


class InputError(AigcOptError, ValueError):
    """A file, an argument or a call is not what it must be.

    Parameters
    ----------
    origin : str
        The file, or the name of the argument, that the faults are in.
    faults : iterable of Fault or str
        Everything that is wrong, not only the first thing.

    """

    def __init__(self, origin: str, faults: Iterable[Fault | str]):
        self.origin = origin
        self.faults = tuple(fault if isinstance(fault, Fault) else Fault("", fault) for fault in faults)
        super().__init__("\n".join(self.lines()))

    def lines(self) -> list[str]:
        """One line a fault, each beginning with the origin; line breaks inside names are shown escaped."""
        return [
            "".join(char if char.isprintable() else repr(char)[1:-1] for char in f"{self.origin}: {fault}")
            for fault in self.faults
        ]

    def __reduce__(self) -> tuple[type[InputError], tuple[str, tuple[Fault, ...]]]:
        return type(self), (self.origin, self.faults)


class MissingSolverError(AigcOptError):
    """A solver was asked for by name that is not installed; the message says how to get it."""


class SolverError(AigcOptError):
    """A solver did something that it must not do (refused a valid program, contradicted a checked point)."""
