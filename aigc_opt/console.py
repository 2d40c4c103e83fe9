"""What all commands share: exit statuses, and how they write."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from aigc_opt.errors import InputError

DONE, REFUSED, BAD_INPUT, UNKNOWN, INTERNAL = range(5)

ATOMIC_CHARACTERS = 1024
"""At most 4 bytes each, and so many bytes go into a pipe at once or not at all."""


def put(text: str) -> None:
    """Write to standard output, whole even where a signal arrives while whoever reads is slow.

    Where Python's output is unbuffered, what a signal cuts off from a single long write is lost.
    """
    for i in range(0, len(text), ATOMIC_CHARACTERS):
        sys.stdout.write(text[i : i + ATOMIC_CHARACTERS])


def say(text: str) -> None:
    """Write a line to standard error."""
    try:
        print(text, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        pass  # nobody listens


def check_writable(output: str | None) -> None:
    """Refuse a place for the result before hours are spent on it."""
    if output in (None, "-"):
        return
    target = Path(output)
    if target.is_dir():
        raise InputError(output, ["cannot be written: is a folder, expected a file"])
    if not target.parent.is_dir():
        raise InputError(output, [f"cannot be written: there is no folder {str(target.parent)!r}"])
    if not os.access(target.parent, os.W_OK):
        raise InputError(output, ["cannot be written: permission denied"])
