"""How probable a published latency is under each attention that it may have been run with.

The likelihoods speak of engines as this model sees them. They do not say what anybody did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from yoloproof.estimate.domain import distance
from yoloproof.estimate.gpus import GPUS
from yoloproof.estimate.kernels import table_from_kernels
from yoloproof.estimate.posterior import (
    FACTOR_SPREAD,
    NOISE,
    OFFSET_SPREAD,
    Observation,
    Posterior,
    committed_posterior,
    honest_interval,
    interval,
    latency_samples,
    observations,
    point_latency_s,
)
from yoloproof.estimate.shapes import ATTENTIONS, kernels_from_shapes


def samples_of_table(posterior: Posterior, figures: Sequence[Observation], attention: str) -> NDArray[np.float64]:
    """Log latencies [draws, figures] with a drawn offset, a typical factor and no noise."""
    rng = np.random.default_rng(0)
    table = table_from_kernels([kernels_from_shapes(row.model, attention) for row in figures])
    rows = []
    for one in posterior.draws:
        offset, factor = one.typical_table()
        offset *= float(np.exp(rng.normal(0, OFFSET_SPREAD)))
        rows.append(np.log(offset + factor * one.kernel_s(table, GPUS["t4"])))
    return np.stack(rows)


def log_likelihood(
    logs: NDArray[np.float64], figures: Sequence[Observation], factor_spread: float, noise: float = NOISE
) -> float:
    """Log density of the figures' logarithms: normal about each draw, with independent noise and a factor that all
    figures of the table share (its logarithm has standard deviation `factor_spread`), averaged over the draws."""
    off = np.log([row.seconds for row in figures]) - logs
    count = off.shape[1]
    covariance = noise**2 * np.eye(count) + factor_spread**2
    quadratic = np.einsum("di,ij,dj->d", off, np.linalg.inv(covariance), off)
    log_density = -0.5 * (quadratic + np.linalg.slogdet(covariance)[1] + count * np.log(2 * np.pi))
    return float(np.logaddexp.reduce(log_density) - np.log(len(log_density)))


def probabilities(log_likelihoods: dict[str, float]) -> dict[str, float]:
    """exp, normalised."""
    values = np.array(list(log_likelihoods.values()))
    weights = np.exp(values - values.max())
    return dict(zip(log_likelihoods, (weights / weights.sum()).tolist(), strict=True))


@dataclass(frozen=True)
class ModelForensics:
    """One model: the estimate and its 90 % interval by attention, every figure known, and by figure's role how probable
    each attention is from that figure alone, all four held equally probable beforehand."""

    model: str
    estimates_s: dict[str, tuple[float, float, float]]
    figures: tuple[Observation, ...]
    probability: dict[str, dict[str, float]]


def forensics(model: str, posterior: Posterior | None = None) -> ModelForensics:
    """Estimates under the four attentions beside the figures reported and measured; `posterior`: the committed one."""
    known = posterior or committed_posterior()
    estimates = {}
    for attention in ATTENTIONS:
        table = table_from_kernels([kernels_from_shapes(model, attention)])
        raw = interval(latency_samples(known, table, GPUS["t4"])[:, 0], 0.9)
        away = distance(table, known.point.constants, known.point.formula, (640, 640))
        seconds = float(point_latency_s(known.point, table)[0])
        estimates[attention] = (seconds, *honest_interval(raw, 0.9, seconds, away.doubt, away.inside))
    figures = tuple(row for row in observations() if row.model == model)
    samples = {attention: samples_of_table(known, figures[:1], attention) for attention in ATTENTIONS if figures}
    alone = {}
    for row in figures:
        if row.role != "calibrate":
            logs = {attention: log_likelihood(samples[attention], [row], FACTOR_SPREAD) for attention in ATTENTIONS}
            alone[row.role] = probabilities(logs)
    return ModelForensics(model, estimates, figures, alone)
