"""The networks: actors and critic that treat users alike, and the values of caches.

Users enter as a set: one network for each user, which sees the user and a mean over all, so that any number of users,
in any order, is served by the same weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def _perceptron(inputs: int, outputs: int, width: int) -> nn.Sequential:
    layers = [nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, outputs)]
    return nn.Sequential(*layers)


class SetNetwork(nn.Module):
    """Per-user outputs from per-user inputs and the mean of what the network makes of all users.

    ``h_u = f(W x_u)``, ``out_u = V f(A h_u + B mean_v h_v)``; the mean is over the users that ask for something.
    """

    def __init__(self, inputs: int, outputs: int, width: int):
        super().__init__()
        self.enter = nn.Linear(inputs, width)
        self.own = nn.Linear(width, width)
        self.others = nn.Linear(width, width, bias=False)
        self.leave = nn.Linear(width, outputs)

    def forward(self, x: Tensor, asked: Tensor) -> Tensor:
        """Return outputs (n, U, outputs) for inputs (n, U, inputs) and a mask (n, U)."""
        return self.finish(self.enter(x), asked)

    def finish(self, entered: Tensor, asked: Tensor) -> Tensor:
        """Go on after the first linear layer."""
        h = functional.silu(entered) * asked[..., None]
        mean = h.sum(1, keepdim=True) / asked.sum(1, keepdim=True).clamp(min=1.0)[..., None]
        return self.leave(functional.silu(self.own(h) + self.others(mean)))


class PlainActor(nn.Module):
    """Scores, whose tanh is the raw action, in one pass: the actor of DDPG."""

    def __init__(self, features: int, actions: int, width: int):
        super().__init__()
        self.actions = actions
        self.network = SetNetwork(features, actions, width)

    def forward(self, features: Tensor, asked: Tensor, generator: torch.Generator) -> Tensor:
        """Return scores (n, U, actions); the generator is not used."""
        return self.network(features, asked)


class DiffusionActor(nn.Module):
    """Raw actions by a conditional diffusion model: the actor of D3PG.

    From Gaussian noise x_L the reverse chain of a denoising diffusion model (Ho et al., 2020) goes to x_0 in L steps.
    The network predicts the noise in x_t given features and t; x_0 as predicted goes through tanh, so that the action
    ends in (-1, 1) and no clip stops the gradient. The schedule is the variance-preserving one (Song et al., 2021) in L
    steps: ``beta_t = 1 - exp(-beta_min / L - (beta_max - beta_min) (2 t - 1) / (2 L^2))``.
    """

    def __init__(self, features: int, actions: int, width: int, steps: int, beta_min: float, beta_max: float):
        super().__init__()
        self.actions, self.steps = actions, steps
        self.kept: Tensor
        self.from_start: Tensor
        self.from_now: Tensor
        self.spread: Tensor
        self.condition = nn.Linear(features, width)
        self.noised = nn.Linear(actions, width, bias=False)
        self.time = nn.Embedding(steps, width)
        self.network = SetNetwork(1, actions, width)
        del self.network.enter  # its place is taken by the three above
        t = torch.arange(1, steps + 1, dtype=torch.float64)
        beta = 1.0 - torch.exp(-beta_min / steps - (beta_max - beta_min) * (2 * t - 1) / (2 * steps**2))
        kept = torch.cumprod(1.0 - beta, 0)
        before = torch.cat([torch.ones(1, dtype=torch.float64), kept[:-1]])
        constants = {
            "kept": kept,
            # Mean of x_(t-1) given x_t and x_0: from_start x_0 + from_now x_t; the spread is the posterior's.
            "from_start": beta * before.sqrt() / (1.0 - kept),
            "from_now": (1.0 - beta).sqrt() * (1.0 - before) / (1.0 - kept),
            "spread": (beta * (1.0 - before) / (1.0 - kept)).sqrt(),
        }
        for name, values in constants.items():
            self.register_buffer(name, values.float(), persistent=False)

    def forward(self, features: Tensor, asked: Tensor, generator: torch.Generator) -> Tensor:
        """Return scores (n, U, actions), of which x_0 is the tanh; the gradient goes through the whole chain."""
        shape = (*asked.shape, self.actions)
        condition = self.condition(features)
        x = torch.randn(shape, generator=generator)
        for t in reversed(range(self.steps)):
            noise = self.network.finish(condition + self.noised(x) + self.time.weight[t], asked)
            score = (x - (1.0 - self.kept[t]).sqrt() * noise) / self.kept[t].sqrt()
            if t:
                x = self.from_start[t] * torch.tanh(score) + self.from_now[t] * x
                x = x + self.spread[t] * torch.randn(shape, generator=generator)
        return score


class Critic(nn.Module):
    """Value of what each user gets: a slot's cost is a sum over users, and each request's own cost is seen.

    One network for all users, which sees the user's features and what it is given after the amender. What steps are
    worth differs from model to model and has kinks, so a curve of its own for each model, linear between `KNOTS`
    points, is learned beside it.
    """

    KNOTS = 21
    CURVE_SCALE = 5.0  # curves must move faster than other weights: each request teaches two of their points

    def __init__(self, features: int, models: int, width: int):
        super().__init__()
        self.layers = _perceptron(features + 4, 1, 2 * width)
        self.curves = nn.Parameter(torch.zeros(models, self.KNOTS))

    def forward(self, features: Tensor, allocation: Tensor, most_steps: float) -> Tensor:
        """Return values (n, U) of amended allocations (n, U, 4); features begin with the model, one-hot."""
        at_edge, steps, up, down = allocation.unbind(-1)
        users, models = features.shape[1], len(self.curves)
        given = steps / most_steps
        seen = [at_edge, given, *(torch.log(share * users + 1e-6) / 5.0 for share in (up, down))]
        value = self.layers(torch.cat([features, torch.stack(seen, -1)], -1)).squeeze(-1)
        place = given[..., None] * (self.KNOTS - 1) - torch.arange(self.KNOTS)
        near = functional.relu(1.0 - place.abs())
        own = features[..., :models] @ self.curves
        return value + self.CURVE_SCALE * at_edge * (own * near).sum(-1)


class CacheValue(nn.Module):
    """Q-values of caches in two towers: ``Q(s, c) = v(s) + a(s) . b(c)``.

    A cache enters by its bits, so that the network need not have an output for each of 2^M caches; b of a fixed set of
    caches is computed once for all states.
    """

    def __init__(self, observation: int, models: int, width: int):
        super().__init__()
        self.state = _perceptron(observation, width + 1, 2 * width)
        self.cache = _perceptron(models, width, 2 * width)

    def forward(self, observation: Tensor, caches: Tensor) -> Tensor:
        """Return values of one cache (n, M) for each observation (n, D); shape (n,)."""
        of_state = self.state(observation)
        return of_state[:, 0] + (of_state[:, 1:] * self.cache(caches)).sum(1)

    def table(self, observation: Tensor, caches: Tensor) -> Tensor:
        """Return values of all caches (C, M) for each observation (n, D); shape (n, C)."""
        of_state = self.state(observation)
        return of_state[:, :1] + of_state[:, 1:] @ self.cache(caches).T
