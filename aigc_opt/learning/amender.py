"""The amender: from any raw action to feasible shares and steps, so that gradients go through.

The map of `Station.amend_grants` in PyTorch: steps are scaled down above `min_steps` where they sum to too many; shares
are a softmax among those who send. Where a hit may go to the cloud its choice is hard; the gradient takes that of a
sigmoid in its place (straight through).
"""

from __future__ import annotations

import torch
from torch import Tensor

from aigc_opt.envs.station import Station

SHARPNESS = 1.0
"""Largest over smallest share that actions can say: exp(2), 7.4 to 1. Optimal shares go about with the root of
sizes; wider ranges make most random allocations so bad that a critic sees nothing else."""

CHOICE_SLOPE = 4.0
"""Slope of the sigmoid that stands for the choice between edge and cloud in gradients."""


def raw_size(station: Station) -> int:
    """Numbers of a raw action for each user: steps, uplink, downlink and, where hits are free, edge."""
    return 3 if station.template.serve_all_hits else 4


def amend(station: Station, raw: Tensor, hits: Tensor, sends_up: Tensor, sends_down: Tensor) -> Tensor:
    """Return feasible allocations of n slots.

    Parameters
    ----------
    station : Station
    raw : Tensor, shape (n, U, 3 or 4)
    hits, sends_up, sends_down : Tensor of bool, shape (n, U)

    Returns
    -------
    Tensor, shape (n, U, 4)
        At the edge (0 or 1), steps, share of the uplink, share of the downlink.

    """
    e = station.template
    raw = raw.clamp(-1.0, 1.0)
    least, most, budget = e.min_steps, e.curves.most, e.steps_per_slot
    wish = least + 0.5 * (raw[..., 0] + 1.0) * (most - least)
    if raw.shape[-1] > 3:
        soft = torch.sigmoid(CHOICE_SLOPE * raw[..., 3])
        edge = hits & (raw[..., 3] > 0)
        if least > 0 and station.users * least > budget:
            rank = torch.where(edge, wish, -1.0).argsort(dim=1, descending=True, stable=True).argsort(dim=1)
            edge = edge & (rank < int(budget / least + 1e-9))
        at_edge = edge.to(raw.dtype) + (soft - soft.detach()) * hits
    else:
        at_edge = hits.to(raw.dtype)
    floor = at_edge * least
    above = at_edge * (wish - least)
    room = (budget - floor.sum(1, keepdim=True)).clamp(min=0.0)
    total = above.sum(1, keepdim=True)
    steps = floor + above * torch.where(total > room, room / total.clamp(min=1e-9), torch.ones_like(total))
    shares = [_shares(raw[..., k], sends) for k, sends in ((1, sends_up), (2, sends_down))]
    return torch.stack([at_edge, steps, *shares], dim=-1)


def _shares(raw: Tensor, sends: Tensor) -> Tensor:
    weight = torch.exp(SHARPNESS * raw) * sends
    return weight / weight.sum(1, keepdim=True).clamp(min=1e-30)
