"""Slots a second of the joint environment: one after another, in one vector environment, and one in each process.

python benchmarks/environments.py
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from pathlib import Path

import numpy as np

PROCESS = Path(__file__).resolve().parent.parent / "instances" / "examples" / "two-timescale-process.json"


def loop(seconds: float) -> tuple[float, float]:
    """Slots a wall second, and a second of the processor, of single environments, one after another."""
    from aigc_opt.envs.two_timescale import JointEnv

    env = JointEnv(PROCESS)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(64)]
    slots, steps, started, used = 0, 0, time.perf_counter(), time.process_time()
    over = True
    while time.perf_counter() - started < seconds:
        if over:
            env.reset(seed=steps)
        slots += not env.starting
        over = env.step(actions[steps % 64])[2]
        steps += 1
    return slots / (time.perf_counter() - started), slots / (time.process_time() - used)


def vector(number: int, seconds: float, seed: int = 0) -> tuple[float, float]:
    """The same of a vector environment; drawing of episodes, observations and rewards included."""
    from aigc_opt.envs.vector import JointVectorEnv

    env = JointVectorEnv(PROCESS, number)
    random = np.random.default_rng(seed)
    actions = [random.uniform(-1, 1, env.action_space.shape).astype(np.float32) for _ in range(8)]
    env.reset(seed=1_000_000 * seed)
    slots, steps, started, used = 0, 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - started < seconds:
        slots += number * (not env.starting and not env.over)
        env.step(actions[steps % 8])
        steps += 1
    return slots / (time.perf_counter() - started), slots / (time.process_time() - used)


def _in_process(arguments: tuple[int, float, int]) -> tuple[float, float]:
    return vector(*arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--envs", type=int, default=512)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    a = parser.parse_args()
    single = loop(a.seconds)
    one = vector(a.envs, a.seconds)
    with multiprocessing.get_context("spawn").Pool(a.processes) as pool:
        both = pool.map(_in_process, [(a.envs, a.seconds, k) for k in range(a.processes)], chunksize=1)
    rows = {
        "single environments in a loop": single,
        f"one vector of {a.envs}": one,
        f"a vector of {a.envs} in each of {a.processes} processes": tuple(map(sum, zip(*both, strict=True))),
    }
    print("| way | slots a wall second | times the loop | slots a processor second | times the loop |")
    print("|---|---:|---:|---:|---:|")
    for name, (wall, used) in rows.items():
        print(f"| {name} | {wall:,.0f} | {wall / single[0]:.0f} | {used:,.0f} | {used / single[1]:.0f} |")


if __name__ == "__main__":
    main()
