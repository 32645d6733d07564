"""A whole table of published latencies against the four attentions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from t4_model.fitting import ATTENTION_PRIORS
from yoloproof.estimate.forensics import log_likelihood, probabilities, samples_of_table
from yoloproof.estimate.posterior import FACTOR_SPREAD, Posterior, observations
from yoloproof.estimate.shapes import ATTENTIONS

DRAWS = 100  # of the posterior, for each moved prior


def verdicts(
    table: str, posterior: Posterior, factor_spreads: Sequence[float] = (FACTOR_SPREAD,)
) -> dict[float, dict[str, float]]:
    """Spread of the factor between tables → probability of each attention given all figures of `table` together, all
    four held equally probable beforehand; from the same draws."""
    figures = [row for row in observations() if row.table == table]
    samples = {attention: samples_of_table(posterior, figures, attention) for attention in ATTENTIONS}
    return {
        spread: probabilities({name: log_likelihood(logs, figures, spread) for name, logs in samples.items()})
        for spread in factor_spreads
    }


def verdicts_under_moved_priors(posterior: Posterior, tables: Sequence[str]) -> list[tuple[str, str, dict[str, float]]]:
    """(table, attention prior and its median, verdict) with each attention prior moved by its spread: nothing here
    calibrates them."""
    found = []
    for name, prior in ATTENTION_PRIORS.items():
        for sign in (1, -1):
            by = float(np.exp(sign * prior.spread))
            draws = tuple(
                replace(one, constants=replace(one.constants, **{name: by * getattr(one.constants, name)}))
                for one in posterior.draws[:DRAWS]
            )
            moved = replace(posterior, draws=draws)
            found += [
                (table, f"{name} {by * prior.median:.2f}", verdicts(table, moved)[FACTOR_SPREAD]) for table in tables
            ]
    return found
