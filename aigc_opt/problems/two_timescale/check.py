"""The independent checker of two timescales: instance and solution alone, no arithmetic shared with the solvers.

It walks over caches frame by frame and over requests some frames at a time, reads the instance's own fields, and
recomputes rates, delays, switches, costs and every constraint as the problem's statement does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from aigc_opt.instance.two_timescale import TwoTimescaleInstance
from aigc_opt.problems.two_timescale.solution import TwoTimescaleSolution
from aigc_opt.result import Check, Violation

TOLERANCE = 1e-6
"""A row g <= b may be broken by max(TOLERANCE, TOLERANCE |b|); a binary may be this far from an integer."""

REQUESTS_AT_ONCE = 100_000
"""So many places for requests are looked at together: long episodes take no longer by frames than by requests."""


def check(instance: TwoTimescaleInstance, solution: TwoTimescaleSolution) -> Check:
    """Recompute the objective of a solution and find every constraint that it breaks.

    Parameters
    ----------
    instance : TwoTimescaleInstance
        With `requests`.
    solution : TwoTimescaleSolution

    Returns
    -------
    Check
        `objective` is None where a transfer has no share, which takes for ever, or where it overflows.

    """
    frames, slots, users = instance.requests.model.shape
    violations: list[Violation] = []
    violations += _whole("cached", solution.cached, lambda t, m: f"frame {t + 1}, model {instance.models[m].name}")
    violations += _whole("at_edge", solution.at_edge, _request)
    cached, at_edge = np.round(solution.cached), np.round(solution.at_edge)
    before = np.zeros(len(instance.models)) if instance.initial_cache is None else instance.initial_cache
    delay = quality = switching = 0.0
    valued = True
    for t in range(frames):
        violations += _storage(instance, t, cached[t])
        switching += _switching_s(instance, cached[t], before)
        before = cached[t]
    together = max(1, REQUESTS_AT_ONCE // (slots * users))
    for first in range(0, frames, together):
        of = slice(first, first + together)
        violations += _service(instance, of, cached[of], at_edge[of], solution.steps[of])
        for direction in ("uplink", "downlink"):
            share = getattr(solution, f"{direction}_share")[of]
            violations += _shares(instance, of, direction, share)
            seconds = _transfer_s(instance, of, direction, share)
            valued = valued and seconds is not None
            delay += seconds or 0.0
        generation_s, loss = _generation(instance, of, at_edge[of], solution.steps[of])
        delay += generation_s
        quality += loss
    weights, number = instance.weights, frames * slots
    terms = {
        "delay": weights.delay * delay / number,
        "quality": weights.quality * quality / number,
        "switching": weights.switching * switching / frames,
    }
    if not valued or not np.isfinite(sum(terms.values())):
        return Check(None, None, tuple(violations))
    terms = {name: float(value) for name, value in terms.items()}
    return Check(sum(terms.values()), terms, tuple(violations))


def _exceeds(amount: np.ndarray | float, limit: np.ndarray | float) -> np.ndarray:
    return amount > np.maximum(TOLERANCE, TOLERANCE * np.abs(limit))


def _request(t: int, k: int, u: int) -> str:
    return f"frame {t + 1}, slot {k + 1}, user {u + 1}"


def _whole(name: str, values: np.ndarray, where: Callable[..., str]) -> Iterator[Violation]:
    """Binaries: near an integer, and that integer 0 or 1."""
    rounded = np.round(values)
    for place in np.argwhere(abs(values - rounded) > TOLERANCE):
        at = tuple(place)
        yield Violation(f"{name}_is_binary", where(*at), float(abs(values[at] - rounded[at])))
    for place in np.argwhere((rounded < 0) | (rounded > 1)):
        at = tuple(place)
        yield Violation(f"{name}_is_binary", where(*at), float(max(-rounded[at], rounded[at] - 1)))


def _rows(name: str, of: slice, amount: np.ndarray, limit: np.ndarray | float) -> Iterator[Violation]:
    """Violations of rows of frames `of`, `amount` (n, K) a slot or (n, K, U) a request above their limits."""
    for place in np.argwhere(_exceeds(amount, limit)):
        t, k = of.start + place[0], place[1]
        where = _request(t, k, place[2]) if len(place) == 3 else f"frame {t + 1}, slot {k + 1}"
        yield Violation(name, where, float(amount[tuple(place)]))


def _storage(instance: TwoTimescaleInstance, t: int, cached: np.ndarray) -> Iterator[Violation]:
    used = sum(float(there) * model.storage_gb for there, model in zip(cached, instance.models, strict=True))
    limit = instance.edge.storage_gb
    if _exceeds(used - limit, limit):
        yield Violation("storage", f"frame {t + 1}", used - limit)


def _service(
    instance: TwoTimescaleInstance, of: slice, cached: np.ndarray, at_edge: np.ndarray, steps: np.ndarray
) -> Iterator[Violation]:
    """Who is served at the edge, with how many steps: of frames `of`, caches [n, M], the others [n, K, U]."""
    edge, model = instance.edge, instance.requests.model[of]
    asked = model >= 0
    hit = np.where(asked, cached[np.arange(len(cached))[:, None, None], np.maximum(model, 0)], 0.0)
    served = asked & (at_edge > 0.5)
    yield from _rows("no_request", of, np.where(asked, 0.0, np.maximum(abs(at_edge), abs(steps))), 0.0)
    yield from _rows("hit", of, np.where(asked, at_edge - hit, 0.0), 0.0)
    if instance.serve_all_hits:
        yield from _rows("serve_all_hits", of, np.where(asked, hit - at_edge, 0.0), 0.0)
    yield from _rows("min_steps", of, np.where(served, edge.min_steps - steps, 0.0), edge.min_steps)
    yield from _rows("max_steps", of, np.where(served, steps - edge.max_steps, 0.0), edge.max_steps)
    yield from _rows("steps_at_edge", of, np.where(asked & ~served, abs(steps), 0.0), 0.0)
    total = np.where(asked, steps, 0.0).sum(axis=2)
    yield from _rows("steps_per_slot", of, total - edge.steps_per_slot, edge.steps_per_slot)


def _shares(instance: TwoTimescaleInstance, of: slice, direction: str, share: np.ndarray) -> Iterator[Violation]:
    """Shares [n, K, U] of one direction: parts of a whole, none without a request, some for a transfer."""
    asked = instance.requests.model[of] >= 0
    size = _sizes(instance, of, direction)
    yield from _rows("no_request", of, np.where(asked, 0.0, abs(share)), 0.0)
    yield from _rows(f"{direction}_is_share", of, np.where(asked, np.maximum(-share, share - 1.0), 0.0), 1.0)
    yield from _rows(f"{direction}_share", of, np.where(asked, share, 0.0).sum(axis=2) - 1.0, 1.0)
    for t, k, u in np.argwhere((size > 0) & ~(share > 0)):
        yield Violation(f"{direction}_without_share", _request(of.start + t, k, u), float(size[t, k, u]))


def _sizes(instance: TwoTimescaleInstance, of: slice, direction: str) -> np.ndarray:
    """Megabits [n, K, U] that go in this direction, 0 without a request."""
    requests = instance.requests
    size = (requests.input_mbit if direction == "uplink" else requests.output_mbit)[of]
    return np.where(requests.model[of] >= 0, size, 0.0)


def _transfer_s(instance: TwoTimescaleInstance, of: slice, direction: str, share: np.ndarray) -> float | None:
    """Sum of the transfer times of some frames, s; None where a transfer has no share."""
    edge, requests = instance.edge, instance.requests
    size = _sizes(instance, of, direction)
    sent = size > 0
    if not (share[sent] > 0).all():
        return None
    watt: np.ndarray | float
    if direction == "uplink":
        watt, gain = np.broadcast_to(instance.user_power_w, size.shape)[sent], requests.uplink_gain[of][sent]
        hertz = 1e6 * edge.uplink_mhz
    else:
        watt, gain = edge.power_w, requests.downlink_gain[of][sent]
        hertz = 1e6 * edge.downlink_mhz
    noise = 10.0 ** ((edge.noise_dbm_per_hz - 30.0) / 10.0)
    width = share[sent] * hertz
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        ratio = watt * gain / (noise * width)
        # Where the ratio overflows (tiny shares) the rate would be infinite, and the transfer take no time.
        logs = np.log(watt) + np.log(gain) - np.log(noise) - np.log(width)
        nats = np.where(np.isfinite(ratio), np.log1p(ratio), logs)
        return float((1e6 * size[sent] / (width * nats / np.log(2.0))).sum())


def _generation(
    instance: TwoTimescaleInstance, of: slice, at_edge: np.ndarray, steps: np.ndarray
) -> tuple[float, float]:
    """Sum over some frames' requests of generation and backhaul delays, s, and of quality losses."""
    requests, cloud = instance.requests, instance.cloud
    asked = requests.model[of] >= 0
    served = asked & (at_edge > 0.5)
    away = asked & ~served
    model_here, steps_here = requests.model[of][served], steps[served]
    sent_away = np.bincount(requests.model[of][away], minlength=len(instance.models))
    size = (requests.input_mbit[of][away] + requests.output_mbit[of][away]).sum()
    in_cloud_s = cloud.latency.base_s + cloud.latency.per_step_s * cloud.steps
    seconds = float(size / instance.edge.backhaul_mbps + sent_away.sum() * in_cloud_s)
    loss = 0.0
    for index, model in enumerate(instance.models):
        of_model = steps_here[model_here == index]
        seconds += float((model.latency.base_s + model.latency.per_step_s * of_model).sum())
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            loss += float(np.sum(model.quality.value(of_model)))
        loss += int(sent_away[index]) * float(model.quality.value(np.array(cloud.steps)))
    return seconds, loss


def _switching_s(instance: TwoTimescaleInstance, cached: np.ndarray, before: np.ndarray) -> float:
    """Seconds of fetching and loading what was not in the cache before."""
    total = 0.0
    for model, now, then in zip(instance.models, cached, before, strict=True):
        copy_s = 8.0 * model.storage_gb / instance.edge.cloud_gbps
        load_s = model.gpu_memory_gb / instance.edge.io_gb_per_s + model.warmup_s
        total += (copy_s + load_s) * max(0.0, float(now) - float(then))
    return total
