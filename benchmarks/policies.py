"""Published agents against the bounds: Stable-Baselines3's algorithms, trained on the caching environment.

    python benchmarks/policies.py --agents agents --output table.md

Every agent is trained from its library's defaults but for what `AGENTS` says, saved as a file, and judged by
`aigc_opt.evaluation.evaluate` as anybody's file would be, on episodes that it was not trained on, beside the baselines.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
import time
from pathlib import Path

PROCESS = Path(__file__).resolve().parent.parent / "instances" / "examples" / "two-timescale-process.json"
FIRST_EPISODE = 0
TRAINING_SEEDS = 1_000_000  # environments are seeded from here on, far from the evaluated episodes

# Frames do not interact in this process (no cost of switching), so the next frame's reward says nothing: gamma = 0.
AGENTS = {
    "DQN": ("discrete", {"gamma": 0.0, "learning_starts": 500, "exploration_fraction": 0.5}),
    "PPO": ("scores", {"gamma": 0.0, "n_steps": 500, "batch_size": 100}),
    "DDPG": ("scores", {"gamma": 0.0, "learning_starts": 500}),
    "SAC": ("scores", {"gamma": 0.0, "learning_starts": 500}),
}
BASELINES = ("myopic", "lru", "lfu", "popular", "popular-genetic", "random-average", "offline")


def train(name: str, seed: int, steps: int, folder: str) -> tuple[str, float]:
    """Train an agent and save it, unless the folder has it; return its file and the seconds that training took."""
    path, clock = os.path.join(folder, f"{name}-{seed}.zip"), Path(folder, f"{name}-{seed}.seconds")
    if os.path.exists(path) and clock.exists():
        return path, float(clock.read_text())
    import gymnasium
    import stable_baselines3
    import torch
    from stable_baselines3.common.noise import NormalActionNoise

    import aigc_opt.envs  # noqa: F401  registers the environments

    torch.set_num_threads(1)
    actions, options = AGENTS[name]
    env = gymnasium.make("aigc_opt/TwoTimescaleCaching-v0", instance=PROCESS, actions=actions)
    env = gymnasium.wrappers.TransformReward(env, lambda reward: (reward + 40.0) / 4.0)  # about 0, about 1
    env.reset(seed=TRAINING_SEEDS + seed)
    if name == "DDPG":
        import numpy as np

        options = options | {"action_noise": NormalActionNoise(np.zeros(10), np.full(10, 0.3))}
    started = time.perf_counter()
    agent = getattr(stable_baselines3, name)("MlpPolicy", env, seed=TRAINING_SEEDS + seed, device="cpu", **options)
    agent.learn(steps)
    seconds = time.perf_counter() - started
    agent.save(path)
    clock.write_text(f"{seconds:.1f}\n")
    return path, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=10_000, help="frames that every agent is trained on")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--only", nargs="*", default=list(AGENTS))
    parser.add_argument("--agents", help="keep the agents in this folder, and do not train those again that it has")
    parser.add_argument("--output", help="write the table here too")
    arguments = parser.parse_args()
    from aigc_opt.evaluation import evaluate

    kept = contextlib.nullcontext(arguments.agents) if arguments.agents else tempfile.TemporaryDirectory()
    with kept as folder:
        Path(folder).mkdir(exist_ok=True)
        policies, spent = {name: name for name in BASELINES}, {}
        for name in arguments.only:
            for seed in range(arguments.seeds):
                path, seconds = train(name, seed, arguments.steps, folder)
                label = f"{name}, seed {seed}"
                policies[label], spent[label] = path, seconds
                print(f"trained {label} in {seconds:.0f} s", flush=True)
        say = lambda line: print(line, flush=True)  # noqa: E731
        journal = os.path.join(folder, "episodes")
        report = evaluate(PROCESS, policies, arguments.episodes, FIRST_EPISODE, workers=arguments.workers,
                          journal=journal, say=say)  # fmt: skip
    data = report.to_dict()
    lower = data["bounds"]["nonanticipative"]["lower"]
    lines = [
        "| policy | cost | 95% interval | above hindsight | above what can be reached | training frames | training s |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for label, bound in (
        ("*hindsight bound*", data["bounds"]["hindsight"]),
        ("*non-anticipative lower*", lower),
        ("*non-anticipative upper*", data["bounds"]["nonanticipative"]["upper"]),
    ):
        low, high = bound["ci"]
        lines.append(f"| {label} | {bound['mean']:.2f} | {low:.2f} to {high:.2f} | | | | |")
    for policy in sorted(data["policies"], key=lambda p: p["cost"]["mean"]):
        cost, name = policy["cost"], policy["name"]
        above = 100 * (cost["mean"] / lower["mean"] - 1)
        trained = f"{arguments.steps:,} | {spent[name]:.0f}" if name in spent else "- | -"
        lines.append(
            f"| {name} | {cost['mean']:.2f} | {cost['ci'][0]:.2f} to {cost['ci'][1]:.2f} | "
            f"{100 * policy['gap']['mean']:.2f}% | {above:.2f}% | {trained} |"
        )
    table = "\n".join(lines)
    print(table, report.table(), sep="\n\n")
    if arguments.output:
        Path(arguments.output).write_text(table + "\n")


if __name__ == "__main__":
    main()
