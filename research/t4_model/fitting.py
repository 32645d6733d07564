"""The constants from published T4 latencies: most probable under priors, held out by family, bootstrapped.

A table of figures comes from one protocol (clocks, versions, what was timed), so each table has its own offset and
factor with a prior. A table without figures of its own is taken to be typical: the geometric mean of the tables that
have some, the prior counting as one more. (Tables differ about as much, in logarithms, as the prior doubts their mean.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import product
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from t4_model.sizes import kernels_of
from yoloproof.estimate.cost import Constants, Formula, kernel_seconds
from yoloproof.estimate.gpus import GPUS
from yoloproof.estimate.kernels import KernelTable, table_from_kernels
from yoloproof.estimate.posterior import NOISE, Fit, Observation
from yoloproof.estimate.shapes import family_from_model

Key = TypeVar("Key")
T4 = GPUS["t4"]
PRIOR_TABLE = "prior"  # stands among a fit's tables, so that one table of figures is not taken for all there could be
LEAST_PLAUSIBLE = 0.003  # share of the plausibility below which a formula is left out of an average
TAIL = (
    4.0  # degrees of freedom of a figure's noise (Student's t): one odd figure hardly moves the others; 4 to 8 do alike
)
STEP = 1e-3  # of a constant's logarithm, for the slopes of the fit

FORMULAS: tuple[Formula, ...] = tuple(
    Formula(grid=grid, floor=floor, concat=concat)
    for grid, floor, concat in product(("free", "smooth", "waves"), ("add", "max"), ("free", "copy"))
)
"""What neither measurements nor build logs settle: every combination counts by how plausible the figures make it, held-out
figures apart. A T4's cache is measured, SiLU is a kernel of its own in TensorRT's logs, loads and arithmetic overlap in part."""


@dataclass(frozen=True)
class Prior:
    """Log-normal prior: its median and the standard deviation of its logarithm."""

    median: float
    spread: float

    def draw(self, rng: np.random.Generator) -> float:
        return self.median * float(np.exp(rng.normal(0, self.spread)))


# From data sheets, or from what such kernels are known to do; `yoloproof.estimate.cost.Constants` says what each means.
PRIORS = {
    "tensor": Prior(0.54, 0.20),  # 41.6 of 65 TFLOP/s in large products at 1,590 MHz, held at 1,350 (arXiv 1903.07486)
    "memory": Prior(0.688, 0.08),  # 220 of 320 GiB/s (the same)
    # 49.4 TFLOP/s at 38 FLOP a byte of level-2 cache, over memory's 220 GB/s (alexarmbr.github.io, matrix products on a T4);
    # that is for reading alone
    "cache": Prior(5.8, 0.50),
    "floor_s": Prior(3.5e-6, 0.40),
    "depthwise": Prior(0.25, 0.50),
    "tiles_in_flight": Prior(1.5, 0.15),
    "tile": Prior(24.0, 0.50),
}
# Never calibrated: no network whose attention is in no doubt has enough of it. They widen the interval.
ATTENTION_PRIORS = {"attention": Prior(0.4, 0.5), "score": Prior(1.0, 0.35), "reformat": Prior(1.0, 0.7)}
# Of a table: seconds outside the kernels (call, copies, synchronisation); clocks, drivers and versions.
TABLE_PRIORS = {"offset_s": Prior(0.25e-3, 0.70), "factor": Prior(1.0, 0.10)}
MEDIANS = Constants(**{name: prior.median for name, prior in {**PRIORS, **ATTENTION_PRIORS}.items()})


@dataclass(frozen=True)
class Beliefs:
    """What is held before any figure is seen; other than the default only to show what hangs on it."""

    constants: Mapping[str, Prior] = field(default_factory=lambda: PRIORS)
    tables: Mapping[str, Prior] = field(default_factory=lambda: TABLE_PRIORS)

    def typical_table(self) -> tuple[float, float]:
        """Offset and factor of a table before any is seen."""
        return self.tables["offset_s"].median, self.tables["factor"].median


BELIEFS = Beliefs()


def heavy_tailed(off: NDArray[np.float64], degrees: float = TAIL) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Residuals whose half sum of squares is the negative log density of Student's t at `off` (less that at zero), and their
    slopes."""
    squared = off**2 / degrees
    with np.errstate(invalid="ignore"):  # 0 / 0 at zero
        ratio = np.where(squared > 0, np.sqrt(np.log1p(squared) / squared), 1.0)
    bent = np.sqrt((degrees + 1) / degrees) * ratio
    return off * bent, (degrees + 1) / degrees / ((1 + squared) * bent)


@cache
def _counted_kernels(models: tuple[str, ...]) -> tuple[KernelTable, NDArray[np.float64]]:
    """Each kernel that these networks have, once, and how often each network has it: [networks, kernels]."""
    unnamed = [[replace(kernel, name="", block="") for kernel in kernels_of(model)] for model in models]
    counted = [Counter(kernels) for kernels in unnamed]
    kernels = list(dict.fromkeys(kernel for row in unnamed for kernel in row))
    return table_from_kernels([kernels]), np.array([[row[kernel] for kernel in kernels] for row in counted], float)


def _kernel_s(models: tuple[str, ...], constants: Constants, formula: Formula) -> NDArray[np.float64]:
    """Seconds of the kernels of each of these networks on a T4."""
    table, counts = _counted_kernels(models)
    return counts @ kernel_seconds(table, constants, formula, T4)


