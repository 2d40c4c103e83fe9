"""A run of the benchmark against the last one: slower by more than a fifth, or a wider interval, is an error.

Machines differ and are noisy. So what is compared are processor seconds, in units of a fixed computation measured while
the row was (`rows.Calibration`), and a difference counts only if it is more than `FLOOR_S` too. Rows that ended because
their time was over are not compared in time: it is their limit.

An interval is wider if its gap is more than a fifth above the last one's *and* above what was asked for by more than
`FLOOR_GAP`; a row that ended by itself and now does not, has lost its point or its proof of infeasibility, is an error
whatever its gap. How far a row comes in its time is the machine's doing too: where the time was over and the machine is
slower by more than a fifth, nothing is said about the interval.

What cannot be compared is said (`outdated`, `slowed`): a comparison with nothing would find nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from aigc_opt.bench.rows import Row
from aigc_opt.result import Limit

SLOWER = 1.2
FLOOR_S = 1.0
"""Seconds, on the machine of the new run."""

FLOOR_GAP = 1e-4
OURS = "ours"


def slowdown(row: Row, last: Row) -> float | None:
    """Return the factor by which a row took longer than the last time; None if below the floor, or not to be told."""
    if row.limit is not None or last.limit is not None or not (row.calibration_s and last.calibration_s):
        return None
    expected = last.processor_s / last.calibration_s * row.calibration_s
    return row.processor_s / expected if row.processor_s - expected > FLOOR_S else None


def is_slower(row: Row, last: Row) -> bool:
    """Whether a row counts as slower than the last time."""
    factor = slowdown(row, last)
    return factor is not None and factor > SLOWER


def regressions(rows: Iterable[Row], last: Iterable[Row], label: str = OURS) -> list[str]:
    """Return a line for each row of `label` that is slower or has a wider interval than in the last run."""
    before = {row.key: row for row in last}
    lines = []
    for row in rows:
        old = before.get(row.key)
        if row.label != label or old is None or _why_not(row, old) is not None:
            continue
        if is_slower(row, old):
            lines.append(
                f"{row.place}: {slowdown(row, old):.2f} times the last run's processor seconds (in units of the "
                f"calibration: {row.processor_s / row.calibration_s:.1f} instead of "
                f"{old.processor_s / old.calibration_s:.1f})"
            )
        if not _slowed(row, old) and (words := _wider(row, old)):
            lines.append(f"{row.place}: {words}")
    return lines


def outdated(rows: Iterable[Row], last: Iterable[Row], label: str = OURS) -> list[str]:
    """Return a line for each row of `label`, of this run or the last one, that is not of the same case in the other."""
    now, before = ({row.key: row for row in each if row.label == label} for each in (rows, last))
    lines = [f"{row.place}: not compared: it is not in the last run" for key, row in now.items() if key not in before]
    for key, old in before.items():
        why = "it is not in this run" if key not in now else _why_not(now[key], old)
        lines += [] if why is None else [f"{old.place}: not compared: {why}"]
    return lines


def slowed(rows: Iterable[Row], last: Iterable[Row], label: str = OURS) -> list[str]:
    """Return a line for each row of `label` whose interval may be wider because the machine is slower."""
    before = {row.key: row for row in last}
    return [
        f"{row.place}: the interval is not compared: its time was over, and the machine is "
        f"{row.calibration_s / old.calibration_s:.2f} times slower than in the last run"
        for row in rows
        if row.label == label and (old := before.get(row.key)) and _why_not(row, old) is None and _slowed(row, old)
    ]


def _slowed(row: Row, old: Row) -> bool:
    return row.limit == Limit.TIME and 0 < SLOWER * old.calibration_s < row.calibration_s


def _why_not(row: Row, old: Row) -> str | None:
    """Say why a row has nothing to be compared with in the last run's row of its name."""
    if old.sha256 != row.sha256:
        return f"the last run's is another instance of this name, {old.sha256[:12]}, not {row.sha256[:12]}"
    if old.time_limit > row.time_limit:
        return f"its limit is {row.time_limit:g} s, was {old.time_limit:g} s"
    return None


def _wider(row: Row, old: Row) -> str | None:
    """Say how a row's interval is worse than the last run's."""
    if old.status in ("optimal", "infeasible") and row.status != old.status:
        return f"{row.status}, was {old.status}"
    if old.gap is None:
        return None
    if row.gap is None:
        return f"no gap, was {100 * old.gap:.4g}%"
    if row.gap > SLOWER * old.gap and row.gap > row.gap_asked + FLOOR_GAP:
        return f"the interval is wider: a gap of {100 * row.gap:.4g}%, was {100 * old.gap:.4g}%"
    return None
