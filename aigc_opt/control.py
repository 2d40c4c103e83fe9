"""One solve's clock, stop signals, trace and progress: every method polls it and reports to it."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from aigc_opt.errors import InputError
from aigc_opt.result import Limit, TraceRow, gap_of

PATIENCE_S = 5.0
"""Seconds that a solve gets to end in order after Ctrl-C before another Ctrl-C breaks it off."""

Progress = Callable[[TraceRow], None]


def available_memory() -> float:
    """Bytes that this process can still take, by the system, a limit of its own or of its group; inf if none says."""
    found = [math.inf]
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                found.append(1024.0 * int(line.split()[1]))
    except (OSError, ValueError, IndexError):
        pass
    try:
        group = Path("/sys/fs/cgroup")
        found.append(float((group / "memory.max").read_text()) - float((group / "memory.current").read_text()))
    except (OSError, ValueError):  # no such group, or "max"
        pass
    try:
        import resource

        most = resource.getrlimit(resource.RLIMIT_AS)[0]
        if most != resource.RLIM_INFINITY:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            found.append(float(most - pages * resource.getpagesize()))
    except (ImportError, OSError, ValueError):
        pass
    return max(0.0, min(found))


def require_memory(origin: str, what: str, needed: float) -> None:
    """Refuse work whose arrays cannot fit into memory, before they are made.

    Parameters
    ----------
    origin : str
        The instance's name.
    what : str
        What the memory is for.
    needed : float
        Bytes, estimated.

    Raises
    ------
    InputError
        If less than that is available.

    """
    there = available_memory()
    if needed > there:
        words = f"needs about {needed / 1e9:.1f} GB of memory for {what}, but {there / 1e9:.1f} GB are available"
        raise InputError(origin, [words])


def end_with_parent() -> None:
    """In a process of a pool: end when the process that made it does, however it ends, so that none is left behind."""
    from multiprocessing import parent_process  # whoever is in a pool has it already

    parent = parent_process()
    if parent is None:
        return
    ended = parent.join

    def end() -> None:
        ended()
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()


class Control:
    """Clock, stop signals and trace of one solve.

    Parameters
    ----------
    time_limit : float or None
        Wall seconds from now; None = no limit.
    progress : callable, optional
        Called with a `TraceRow` whenever the interval moves, and now and then in between.

    Attributes
    ----------
    cut : Limit or None
        What `stop` first said to anybody who asked, here or in a part: None = nothing was cut short.

    """

    def __init__(self, time_limit: float | None = None, progress: Progress | None = None):
        self.started = time.perf_counter()
        self.time_limit = time_limit
        self.interrupted = False
        self.cut: Limit | None = None
        self.trace: list[TraceRow] = []
        self._progress = progress
        self._objective: float | None = None
        self._lower_bound: float | None = None
        self._lock = threading.Lock()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the solve began."""
        return time.perf_counter() - self.started

    @property
    def remaining_s(self) -> float:
        """Seconds left, infinity without a limit, never below 0."""
        return float("inf") if self.time_limit is None else max(0.0, self.time_limit - self.elapsed_s)

    @property
    def stop(self) -> Limit | None:
        """Why the method has to end now, or None."""
        why = Limit.INTERRUPT if self.interrupted else Limit.TIME if self.remaining_s <= 0 else None
        self.cut = self.cut or why
        return why

    def part(self, share: float = 1.0, most_s: float | None = None) -> Control:
        """Return a control for a part of the solve: at most `share` of the time that is left, and `most_s` seconds.

        It obeys the same stop signals and shows progress through this one.
        """
        limits = [limit for limit in (share * self.remaining_s, most_s) if limit is not None and limit < math.inf]
        return _Part(self, min(limits, default=None))

    def report(self, event: str, objective: float | None = None, lower_bound: float | None = None) -> None:
        """Tell what is known now: a point's objective, a proven bound, or neither (a sign of life).

        The trace keeps the best of both ends; a report that moves neither end is shown but not kept.
        """
        with self._lock:
            better = objective is not None and (self._objective is None or objective < self._objective)
            tighter = lower_bound is not None and (self._lower_bound is None or lower_bound > self._lower_bound)
            if better:
                self._objective = objective
            if tighter:
                self._lower_bound = lower_bound
            if self._objective is not None and self._lower_bound is not None:
                self._lower_bound = min(self._lower_bound, self._objective)  # the last digit of rounding
            row = TraceRow(round(self.elapsed_s, 6), self._objective, self._lower_bound, event)
            if better or tighter:
                self.trace.append(row)
        if self._progress is not None:
            self._progress(row)

    @contextmanager
    def catching_interrupts(self) -> Iterator[None]:
        """Turn Ctrl-C into `interrupted`, so that a method can end in order.

        Further ones change nothing for `PATIENCE_S` seconds, in which everything that polls has ended; after that one
        raises. Within another control's block that one hears it too: a loop over solves ends although the solve that
        was under way ran to its end. Nothing is changed outside the main thread, or where Ctrl-C is ignored.
        """
        before = signal.getsignal(signal.SIGINT)
        elsewhere = threading.current_thread() is not threading.main_thread()
        if elsewhere or before is None or before == signal.SIG_IGN:
            yield
            return
        first_s: float | None = None

        def handle(number: int, frame: object) -> None:
            nonlocal first_s
            for control in _HEARING:
                control.interrupted = True
            first_s = first_s if first_s is not None else self.elapsed_s
            if self.elapsed_s - first_s > PATIENCE_S:
                raise KeyboardInterrupt

        _HEARING.append(self)
        signal.signal(signal.SIGINT, handle)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
            _HEARING.remove(self)