class _Problem:
    """The least-squares problem of one fit in x = log(constants, offsets, factors)."""

    def __init__(
        self, data: Sequence[Observation], formula: Formula, weights: Sequence[float] | None, beliefs: Beliefs
    ) -> None:
        models = tuple(sorted({row.model for row in data}))
        self.formula = formula
        self.tables = tuple(sorted({row.table for row in data}))
        self.names, self.count = tuple(beliefs.constants), len(beliefs.constants)
        self.models = models
        self.of_model = np.array([models.index(row.model) for row in data])
        self.of_table = np.array([[row.table == table for table in self.tables] for row in data], dtype=float)
        self.logs = np.log([row.seconds for row in data])
        self.counts = np.sqrt(np.ones(len(data)) if weights is None else np.asarray(weights, dtype=float))
        priors = [*beliefs.constants.values(), *(p for p in beliefs.tables.values() for _ in self.tables)]
        self.centre = np.log([prior.median for prior in priors])
        self.spread = np.array([prior.spread for prior in priors])

    def constants(self, x: NDArray[np.float64]) -> Constants:
        found = np.exp(x[: self.count]).tolist()
        return replace(MEDIANS, **dict(zip(self.names, found, strict=True)))

    def kernel_s(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        of_row: NDArray[np.float64] = _kernel_s(self.models, self.constants(x), self.formula)[self.of_model]
        return of_row

    def offsets_factors(self, x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        offsets, factors = np.split(np.exp(x[self.count :]), 2)
        return self.of_table @ offsets, self.of_table @ factors

    def residuals(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        offset, factor = self.offsets_factors(x)
        off = (np.log(offset + factor * self.kernel_s(x)) - self.logs) / NOISE
        return np.concatenate([self.counts * heavy_tailed(off)[0], (x - self.centre) / self.spread])

    def slopes(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Differences for the constants; the tables' offsets and factors have their derivatives in closed form."""
        (offset, factor), inside = self.offsets_factors(x), self.kernel_s(x)
        moved = [self.kernel_s(x + STEP * unit) - inside for unit in np.eye(len(x))[: self.count]]
        columns = [
            (factor * np.stack(moved) / STEP).T,
            self.of_table * offset[:, None],
            self.of_table * (factor * inside)[:, None],
        ]
        off = (np.log(offset + factor * inside) - self.logs) / NOISE
        relative = (self.counts * heavy_tailed(off)[1] / NOISE / (offset + factor * inside))[:, None]
        return np.concatenate([np.concatenate(columns, axis=1) * relative, np.diag(1 / self.spread)])


def fit(
    data: Sequence[Observation], formula: Formula, weights: Sequence[float] | None = None, beliefs: Beliefs = BELIEFS
) -> Fit:
    """The most probable constants given `data`; `weights` count an observation several times (bootstrap)."""
    problem = _Problem(data, formula, weights, beliefs)
    result = least_squares(problem.residuals, problem.centre, jac=problem.slopes)
    offsets, factors = np.split(np.exp(result.x[problem.count :]), 2)
    lines = zip(problem.tables, offsets.tolist(), factors.tolist(), strict=True)
    tables = {PRIOR_TABLE: beliefs.typical_table(), **{name: (offset, factor) for name, offset, factor in lines}}
    by_figures = result.jac[: len(data)]
    decided = np.trace(np.linalg.solve(result.jac.T @ result.jac, by_figures.T @ by_figures))
    return Fit(formula, problem.constants(result.x), tables, float(result.cost), float(decided))


def predict(fitted: Fit, data: Sequence[Observation]) -> NDArray[np.float64]:
    """What `fitted` says of each observation, in seconds; a table it has not seen counts as typical."""
    models = tuple(sorted({row.model for row in data}))
    kernel_s = dict(zip(models, _kernel_s(models, fitted.constants, fitted.formula), strict=True))
    return np.array([float(fitted.latency_s(kernel_s[row.model], row.table)) for row in data])


def misfits(data: Sequence[Observation], formulas: Sequence[Formula] = FORMULAS) -> dict[Formula, float]:
    """Every formula's misfit on `data`, best first."""
    found = {formula: fit(data, formula).misfit for formula in formulas}
    return dict(sorted(found.items(), key=lambda item: item[1]))


def predict_by_all(
    misfits: Mapping[Formula, float], data: Sequence[Observation], held: Sequence[Observation]
) -> NDArray[np.float64]:
    """`predict` of `held` by every formula that is plausible on `data`, averaged: the geometric mean by plausibility."""
    plausible = {formula: weight for formula, weight in plausibilities(misfits).items() if weight > LEAST_PLAUSIBLE}
    logs = np.stack([np.log(predict(fit(data, formula), held)) for formula in plausible])
    averaged: NDArray[np.float64] = np.exp(np.average(logs, axis=0, weights=list(plausible.values())))
    return averaged


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


def plausibilities(misfits: Mapping[Key, float]) -> dict[Key, float]:
    """exp(−misfit), normalised: how plausible each formula is by what it was fitted to."""
    logs = -np.array(list(misfits.values()))
    weights = np.exp(logs - logs.max())
    return dict(zip(misfits, (weights / weights.sum()).tolist(), strict=True))


def draw_fits(
    data: Sequence[Observation], misfits: Mapping[Formula, float], count: int, rng: np.random.Generator
) -> list[Fit]:
    """`count` bootstrap fits: each resamples families and models, draws its formula by plausibility and the attention
    constants (which nothing here calibrates) from their priors."""
    plausible = plausibilities(misfits)
    formulas = list(plausible)
    chosen = rng.choice(len(formulas), count, p=list(plausible.values()))
    fits = []
    for index in chosen:
        weights = bootstrap_weights(data, rng)
        used = [(row, weight) for row, weight in zip(data, weights, strict=True) if weight > 0]
        drawn = fit([row for row, _ in used], formulas[index], [weight for _, weight in used])
        free = {name: prior.draw(rng) for name, prior in ATTENTION_PRIORS.items()}
        fits.append(replace(drawn, constants=replace(drawn.constants, **free)))
    return fits
