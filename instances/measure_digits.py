"""Measure quality and time against denoising steps on a real, small diffusion model; write tables for `aigc-opt fit`.

A denoising diffusion model (Ho et al., 2020; 200 steps) is trained here on the 8 x 8 digits that scikit-learn ships,
and sampled with 1 to 200 of its steps (evenly strided, ancestral). For each number of steps and repetition one row::

    digits-frechet.csv          Frechet distance between Gaussians of features (the hidden layer of a classifier)
    digits-total-variation.csv  total variation between the grey levels of samples and of data, mean over the pixels
    digits-error.csv            root mean square error per pixel to the nearest image of the data, mean over the samples

with the wall time of one image, sampled alone. Losses follow from the seed; times are those of the machine that it runs
on. Needs the extras `learn` and `benchmark` ::

    python instances/measure_digits.py -o instances/measurements
    aigc-opt fit instances/measurements/digits-frechet.csv
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier
from torch import Tensor, nn

STEPS = 200
COUNTS = (1, 2, 3, 4, 5, 7, 10, 14, 20, 28, 40, 56, 80, 110, 150, 200)
LEVELS = 17
TRAINING, BATCH, WIDTH = 6000, 256, 256
ROUNDS = 400  # of the classifier
SAMPLES, REPETITIONS, TIMED = 600, 4, 3


class Denoiser(nn.Module):
    """Predicts the noise in an image at a step of the schedule."""

    def __init__(self):
        super().__init__()
        self.time = nn.Embedding(STEPS, WIDTH)
        self.enter, self.leave = nn.Linear(64, WIDTH), nn.Linear(WIDTH, 64)
        self.middle = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the noise in images (n, 64) at steps (n,)."""
        h = self.enter(x) + self.time(t)
        for layer in self.middle:
            h = h + layer(nn.functional.silu(h))
        return self.leave(nn.functional.silu(h))


def schedule() -> Tensor:
    """Share of the signal that is kept at each step, (STEPS,): betas rise linearly (Ho et al., scaled to 200 steps)."""
    return torch.cumprod(1.0 - torch.linspace(1e-4, 0.02, STEPS) * 1000 / STEPS, 0)


def trained(data: Tensor, kept: Tensor) -> Denoiser:
    """Train on images (n, 64) in [-1, 1]."""
    model = Denoiser()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for k in range(TRAINING):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (1 - 0.95 * k / TRAINING)
        x, t = data[torch.randint(len(data), (BATCH,))], torch.randint(STEPS, (BATCH,))
        noise = torch.randn_like(x)
        noisy = kept[t].sqrt()[:, None] * x + (1 - kept[t]).sqrt()[:, None] * noise
        loss = (model(noisy, t) - noise).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


@torch.no_grad()
def sampled(model: Denoiser, kept: Tensor, number: int, steps: int) -> Tensor:
    """Return images (number, 64) after so many of the schedule's steps, the noisiest always among them."""
    at = np.unique(np.round(np.linspace(STEPS - 1, 0, steps)).astype(int))[::-1] if steps > 1 else np.array([STEPS - 1])
    x = torch.randn(number, 64)
    for k, t in enumerate(at):
        noise = model(x, torch.full((number,), int(t)))
        start = ((x - (1 - kept[t]).sqrt() * noise) / kept[t].sqrt()).clamp(-1, 1)
        if k == len(at) - 1:
            return start
        before = kept[at[k + 1]]
        beta = 1 - kept[t] / before
        mean = (before.sqrt() * beta * start + (1 - beta).sqrt() * (1 - before) * x) / (1 - kept[t])
        x = mean + (beta * (1 - before) / (1 - kept[t])).sqrt() * torch.randn_like(x)
    return x


def frechet(one: np.ndarray, other: np.ndarray) -> float:
    """Frechet distance between Gaussians of the moments of features (n, d)."""
    a, b = np.cov(one.T), np.cov(other.T)
    return float(((one.mean(0) - other.mean(0)) ** 2).sum() + np.trace(a + b - 2 * sqrtm(a @ b).real))


def histograms(images: np.ndarray) -> np.ndarray:
    """Shares of the grey levels of each pixel, (64, LEVELS), of images in 0..16."""
    levels = np.round(images).astype(int)
    return np.stack([(levels == level).mean(0) for level in range(LEVELS)], axis=1)


def main() -> None:
    """Train, sample, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", dest="output", required=True, metavar="FOLDER")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    digits = load_digits()
    data = digits.data
    classifier = MLPClassifier((64,), max_iter=ROUNDS, random_state=arguments.seed).fit(data / 16, digits.target)

    def features(images: np.ndarray) -> np.ndarray:
        return np.maximum(images / 16 @ classifier.coefs_[0] + classifier.intercepts_[0], 0.0)

    kept = schedule()
    started = time.perf_counter()
    model = trained(torch.tensor(data / 8 - 1, dtype=torch.float32), kept)
    print(f"trained in {time.perf_counter() - started:.0f} s")
    real, shares = features(data), histograms(data)
    tables: dict[str, list[str]] = {name: [] for name in ("frechet", "total-variation", "error")}
    for steps in COUNTS:
        for _ in range(REPETITIONS):
            images = (sampled(model, kept, SAMPLES, steps).numpy().astype(float) + 1) * 8
            times = []
            for _ in range(TIMED):
                started = time.perf_counter()
                sampled(model, kept, 1, steps)
                times.append(time.perf_counter() - started)
            losses = {
                "frechet": frechet(features(images), real),
                "total-variation": 0.5 * abs(histograms(images) - shares).sum(1).mean(),
                "error": cdist(images, data).min(1).mean() / 64**0.5 / 16,
            }
            for name, loss in losses.items():
                tables[name].append(f"{steps},{loss:.6g},{np.median(times):.6g}")
        print(f"{steps:4d} steps: " + ", ".join(f"{name} {loss:.4g}" for name, loss in losses.items()))
    for name, rows in tables.items():
        path = Path(arguments.output) / f"digits-{name}.csv"
        path.write_text("\n".join(["steps,quality_loss,latency_s", *rows]) + "\n")
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
