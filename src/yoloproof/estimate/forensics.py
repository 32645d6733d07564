"""How probable a published latency is under each way the attention may have been run.

The likelihoods speak of engines as this model sees them. They do not say what anybody did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from yoloproof.estimate.calibration import NOISE, Observation, observations
from yoloproof.estimate.cost import network_seconds
from yoloproof.estimate.gpus import GPUS
from yoloproof.estimate.kernels import table_from_kernels
from yoloproof.estimate.posterior import (
    NEW_TABLE_SPREAD,
    Posterior,
    committed_posterior,
    interval,
    latency_samples,
    point_latency_s,
)
from yoloproof.estimate.shapes import ATTENTIONS, kernels_from_shapes


@dataclass(frozen=True)
class TableVerdict:
    """One table of figures against the four attentions.

    log_likelihood -- of all its figures together, by attention
    probability -- the same, normalised, all four held equally probable beforehand
    """

    table: str
    figures: tuple[Observation, ...]
    log_likelihood: dict[str, float]
    probability: dict[str, float]


def samples_of_table(
    posterior: Posterior, figures: Sequence[Observation], attention: str, seed: int = 0
) -> NDArray[np.float64]:
    """Log latencies [draws, figures] with a drawn offset, a typical factor and no noise."""
    rng = np.random.default_rng(seed)
    table = table_from_kernels([kernels_from_shapes(row.model, attention) for row in figures])
    rows = []
    for one in posterior.draws:
        offset, factor = one.typical_table()
        offset *= float(np.exp(rng.normal(0, NEW_TABLE_SPREAD["offset_s"])))
        rows.append(np.log(offset + factor * network_seconds(table, one.constants, one.form, GPUS["t4"])))
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


def verdict(
    table: str, posterior: Posterior | None = None, factor_spread: float = NEW_TABLE_SPREAD["factor"]
) -> TableVerdict:
    """The figures of one table under each attention."""
    return verdicts(table, posterior or committed_posterior(), (factor_spread,))[factor_spread]


def verdicts(table: str, posterior: Posterior, factor_spreads: Sequence[float]) -> dict[float, TableVerdict]:
    """`verdict` for several spreads of the factor between tables, from the same draws."""
    figures = tuple(row for row in observations() if row.table == table)
    samples = {attention: samples_of_table(posterior, figures, attention) for attention in ATTENTIONS}
    found = {}
    for spread in factor_spreads:
        logs = {attention: log_likelihood(samples[attention], figures, spread) for attention in ATTENTIONS}
        found[spread] = TableVerdict(table, figures, logs, probabilities(logs))
    return found


@dataclass(frozen=True)
class ModelForensics:
    """One model: the estimate and its 90 % interval by attention, and every figure known with its likelihoods."""

    model: str
    estimates_s: dict[str, tuple[float, float, float]]
    figures: tuple[Observation, ...]
    probability: dict[str, dict[str, float]]


def forensics(model: str, posterior: Posterior | None = None) -> ModelForensics:
    """Estimates under the four attentions beside the figures reported and measured; `probability` is by figure's role
    and attention, each figure taken alone."""
    known = posterior or committed_posterior()
    estimates = {}
    for attention in ATTENTIONS:
        table = table_from_kernels([kernels_from_shapes(model, attention)])
        low, high = interval(latency_samples(known, table, GPUS["t4"])[:, 0], 0.9)
        estimates[attention] = (float(point_latency_s(known, table)[0]), low, high)
    figures = tuple(row for row in observations() if row.model == model)
    spread, alone = NEW_TABLE_SPREAD["factor"], {}
    samples = {attention: samples_of_table(known, figures[:1], attention) for attention in ATTENTIONS if figures}
    for row in figures:
        if row.role != "calibrate":
            logs = {attention: log_likelihood(samples[attention], [row], spread) for attention in ATTENTIONS}
            alone[row.role] = probabilities(logs)
    return ModelForensics(model, estimates, figures, alone)
