"""The best cache for linear rewards: a 0/1 knapsack with real sizes, exact, and its linear relaxation."""

from __future__ import annotations

import numpy as np

NODE_LIMIT = 200_000


def best_knapsack(reward: np.ndarray, size: np.ndarray, capacity: float) -> tuple[np.ndarray, float]:
    """Maximise ``reward @ x`` over ``size @ x <= capacity``, x in {0,1}: depth first, with Dantzig's bound.

    Parameters
    ----------
    reward, size : ndarray, shape (M,)
        Sizes > 0; what has no positive reward is left out.
    capacity : float

    Returns
    -------
    x : ndarray of bool, shape (M,)
    bound : float
        No choice earns more; it is what `x` earns, but for rounding, unless `NODE_LIMIT` nodes were not enough.

    """
    items = [i for i in np.argsort(-reward / size, kind="stable").tolist() if reward[i] > 0 and size[i] <= capacity]
    gain, room_of = [float(reward[i]) for i in items], [float(size[i]) for i in items]
    number = len(items)
    x = np.zeros(len(reward), bool)
    if capacity < 0 or number == 0:
        return x, 0.0

    def dantzig(k: int, room: float) -> float:
        total = 0.0
        while k < number:
            if room_of[k] > room:
                return total + gain[k] * room / room_of[k]
            room -= room_of[k]
            total += gain[k]
            k += 1
        return total

    best, nodes, unexplored = 0.0, 0, 0.0
    chosen_best: tuple[int, ...] = ()
    stack: list[tuple[int, float, float, tuple[int, ...]]] = [(0, float(capacity), 0.0, ())]
    rounding = 1e-12 * sum(gain)
    while stack:
        k, room, value, chosen = stack.pop()
        if value > best:
            best, chosen_best = value, chosen
        if k == number:
            continue
        bound = value + dantzig(k, room)
        if bound <= best + rounding:
            continue
        nodes += 1
        if nodes > NODE_LIMIT:
            unexplored = max([bound] + [v + dantzig(i, left) for i, left, v, _ in stack])
            break
        stack.append((k + 1, room, value, chosen))
        if room_of[k] <= room:
            stack.append((k + 1, room - room_of[k], value + gain[k], (*chosen, k)))
    x[[items[i] for i in chosen_best]] = True
    return x, max(best, unexplored) + rounding


def fractional_knapsack(reward: np.ndarray, size: np.ndarray, capacity: np.ndarray) -> np.ndarray:
    """Solve the linear relaxations of n knapsacks: x (n, M) in [0, 1], for rewards (n, M) and capacities (n, 1)."""
    useful = (reward > 0) & (size <= capacity)
    order = np.argsort(-np.where(useful, reward / size, -np.inf), axis=1, kind="stable")
    sizes = np.where(np.take_along_axis(useful, order, 1), size[order], 0.0)
    before = np.cumsum(sizes, axis=1) - sizes
    share = np.where(sizes > 0, np.clip((capacity - before) / np.where(sizes > 0, sizes, 1.0), 0.0, 1.0), 0.0)
    x = np.zeros_like(reward)
    np.put_along_axis(x, order, share, 1)
    return x
