"""The file of a sweep: rows appended as they come, so that a killed sweep goes on where it stopped.

What the rows belong to (instance, paths, options) stands in a second file beside the first, ``SWEEP.csv.json``, written
before the first row; a sweep goes on only where both agree.
"""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import Any

from aigc_opt.errors import InputError
from aigc_opt.instance.files import dump_json, read_json, write_text

FORMAT = "aigc-opt/sweep"
VERSION = 1


class Journal:
    """A CSV file that grows by whole lines, each on the disk before the next point is given out.

    Parameters
    ----------
    path : path
    columns : sequence of str
        The header.
    keys : int
        How many columns, the first ones, tell rows apart: the paths that are varied.
    settings : dict
        What the rows belong to, plain JSON.

    Attributes
    ----------
    rows : dict
        Rows that are there already, as text, by the values of their first columns.

    Raises
    ------
    InputError
        If there is a file that this sweep cannot go on with, another process writes it, or it cannot be written.

    """

    def __init__(self, path: str | os.PathLike[str], columns: list[str], keys: int, settings: dict[str, Any]):
        self.path, self._columns, self._keys = Path(path), columns, keys
        self.rows: dict[tuple[float, ...], dict[str, str]] = {}
        self._settings = {"format": FORMAT, "version": VERSION, **json.loads(json.dumps(settings))}
        beside = Path(f"{self.path}.json")
        fresh = not self.path.exists() or self.path.stat().st_size == 0
        if not fresh:
            self._agree(beside)
        else:
            write_text(beside, dump_json(self._settings))
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError as error:
            raise InputError(str(path), [f"cannot be written: {error.strerror}"]) from None
        self._lock()
        if fresh:
            self._write(columns)
        else:
            self._read()

    def _agree(self, beside: Path) -> None:
        """Refuse to go on with the rows of another sweep."""
        how = "give another name, or remove it"
        if not beside.exists():
            raise InputError(str(self.path), [f"is there already, without {beside.name} that says what of: {how}"])
        theirs = read_json(beside)
        ours = self._settings
        other = [key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)]
        if other:
            words = f"holds the rows of another sweep ({', '.join(other)} of {beside.name} differ): {how}"
            raise InputError(str(self.path), [words])

    def _lock(self) -> None:
        try:
            import fcntl
        except ImportError:  # no such locks on this system
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(str(self.path), ["is being written by another sweep"]) from None
        except OSError:
            return  # a file system without locks

    def _read(self) -> None:
        """Read whole rows; what a kill left of a last one is cut off."""
        size = os.fstat(self._file).st_size
        raw = os.pread(self._file, size, 0)
        whole = raw[: raw.rfind(b"\n") + 1]
        if len(whole) < len(raw):
            os.ftruncate(self._file, len(whole))
        lines = list(csv.reader(io.StringIO(whole.decode("utf-8", "replace"))))
        if not lines:  # killed within the header
            self._write(self._columns)
            return
        if lines[0] != self._columns:
            raise InputError(str(self.path), [f"must have the columns {', '.join(self._columns)}"])
        for number, line in enumerate(lines[1:], 2):
            try:
                key = tuple(float(text) for text in line[: self._keys])
                if len(line) != len(self._columns):
                    raise ValueError
            except ValueError:
                raise InputError(str(self.path), [f"line {number} is not a row of a sweep"]) from None
            self.rows[key] = dict(zip(self._columns, line, strict=True))

    def add(self, row: dict[str, Any]) -> None:
        """Append one row; it is on the disk when this returns."""
        self._write([as_text(row[column]) for column in self._columns])

    def _write(self, cells: list[str]) -> None:
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(cells)
        raw = line.getvalue().encode("utf-8")
        try:
            written = os.write(self._file, raw)
            if written < len(raw):
                raise OSError(None, "no space left")
            os.fsync(self._file)
        except OSError as error:
            raise InputError(str(self.path), [f"cannot be written: {error.strerror}"]) from None

    def close(self) -> None:
        """Close the file, which also frees it for others."""
        os.close(self._file)


def as_text(value: Any) -> str:
    """Text of a cell: numbers in their shortest exact form, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, float):
        return repr(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return str(value)


def read_cell(column: str, text: str) -> Any:
    """Value of a cell: text for the status, numbers (NaN where there is none) elsewhere."""
    if column == "status":
        return text
    return float(text) if text else float("nan")
