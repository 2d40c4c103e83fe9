"""Runs an evaluation: episodes over processes in parallel, a journal to resume from, a report at the end."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from aigc_opt.control import Control, end_with_parent
from aigc_opt.errors import InputError
from aigc_opt.evaluation.episodes import Episodes, Setting
from aigc_opt.evaluation.nonanticipative import (
    REPLICATIONS,
    SLOTS,
    TRAINING_SLOTS,
    Mapper,
    Nonanticipative,
    nonanticipative,
)
from aigc_opt.evaluation.report import Report, make_report
from aigc_opt.instance.base import Instance
from aigc_opt.instance.files import loaded, write_text
from aigc_opt.instance.two_timescale import TwoTimescaleInstance
from aigc_opt.policies.load import files_of, imported, is_path

EPISODES = 100
"""Episodes of a process, unless told otherwise."""

Say = Callable[[str], None]


def evaluate(
    instance: Instance | str | os.PathLike[str],
    policies: Sequence[str] | Mapping[str, Any],
    episodes: int | None = None,
    seed: int = 0,
    strict: bool = False,
    confidence: float = 0.95,
    time_limit: float | None = None,
    workers: int = 1,
    journal: str | os.PathLike[str] | None = None,
    say: Say | None = None,
) -> Report:
    """Say how far policies are from the best possible, with confidence intervals.

    Parameters
    ----------
    instance : Instance or path
        An instance with requests (one episode), or a two-timescale process.
    policies : sequence of str, or mapping of names to what they are
        Names of baselines, ``module:name``, files (`aigc_opt.policies.load`); in a mapping objects of Python too.
    episodes : int, optional
        Of a process; `EPISODES` by default.
    seed : int
        Episode e is the one of ``aigc-opt sample --seed`` seed + e.
    strict : bool
        Give policies' raw decisions to the checker instead of amending them.
    confidence : float
        Of the intervals.
    time_limit : float, optional
        Wall seconds of each episode's hindsight solve (of its relaxation, of a method that is judged); not of sampling,
        whose work the process fixes.
    workers : int
        Processes. With more than one the calling script needs its ``if __name__ == "__main__"``.
    journal : path, optional
        Samples and episodes are noted here as they end; those that it has from an earlier run of the same evaluation
        are not drawn or played again. Deleted when all episodes are done.
    say : callable, optional
        Called with a line of progress now and then.

    Returns
    -------
    Report
        On Ctrl-C, of the episodes that were done; where that was none, KeyboardInterrupt is raised.

    Raises
    ------
    InputError
        If an argument, the file or a policy is not what it must be.

    """
    instance = loaded(instance)
    named = dict(policies) if isinstance(policies, Mapping) else {_name(p): p for p in policies}
    drawn = getattr(instance, "process", None) is not None
    number = (EPISODES if episodes is None else episodes) if drawn else 1
    faults = _faults(instance, named, policies, episodes, seed, confidence, workers, drawn)
    if faults:
        raise InputError("evaluate", faults)
    setting = Setting(instance, named, seed, strict, time_limit)
    tried = Episodes(setting)  # what is wrong with a policy is said at once
    tried.read_decisions(number)
    tried.try_policies()
    notes = _Journal(journal, _key(setting)) if journal is not None else None
    records: dict[int, dict[str, Any]] = {} if notes is None else notes.records(number)
    say = say or (lambda line: None)
    reachable: Nonanticipative | None = None
    try:
        with _Workers(workers if number > 1 else 1) as pool:
            if isinstance(instance, TwoTimescaleInstance) and drawn:
                sampling = _Count(say, "sampling what a policy that knows only the present can reach,")
                reachable = nonanticipative(instance, seed, map_calls=_remembered(pool, notes), told=sampling)
                policy = None if reachable is None else reachable.policy
                setting = replace(setting, reachable=policy, relax=reachable is None)
            _play(setting, number, records, pool, notes, say)
    except KeyboardInterrupt:
        if not records:
            goes_on = "" if notes is None else "; the same command goes on"
            raise KeyboardInterrupt(f"before an episode ended, nothing to report{goes_on}") from None
        say(f"interrupted after {len(records)} of {number} episodes")
    else:
        if notes is not None:
            notes.delete()
    done = [records[e] for e in sorted(records)]
    way = "information relaxation (hindsight penalised for its knowledge)" if reachable is None else reachable.way
    gaps = None if reachable is None else reachable.gaps
    return make_report(instance.identity, done, list(named), seed, confidence, gaps, way)


def _name(policy: Any) -> str:
    return policy if isinstance(policy, str) else getattr(policy, "__name__", type(policy).__name__)


def _faults(
    instance: Instance,
    named: Mapping[str, Any],
    policies: Collection[Any],
    episodes: int | None,
    seed: int,
    confidence: float,
    workers: int,
    drawn: bool,
) -> list[str]:
    faults = []
    if not named:
        faults.append("at least one policy is needed")
    if len(named) < len(policies):
        faults.append("every policy may stand once")
    for what, value, least in (("episodes", episodes, 1), ("seed", seed, 0), ("workers", workers, 1)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
            faults.append(f"{what} must be an integer >= {least}, got {value!r}")
    if not drawn and episodes not in (None, 1):
        faults.append(f"{instance.name} is one episode, not a process: episodes must be 1, got {episodes}")
    if not 0 < confidence < 1:
        faults.append(f"confidence must be between 0 and 1, got {confidence!r}")
    return faults


# ---------------------------------------------------------------------------------------------------------- playing


def _play(
    setting: Setting, number: int, records: dict[int, dict[str, Any]], pool: _Workers, notes: _Journal | None, say: Say
) -> None:
    """Play the episodes that are missing; adds to `records` as they end."""
    missing = [e for e in range(number) if e not in records]
    if records:
        say(f"resumed: {len(records)} of {number} episodes were done before")
    count = _Count(say, "episode")
    for record in pool.play(setting, missing):
        records[record["episode"]] = record
        if notes is not None:
            notes.add(record)
        count(len(records), number)


class _Count:
    """Says how far something is, about once a second, and where it begins and ends."""

    def __init__(self, say: Say, what: str):
        self.say, self.what = say, what
        self.started = self.shown = time.perf_counter()

    def __call__(self, done: int, whole: int) -> None:
        now = time.perf_counter()
        if now - self.shown > 1.0 or done in (0, whole):
            self.say(f"{now - self.started:8.1f} s  {self.what} {done} of {whole}")
            self.shown = now


def _remembered(pool: _Workers, notes: _Journal | None) -> Mapper:
    """Return a `Mapper` over the processes that takes the first results from the journal, and notes the others."""
    known = iter([] if notes is None else notes.samples)

    def run(function: Callable[..., Any], calls: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        calls = list(calls)
        before = list(islice(known, len(calls)))
        yield from before
        for found in pool.map(function, calls[len(before) :]):
            if notes is not None:
                notes.add_sample(found)
            yield found

    return run


class _Workers:
    """Processes, or with one worker this one, where every solve catches Ctrl-C: after each call it is asked for."""

    def __init__(self, number: int):
        self.number = number
        self.pool: ProcessPoolExecutor | None = None
        self.control = Control()
        self.open = ExitStack()

    def __enter__(self) -> _Workers:
        if self.number > 1:
            # Not forked: solvers keep threads, which a fork would lose.
            context = multiprocessing.get_context("spawn")
            with _one_thread_each():
                self.pool = ProcessPoolExecutor(self.number, context, initializer=_start_worker)
                # Processes take the environment when they start, which is at the first call.
                list(self.pool.map(time.sleep, [0.05] * self.number))
        else:
            self.open.enter_context(self.control.catching_interrupts())
        return self

    def __exit__(self, kind: Any, *rest: Any) -> None:
        self.open.close()
        if self.pool is not None:
            running = list((self.pool._processes or {}).values())
            self.pool.shutdown(wait=kind is None, cancel_futures=True)
            if kind is not None:  # what they still compute is of no use
                for process in running:
                    process.terminate()

    def map(self, function: Callable[..., Any], calls: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """Call a function for each tuple of arguments; results in order, as they come."""
        if self.pool is None:
            yield from (self._heard(function(*call)) for call in calls)
        else:
            yield from (future.result() for future in [self.pool.submit(function, *call) for call in calls])

    def _heard(self, found: Any) -> Any:
        """Return what was found, unless Ctrl-C came meanwhile: it may be a part only."""
        if self.control.interrupted:
            raise KeyboardInterrupt
        return found

    def play(self, setting: Setting, numbers: Sequence[int]) -> Iterator[dict[str, Any]]:
        """Play episodes; records as they end."""
        if self.pool is None:
            episodes = Episodes(setting)
            for e in numbers:
                yield self._heard(episodes.play(e))
            return
        key = os.urandom(8)
        for future in as_completed([self.pool.submit(_play_one, key, setting, e) for e in numbers]):
            yield future.result()


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Tell linear algebra in new processes to use one thread: the processes share the processor already."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update({name: "1" for name in names if before[name] is None})
    try:
        yield
    finally:
        for name in names:
            if before[name] is None:
                os.environ.pop(name, None)


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and end when it ends, however it does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()


_PLAYING: dict[bytes, Episodes] = {}


def _play_one(key: bytes, setting: Setting, number: int) -> dict[str, Any]:
    if key not in _PLAYING:
        _PLAYING.clear()
        _PLAYING[key] = Episodes(setting)
    return _PLAYING[key].play(number)


# ---------------------------------------------------------------------------------------------------------- journal


def _key(setting: Setting) -> str:
    """Hash of all that an episode's record depends on; files of policies and modules of Python by their content."""
    digest = hashlib.sha256()
    words = [setting.instance.sha256, setting.seed, setting.strict, setting.time_limit]
    words += [REPLICATIONS, SLOTS, TRAINING_SLOTS]
    for name, spec in setting.policies.items():
        words.append([name, spec if isinstance(spec, str) else repr(type(spec))])
        if isinstance(spec, str) and is_path(spec):
            words += [hashlib.sha256(file.read_bytes()).hexdigest() for file in files_of(spec)]
        else:
            words += _modules(spec)
    digest.update(json.dumps(words).encode())
    return digest.hexdigest()


