"""The constants from published T4 latencies: least squares under priors, held out by family, bootstrapped.

A table of figures comes from one protocol (clocks, versions, what was timed), so each table has its own offset and
factor with a prior. A table without figures of its own is taken to be typical: the geometric mean of the tables that
have some, the prior counting as one more. (Tables differ about as much, in logarithms, as the prior doubts their mean.)
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from yoloproof.estimate.cost import ATTENTION_PRIORS, PRIORS, Form, Prior, network_seconds, prior_medians
from yoloproof.estimate.gpus import GPUS, Gpu
from yoloproof.estimate.kernels import KernelTable, table_from_kernels
from yoloproof.estimate.shapes import family_from_model, kernels_from_shapes

TABLE_PRIORS = {
    "offset_s": Prior(0.25e-3, 0.70, "seconds of a run outside the kernels: call, copies, synchronisation"),
    "factor": Prior(1.0, 0.10, "clocks, drivers and versions against the mean table"),
}
NOISE = 0.07  # standard deviation of log latency: two tables of one author list the same YOLO11 networks 3–12 % apart
PRIOR_TABLE = "prior"  # stands among a fit's tables, so that one table of figures is not taken for all there could be
STEP = 1e-3  # of a constant's logarithm, for the slopes of the fit


@dataclass(frozen=True)
class Beliefs:
    """What is held before any figure is seen; other than the default only to show what hangs on it."""

    constants: Mapping[str, Prior] = field(default_factory=lambda: PRIORS)
    tables: Mapping[str, Prior] = field(default_factory=lambda: TABLE_PRIORS)
    noise: float = NOISE

    def typical_table(self) -> tuple[float, float]:
        """Offset and factor of a table before any is seen."""
        return self.tables["offset_s"].median, self.tables["factor"].median


BELIEFS = Beliefs()


@dataclass(frozen=True)
class Observation:
    """One published latency: model, seconds, the table it stands in, its role (calibrate, reported, measured)."""

    model: str
    seconds: float
    table: str
    role: str
    protocol: str
    source: str


@dataclass(frozen=True)
class Fit:
    """Constants, each table's offset and factor (the prior's among them), the misfit (half the sum of squares, priors
    included) and how many parameters the figures, rather than the priors, decided."""

    form: Form
    constants: dict[str, float]
    tables: dict[str, tuple[float, float]]
    misfit: float
    effective_parameters: float = 0.0

    def typical_table(self) -> tuple[float, float]:
        """Offset and factor for a table that has no figures in the fit: geometric means, the prior being one of them."""
        logs = np.log(np.array(list(self.tables.values())))
        offset, factor = np.exp(logs.mean(axis=0))
        return float(offset), float(factor)

    def latency_s(self, kernel_s: float | NDArray[np.float64], table: str | None = None) -> NDArray[np.float64]:
        """Latency as `table` would list it (None or unknown: a typical one) from the seconds of the kernels."""
        offset, factor = self.tables[table] if table in self.tables else self.typical_table()
        return np.asarray(offset + factor * np.asarray(kernel_s), dtype=np.float64)


@cache
def observations(role: str | None = None) -> tuple[Observation, ...]:
    """The committed published figures, all or those of one role."""
    text = (files("yoloproof.estimate") / "data" / "published_t4.csv").read_text(encoding="utf-8")
    rows = tuple(
        Observation(
            row["model"], float(row["latency_ms"]) / 1e3, row["table"], row["role"], row["protocol"], row["source"]
        )
        for row in csv.DictReader(text.splitlines())
    )
    return rows if role is None else tuple(row for row in rows if row.role == role)


@cache
def _table_of(models: tuple[str, ...]) -> KernelTable:
    return table_from_kernels([kernels_from_shapes(model) for model in models])


def fit(
    data: Sequence[Observation], form: Form, weights: Sequence[float] | None = None, gpu: Gpu = GPUS["t4"],
    beliefs: Beliefs = BELIEFS,
) -> Fit:  # fmt: skip
    """The most probable constants given `data`; `weights` count an observation several times (bootstrap)."""
    models = tuple(sorted({row.model for row in data}))
    tables = tuple(sorted({row.table for row in data}))
    kernels = _table_of(models)
    of_model = np.array([models.index(row.model) for row in data])
    of_table = np.array([[row.table == table for table in tables] for row in data], dtype=float)
    logs = np.log([row.seconds for row in data])
    scale = np.sqrt(np.ones(len(data)) if weights is None else np.asarray(weights, dtype=float)) / beliefs.noise
    names, count = tuple(beliefs.constants), len(beliefs.constants)
    priors = [*beliefs.constants.values(), *(p for p in beliefs.tables.values() for _ in tables)]
    centre = np.log([prior.median for prior in priors])
    spread = np.array([prior.spread for prior in priors])
    uncalibrated = {name: prior.median for name, prior in ATTENTION_PRIORS.items()}

    def kernel_s(x: NDArray[np.float64]) -> NDArray[np.float64]:
        constants = {**uncalibrated, **dict(zip(names, np.exp(x[:count]), strict=True))}
        of_row: NDArray[np.float64] = network_seconds(kernels, constants, form, gpu)[of_model]
        return of_row

    def offsets_factors(x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        offsets, factors = np.split(np.exp(x[count:]), 2)
        return of_table @ offsets, of_table @ factors

    def residuals(x: NDArray[np.float64]) -> NDArray[np.float64]:
        offset, factor = offsets_factors(x)
        return np.concatenate([(np.log(offset + factor * kernel_s(x)) - logs) * scale, (x - centre) / spread])

    def slopes(x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Differences for the constants; the tables' offsets and factors have their derivatives in closed form."""
        (offset, factor), inside = offsets_factors(x), kernel_s(x)
        moved = [kernel_s(x + STEP * unit) - inside for unit in np.eye(len(x))[:count]]
        columns = [
            (factor * np.stack(moved) / STEP).T,
            of_table * offset[:, None],
            of_table * (factor * inside)[:, None],
        ]
        relative = (scale / (offset + factor * inside))[:, None]
        return np.concatenate([np.concatenate(columns, axis=1) * relative, np.diag(1 / spread)])

    result = least_squares(residuals, centre, jac=slopes)
    values = np.exp(result.x)
    offsets, factors = np.split(values[count:], 2)
    constants = {**prior_medians(), **{name: float(v) for name, v in zip(names, values, strict=False)}}
    lines = {name: (float(o), float(f)) for name, o, f in zip(tables, offsets, factors, strict=True)}
    by_figures = result.jac[: len(data)]
    decided = np.trace(np.linalg.solve(result.jac.T @ result.jac, by_figures.T @ by_figures))
    return Fit(form, constants, {PRIOR_TABLE: beliefs.typical_table(), **lines}, float(result.cost), float(decided))


