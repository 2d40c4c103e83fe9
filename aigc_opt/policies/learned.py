"""Policies in files of learners: Stable-Baselines3, ONNX, TorchScript. All become a function from vector to vector.

Which environment a network was trained on is read from the sizes of its input and output. Files of learners can run
code when they are opened: open only those that you trust.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from aigc_opt.envs.station import definite
from aigc_opt.errors import InputError, MissingSolverError

Act = Callable[[np.ndarray], np.ndarray]
"""Observation (D,) of float32 -> action: numbers, scores of the choices, or the number of a choice (an integer)."""

ENDINGS = {".zip": "Stable-Baselines3", ".onnx": "ONNX", ".pt": "TorchScript", ".pth": "TorchScript"}


def act_of(path: Path) -> Act:
    """Read a model file, by its ending.

    Raises
    ------
    InputError
        If it cannot be read.
    MissingSolverError
        If what reads it is not installed.

    """
    kind = ENDINGS[path.suffix]
    read = {"Stable-Baselines3": _stable_baselines, "ONNX": _onnx, "TorchScript": _torchscript}[kind]
    try:
        return read(path)
    except ImportError as error:
        package = error.name or str(error)
        words = f'a policy of {kind} needs {package}, which is not installed; get it with: pip install "aigc_opt[rl]"'
        raise MissingSolverError(words) from None
    except (InputError, MissingSolverError):
        raise
    except Exception as error:  # each reader has its own errors
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(str(path), [f"cannot be read as a model of {kind}: {line}"]) from None


def _stable_baselines(path: Path) -> Act:
    import stable_baselines3 as sb3

    with zipfile.ZipFile(path) as archive:
        saved = json.loads(archive.read("data"))
    module = str(saved.get("policy_class", {}).get("__module__", ""))
    # The file does not name its algorithm, but its policy's module does; what is left share one.
    kinds: dict[str, Any] = {"dqn": sb3.DQN, "sac": sb3.SAC, "td3": sb3.TD3}
    found = [kinds[name] for name in kinds if f".{name}." in module] or [sb3.PPO, sb3.A2C]
    for k, algorithm in enumerate(found):
        try:
            model = algorithm.load(path, device="cpu")
            break
        except Exception:
            if k == len(found) - 1:
                raise

    def act(observation: np.ndarray) -> np.ndarray:
        return np.asarray(model.predict(observation, deterministic=True)[0])

    return act


def _onnx(path: Path) -> Act:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # workers share the processor already
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def act(observation: np.ndarray) -> np.ndarray:
        return np.asarray(session.run(None, {name: observation[None].astype(np.float32)})[0])[0]

    return act


def _torchscript(path: Path) -> Act:
    import torch

    torch.set_num_threads(1)
    network = torch.jit.load(str(path), map_location="cpu").eval()

    def act(observation: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return network(torch.from_numpy(observation[None].astype(np.float32)))[0].numpy()

    return act


def probe(act: Act, sizes: dict[str, int]) -> list[tuple[str, Any]]:
    """Return the names of input sizes that the function accepts, each with its answer to an input of zeros."""
    found = []
    for name, size in sizes.items():
        try:
            found.append((name, np.asarray(act(np.zeros(size, np.float32)))))
        except Exception:  # each library has its own errors for an input of another size
            continue
    return found


def choice(answer: np.ndarray, number: int) -> int:
    """Return the chosen one of so many: an integer is it, else the highest score."""
    answer = definite(answer)
    chosen = int(answer.reshape(-1)[0]) if answer.size == 1 else int(answer.argmax())
    return min(max(chosen, 0), number - 1)
