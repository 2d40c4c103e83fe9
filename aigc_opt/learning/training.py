"""A training in a folder: what is written while it runs, and how it goes on after it was stopped.

==================  ====================================================================================================
agent.json          format, settings, and what it was trained on, how long, by which command
agent-HASH.npz      weights of the best agent that was validated so far, named in agent.json
log.csv             a row for each episode of all environments
checkpoint.pt       everything that the rest of the training depends on; may be deleted when the training is over
tensorboard/        the log's columns, where TensorBoard is installed
==================  ====================================================================================================
"""

from __future__ import annotations

import io
import os
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from aigc_opt.api import versions
from aigc_opt.control import Control
from aigc_opt.errors import InputError
from aigc_opt.instance.files import read_bytes, write_bytes, write_text
from aigc_opt.instance.two_timescale import TwoTimescaleInstance
from aigc_opt.learning.agent import Agent
from aigc_opt.learning.settings import Settings
from aigc_opt.learning.train import Trainer

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

CHECKPOINT_FILE, LOG_FILE, TENSORBOARD_FOLDER = "checkpoint.pt", "log.csv", "tensorboard"
CHECKPOINT_BYTES = 2**32


@dataclass(frozen=True)
class Trained:
    """What a training has come to.

    Attributes
    ----------
    agent : Agent
        The best one that was validated.
    best : float or None
        Its mean cost over the validation episodes; None where nothing was validated yet.
    frames, frames_wanted : int

    """

    agent: Agent
    best: float | None
    frames: int
    frames_wanted: int


def train(
    instance: TwoTimescaleInstance,
    settings: Settings,
    seed: int,
    folder: str | os.PathLike[str],
    control: Control | None = None,
    command: str = "",
) -> Trained:
    """Train an agent into a folder, or go on with what is in it.

    The same instance, settings and seed give the same agent on the same machine and versions, whether the training is
    stopped in between or not. One thread is used.

    Parameters
    ----------
    instance : TwoTimescaleInstance
        With a process.
    settings : Settings
    seed : int
    folder : path
        Made if it is not there.
    control : Control, optional
        Its time limit and interrupts end the training in order, with a checkpoint to go on from.
    command : str
        What is written into ``agent.json`` as the command that made the agent.

    Raises
    ------
    InputError
        If the instance has no process, the folder holds another training, or cannot be written.

    """
    control = control or Control()
    if seed < 0:
        raise InputError("--seed", [f"must be >= 0, got {seed}"])
    if instance.problem != "two_timescale" or instance.process is None:
        raise InputError(instance.name, ["training needs a two-timescale process"])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small networks gain nothing from more, and the order of sums stays the same
    try:
        run = _Run(instance, settings, seed, Path(folder), control, command)
        trainer = run.trainer
        environments, frames = settings.environments, trainer.station.frames
        per_round = environments * frames
        if settings.frames % per_round:
            words = f"frames: {settings.frames} are no whole rounds of {environments} environments x {frames} frames"
            warnings.warn(f"{words}: {trainer.rounds * per_round} are trained", stacklevel=2)
        with control.catching_interrupts():
            run.go()
        best = trainer.progress.best
        return Trained(
            trainer.best_agent(), best if np.isfinite(best) else None,
            trainer.progress.rounds * per_round, trainer.rounds * per_round,
        )  # fmt: skip
    finally:
        torch.set_num_threads(threads)


class _Run:
    def __init__(
        self,
        instance: TwoTimescaleInstance,
        settings: Settings,
        seed: int,
        folder: Path,
        control: Control,
        command: str,
    ):
        self.folder, self.control, self.command = folder, control, command
        self.identity = {
            "process": instance.name,
            "sha256": instance.sha256,
            "seed": seed,
            "settings": settings.model_dump(mode="json"),
        }
        self.trainer = Trainer(instance, settings, seed)
        self.seconds = 0.0
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise InputError(str(folder), [f"cannot be made: {error.strerror}"]) from None
        if (folder / CHECKPOINT_FILE).is_file():
            self._restore()
        elif any(folder.iterdir()):
            raise InputError(str(folder), ["is not empty and holds no training to go on with"])

    def go(self) -> None:
        trainer, control, board = self.trainer, self.control, _board(self.folder, self.trainer.log)
        before, started = self.seconds, time.perf_counter()
        control.report(f"training: {trainer.rounds} rounds, {trainer.progress.rounds} done")
        while not trainer.done and control.stop is None:
            row = trainer.step()
            self.seconds = before + time.perf_counter() - started
            row["elapsed_s"] = round(self.seconds, 3)
            tried = "" if np.isnan(row["validation_cost"]) else f", validated {row['validation_cost']:.3f}"
            control.report(
                f"training: {100 * trainer.progress.rounds / trainer.rounds:.0f}%, {row['frames']} frames, "
                f"cost {row['cost']:.3f} while exploring{tried}"
            )
            if board is not None:
                for name, value in row.items():
                    if not np.isnan(value):
                        board.add_scalar(name, value, int(row["frames"]))
            if tried:
                self._save()
        self._save()
        if board is not None:
            board.close()

    def _save(self) -> None:
        """Write the checkpoint last: what it says is then there."""
        trainer = self.trainer
        self._write_log()
        if np.isfinite(trainer.progress.best):
            about = {
                **{name: self.identity[name] for name in ("process", "sha256", "seed")},
                "frames_trained": trainer.log[-1]["frames"],
                "validation_cost": trainer.progress.best,
                "seconds": round(self.seconds, 1),
                "command": self.command,
                "versions": {**versions(), "torch": torch.__version__},
            }
            trainer.best_agent().save(self.folder, about)
        packed = io.BytesIO()
        torch.save({"identity": self.identity, "seconds": self.seconds, **trainer.state()}, packed)
        write_bytes(self.folder / CHECKPOINT_FILE, packed.getvalue())

    def _write_log(self) -> None:
        log = self.trainer.log
        if log:
            lines = [",".join(log[0])] + [",".join("" if v != v else f"{v:.10g}" for v in row.values()) for row in log]
            write_text(self.folder / LOG_FILE, "\n".join(lines) + "\n")

    def _restore(self) -> None:
        path = self.folder / CHECKPOINT_FILE
        raw = read_bytes(path, CHECKPOINT_BYTES)
        try:
            state: dict[str, Any] = torch.load(io.BytesIO(raw), weights_only=True)
            identity = state["identity"]
        except Exception:  # zipfile, pickle and torch raise all kinds of errors on a damaged file
            raise InputError(str(path), ["is not a checkpoint, or is damaged"]) from None
        for name, value in self.identity.items():
            if identity.get(name) != value:
                other = {"process": "process", "sha256": "process", "seed": "seed"}.get(name, "settings")
                words = f"holds the training of another {other}; choose another folder, or delete this one"
                raise InputError(str(self.folder), [words])
        self.seconds = state["seconds"]
        self.trainer.restore(state)


def _board(folder: Path, log: list[dict[str, float]]) -> SummaryWriter | None:
    """Writer of TensorBoard's files, None where it is not installed.

    What an earlier part wrote beyond its last checkpoint happens again, and is taken out of the picture. TensorBoard
    reads files in the order of their names, which begin with the second: a part that follows in the same one waits.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    now = time.time()
    if log and any((folder / TENSORBOARD_FOLDER).glob(f"*.tfevents.{int(now):010d}.*")):
        time.sleep(int(now) + 1 - now)
    return SummaryWriter(str(folder / TENSORBOARD_FOLDER), purge_step=int(log[-1]["frames"]) + 1 if log else None)