def predict(fitted: Fit, data: Sequence[Observation], gpu: Gpu = GPUS["t4"]) -> NDArray[np.float64]:
    """What `fitted` says of each observation, in seconds; a table it has not seen counts as typical."""
    models = tuple(sorted({row.model for row in data}))
    kernel_s = dict(zip(models, network_seconds(_table_of(models), fitted.constants, fitted.form, gpu), strict=True))
    return np.array([float(fitted.latency_s(kernel_s[row.model], row.table)) for row in data])


def families(data: Sequence[Observation]) -> list[str]:
    """The families in `data`, sorted."""
    return sorted({family_from_model(row.model) for row in data})


def without(
    data: Sequence[Observation], group: str, group_of: Callable[[str], str] = family_from_model
) -> tuple[list[Observation], list[Observation]]:
    """(the rest, every figure of `group` in any table); `group_of` maps a model's name to its group."""
    held = [row for row in data if group_of(row.model) == group]
    return [row for row in data if group_of(row.model) != group], held


def bootstrap_weights(data: Sequence[Observation], rng: np.random.Generator) -> list[float]:
    """How often each figure counts when families, then models within a family, are drawn with replacement."""
    names = families(data)
    counts: dict[str, float] = dict.fromkeys((row.model for row in data), 0.0)
    for family in rng.choice(names, len(names)):
        models = sorted({row.model for row in data if family_from_model(row.model) == family})
        for model in rng.choice(models, len(models)):
            counts[model] += 1
    return [counts[row.model] for row in data]


def form_weights(misfits: Mapping[Form, float]) -> dict[Form, float]:
    """exp(−misfit), normalised: how plausible each form is by what it was fitted to."""
    logs = -np.array(list(misfits.values()))
    weights = np.exp(logs - logs.max())
    return dict(zip(misfits, (weights / weights.sum()).tolist(), strict=True))


def draw_fits(
    data: Sequence[Observation], misfits: Mapping[Form, float], count: int, rng: np.random.Generator
) -> list[Fit]:
    """`count` bootstrap fits: each resamples families and models, draws its form by plausibility and the attention
    constants (which nothing here calibrates) from their priors."""
    plausible = form_weights(misfits)
    forms = list(plausible)
    chosen = rng.choice(len(forms), count, p=list(plausible.values()))
    fits = []
    for index in chosen:
        weights = bootstrap_weights(data, rng)
        used = [(row, weight) for row, weight in zip(data, weights, strict=True) if weight > 0]
        drawn = fit([row for row, _ in used], forms[index], [weight for _, weight in used])
        free = {
            name: prior.median * float(np.exp(rng.normal(0, prior.spread))) for name, prior in ATTENTION_PRIORS.items()
        }
        fits.append(replace(drawn, constants={**drawn.constants, **free}))
    return fits