def _modules(spec: Any) -> list[str]:
    """Hashes of the files that a policy of Python is written in; none where there is no file (a notebook, a method)."""
    names = []
    if isinstance(spec, str) and ":" in spec:
        names.append(spec.partition(":")[0])
        spec = imported(spec)
    if not isinstance(spec, str):
        names.append(getattr(spec, "__module__", None) or type(spec).__module__)
    files = [getattr(sys.modules.get(name), "__file__", None) for name in names]
    return [hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in files if file and Path(file).is_file()]


class _Journal:
    """Samples and records of episodes in a file, a line each, written through; a line that was cut off is left out.

    Attributes
    ----------
    samples : list
        What sampling has found so far, in its order, arrays as lists.

    """

    def __init__(self, path: str | os.PathLike[str], key: str):
        self.path, self.key = Path(path), key
        self.samples: list[Any] = []

    def records(self, number: int) -> dict[int, dict[str, Any]]:
        """Return the episodes that an earlier run of the same evaluation left, and take its `samples`.

        Raises
        ------
        InputError
            If it holds episodes of another one.

        """
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except OSError:
            lines = []
        found: dict[int, dict[str, Any]] = {}
        try:
            same = bool(lines) and json.loads(lines[0]).get("key") == self.key
        except (json.JSONDecodeError, AttributeError):
            same = False
        if len(lines) > 1 and not same:
            words = "holds episodes of another evaluation (other policies, instance, seed, --strict or --time-limit)"
            words += ", or of policies that were changed since"
            raise InputError(str(self.path), [f"{words}: name another output, or remove it"])
        for line in lines[1:]:
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                continue
            if "sample" in record:
                if record["sample"] == len(self.samples):
                    self.samples.append(record["found"])
            elif record["episode"] < number:
                found[record["episode"]] = record
        # Written whole again, so that a line that was cut off does not swallow the next one.
        text = [json.dumps({"key": self.key})]
        text += [self._sample(k, sample) for k, sample in enumerate(self.samples)]
        text += [json.dumps(found[e]) for e in sorted(found)]
        write_text(self.path, "\n".join(text) + "\n")
        return found

    def add(self, record: dict[str, Any]) -> None:
        """Note an episode."""
        self._append(json.dumps(record))

    def add_sample(self, found: Any) -> None:
        """Note what the next sample is."""
        self._append(self._sample(len(self.samples), found))
        self.samples.append(found)

    @staticmethod
    def _sample(number: int, found: Any) -> str:
        return json.dumps({"sample": number, "found": found}, default=lambda array: array.tolist())

    def _append(self, line: str) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())

    def delete(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)