_HEARING: list[Control] = []
"""Controls that catch Ctrl-C now, the outermost first."""


class _Part(Control):
    """A control with a shorter time limit, whose interrupts and progress are those of the whole."""

    def __init__(self, whole: Control, time_limit: float | None):
        super().__init__(time_limit)
        self._whole = whole

    @property
    def stop(self) -> Limit | None:
        why = self._whole.stop or super().stop
        self._whole.cut = self._whole.cut or why
        return why

    def report(self, event: str, objective: float | None = None, lower_bound: float | None = None) -> None:
        self._whole.report(event, objective, lower_bound)


class ProgressLine:
    """Progress for people: one line that updates on a terminal, plain lines otherwise.

    Parameters
    ----------
    stream : file, optional
        Where to write; standard error by default.
    every_s : float, optional
        Least seconds between two lines; 0.1 on a terminal, 1 otherwise.

    """

    def __init__(self, stream: TextIO | None = None, every_s: float | None = None):
        self._stream = stream or sys.stderr
        self._live = self._stream is not None and self._stream.isatty()
        self._every_s = every_s if every_s is not None else (0.1 if self._live else 1.0)
        self._shown_s = -float("inf")
        self._shown_event = ""
        self._unshown: TraceRow | None = None
        self._width = 0

    def __call__(self, row: TraceRow) -> None:
        """Show a moment of the solve, unless the one before was shown just now."""
        self._unshown = row
        new_stage = row.event.partition(":")[0] != self._shown_event.partition(":")[0]
        if row.elapsed_s - self._shown_s >= self._every_s or (new_stage and not self._live):
            self._show(row)

    def _show(self, row: TraceRow) -> None:
        self._shown_s, self._shown_event, self._unshown = row.elapsed_s, row.event, None
        gap = gap_of(row.objective, row.lower_bound)
        cells = [
            f"{row.elapsed_s:8.1f} s",
            f"incumbent {_number(row.objective):>14}",
            f"bound {_number(row.lower_bound):>14}",
            f"gap {'-' if gap is None else f'{100 * gap:.4f}%':>10}",
            row.event,
        ]
        line = "  ".join(cells)
        self._write("\r" + line.ljust(self._width) if self._live else line + "\n")
        self._width = len(line)

    def _write(self, text: str) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            self._stream = None  # whoever looked has gone; the solve goes on

    def close(self) -> None:
        """Show the last moment if it was not shown, and leave the line."""
        if self._unshown is not None:
            self._show(self._unshown)
        if self._live and self._width:
            self._write("\n")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6f}" if abs(value) < 1e7 else f"{value:.8g}"
