"""The calibrated model as committed, the figures it was calibrated on, and how it predicts. research/t4.py fits it."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from math import exp, hypot, log
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yoloproof.estimate.cost import Constants, Formula, network_seconds
from yoloproof.estimate.gpus import GPUS, GpuRates
from yoloproof.estimate.kernels import KernelTable

NARROWING = 0.65  # of the interval's logs: as drawn, the 90 % interval held all thirty held-out figures
NOISE = 0.07  # standard deviation of log latency: two tables of one author list the same YOLO11 networks 3–12 % apart
# How far the logs of another table's offset and factor may lie from the typical; the three seen: 0.62 and 0.09.
OFFSET_SPREAD, FACTOR_SPREAD = 0.6, 0.10


@dataclass(frozen=True)
class Observation:
    """One published latency: model, seconds, the table it stands in, its role (calibrate, size, reported, measured)."""

    model: str
    seconds: float
    table: str
    role: str
    protocol: str
    source: str


@cache
def observations(role: str | None = None) -> tuple[Observation, ...]:
    """The committed published figures, all or those of one role."""
    rows = csv.DictReader(_committed("published_t4.csv").splitlines())
    found = (
        Observation(r["model"], float(r["latency_ms"]) / 1e3, r["table"], r["role"], r["protocol"], r["source"])
        for r in rows
    )
    return tuple(row for row in found if role in (None, row.role))


def _committed(name: str) -> str:
    return (files("yoloproof.estimate") / "data" / name).read_text(encoding="utf-8")


@dataclass(frozen=True)
class Fit:
    """One fit of the model.

    tables -- table of figures → its offset (seconds of a run outside the kernels) and its factor (clocks, drivers and
    versions against the mean table); the prior's count as one more table
    misfit -- half the sum of squares, priors included
    effective_parameters -- how many parameters the figures, rather than the priors, decided
    """

    formula: Formula
    constants: Constants
    tables: dict[str, tuple[float, float]]
    misfit: float
    effective_parameters: float = 0.0

    def typical_table(self) -> tuple[float, float]:
        """Offset and factor for a table that has no figures in the fit: geometric means."""
        logs = np.log(np.array(list(self.tables.values())))
        offset, factor = np.exp(logs.mean(axis=0))
        return float(offset), float(factor)

    def kernel_s(self, table: KernelTable, gpu: GpuRates) -> NDArray[np.float64]:
        """Seconds of the kernels of each network in `table`."""
        return network_seconds(table, self.constants, self.formula, gpu)

    def latency_s(self, kernel_s: float | NDArray[np.float64], table: str | None = None) -> NDArray[np.float64]:
        """Latency as `table` would list it (None or unknown: a typical one) from the seconds of the kernels."""
        offset, factor = self.tables[table] if table in self.tables else self.typical_table()
        return np.asarray(offset + factor * np.asarray(kernel_s), dtype=np.float64)

    def with_drawn_tables(self, tables: Iterable[str], rng: np.random.Generator) -> Fit:
        """The fit with an offset and a factor drawn for each of `tables` that it lacks."""
        offset, factor = self.typical_table()
        drawn = {
            table: (
                offset * float(np.exp(rng.normal(0, OFFSET_SPREAD))),
                factor * float(np.exp(rng.normal(0, FACTOR_SPREAD))),
            )
            for table in tables
        }
        return replace(self, tables={**drawn, **self.tables})


@dataclass(frozen=True)
class HeldOutErrors:
    """What holding out showed: number of figures, mean and worst absolute error and the intervals' coverage, as
    fractions."""

    figures: float
    mean_error: float
    worst_error: float
    coverage_50: float
    coverage_90: float


@dataclass(frozen=True)
class Posterior:
    """The fit of the default formula, bootstrap draws over models, families and formulas, and the held-out errors."""

    point: Fit
    draws: tuple[Fit, ...]
    held_out: HeldOutErrors


def posterior_from_json(text: str) -> Posterior:
    """The posterior as research/t4.py writes it."""

    def fit_from(row: dict[str, Any]) -> Fit:
        tables = {name: (float(offset), float(factor)) for name, (offset, factor) in row["tables"].items()}
        formula, constants = Formula(**row["formula"]), Constants(**row["constants"])
        return Fit(formula, constants, tables, row["misfit"], row["effective_parameters"])

    data = json.loads(text)
    draws = tuple(fit_from(row) for row in data["draws"])
    return Posterior(fit_from(data["point"]), draws, HeldOutErrors(**data["held_out"]))


@cache
def committed_posterior() -> Posterior:
    """The posterior that is committed with the package."""
    return posterior_from_json(_committed("posterior_t4.json"))


def with_noise(seconds: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Latencies as one table might list them: `NOISE` on each."""
    return np.asarray(seconds * np.exp(rng.normal(0, NOISE, seconds.shape)), dtype=np.float64)


def interval(samples: NDArray[np.float64], level: float) -> tuple[float, float]:
    """The central interval that holds `level` of the samples."""
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def honest_interval(
    raw: tuple[float, float], level: float, centre: float, doubt: float = 0.0, inside: bool = True
) -> tuple[float, float]:
    """`raw` about `centre` as checking it showed it should be: narrower inside the calibrated domain, wider by `doubt`.

    doubt -- standard deviation of the log of what no figure pins down (`domain.Distance.doubt`)
    """
    widened = NormalDist().inv_cdf((1 + level) / 2) * doubt
    below, above = (
        hypot((NARROWING if inside else 1.0) * max(sign * log(end / centre), 0.0), widened)
        for sign, end in zip((-1, 1), raw, strict=True)
    )
    return centre * exp(-below), centre * exp(above)


def latency_samples(posterior: Posterior, table: KernelTable, gpu: GpuRates) -> NDArray[np.float64]:
    """Latencies [draws, networks] as another table of figures might list them: constants, protocol and noise drawn."""
    rng = np.random.default_rng(0)
    rows = [one.with_drawn_tables(["new"], rng).latency_s(one.kernel_s(table, gpu), "new") for one in posterior.draws]
    return with_noise(np.stack(rows), rng)


def point_latency_s(fit: Fit, table: KernelTable, gpu: GpuRates = GPUS["t4"]) -> NDArray[np.float64]:
    """The most probable latency of each network of `table`, as a typical table would list it."""
    return fit.latency_s(fit.kernel_s(table, gpu))
