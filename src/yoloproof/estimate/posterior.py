"""The calibrated model as committed: the fit, its bootstrap draws and what holding out showed; and how it predicts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yoloproof.estimate.calibration import (
    BELIEFS,
    NOISE,
    Beliefs,
    Fit,
    Observation,
    draw_fits,
    families,
    fit,
    predict,
    without,
)
from yoloproof.estimate.cost import FORMS, Form, network_seconds
from yoloproof.estimate.gpus import GPUS, Gpu
from yoloproof.estimate.kernels import KernelTable
from yoloproof.estimate.shapes import family_from_model

NEW_TABLE_SPREAD = {"offset_s": 0.5, "factor": 0.10}
"""How far another table's offset and factor (logs) may lie from the typical; the three seen: 0.50 and 0.09."""
LEVELS = (0.5, 0.9)


@dataclass(frozen=True)
class HeldOut:
    """What the model, fitted without a family, said of one of its figures; `low`, `high` by level of confidence."""

    observation: Observation
    form: Form
    predicted_s: float
    intervals_s: dict[float, tuple[float, float]]

    @property
    def error(self) -> float:
        """Predicted over published, less one."""
        return self.predicted_s / self.observation.seconds - 1


@dataclass(frozen=True)
class Posterior:
    """The fit of the default form, bootstrap draws over models, families and forms, and the held-out summary."""

    point: Fit
    draws: tuple[Fit, ...]
    held_out: dict[str, float]


def misfits(data: Sequence[Observation]) -> dict[Form, float]:
    """Every form's misfit on `data`, best first."""
    found = {form: fit(data, form).misfit for form in FORMS}
    return dict(sorted(found.items(), key=lambda item: item[1]))


def held_out(
    data: Sequence[Observation], draws: int, seed: int = 0, group_of: Callable[[str], str] = family_from_model
) -> list[HeldOut]:
    """Each group of models (a family; each model alone with `group_of=str`) predicted by a model that saw none of its
    figures, in any table.

    The form is chosen inside each fold, by its misfit on what is left (nested selection). A table that the held-out
    group alone stands in is predicted as a typical one.
    """
    rng = np.random.default_rng(seed)
    found = []
    for group in sorted({group_of(row.model) for row in data}):
        rest, held = without(data, group, group_of)
        ranking = misfits(rest)
        best = next(iter(ranking))
        predicted = predict(fit(rest, best), held)
        samples = np.stack(
            [_with_noise(predict_like(one, held, rng), rng) for one in draw_fits(rest, ranking, draws, rng)]
        )
        for index, row in enumerate(held):
            intervals = {level: interval(samples[:, index], level) for level in LEVELS}
            found.append(HeldOut(row, best, float(predicted[index]), intervals))
    return found


def held_out_errors(data: Sequence[Observation], form: Form, beliefs: Beliefs = BELIEFS) -> NDArray[np.float64]:
    """Relative errors held out by family, in the order of `data`, for one form under other beliefs; no intervals."""
    errors = np.zeros(len(data))
    for family in families(data):
        rest, held = without(data, family)
        at = [index for index, row in enumerate(data) if family_from_model(row.model) == family]
        predicted = predict(fit(rest, form, beliefs=beliefs), held)
        errors[at] = predicted / np.array([row.seconds for row in held]) - 1
    return errors


def predict_like(fitted: Fit, data: Sequence[Observation], rng: np.random.Generator) -> NDArray[np.float64]:
    """`predict`, with the offset and factor of a table that `fitted` has not seen drawn instead of typical."""
    return predict(with_drawn_tables(fitted, sorted({row.table for row in data}), rng), data)


def with_drawn_tables(fitted: Fit, tables: Sequence[str], rng: np.random.Generator) -> Fit:
    """`fitted` with an offset and a factor drawn for each of `tables` that it lacks."""
    offset, factor = fitted.typical_table()
    drawn = {
        table: (
            offset * float(np.exp(rng.normal(0, NEW_TABLE_SPREAD["offset_s"]))),
            factor * float(np.exp(rng.normal(0, NEW_TABLE_SPREAD["factor"]))),
        )
        for table in tables
    }
    return replace(fitted, tables={**drawn, **fitted.tables})


def _with_noise(seconds: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    return np.asarray(seconds * np.exp(rng.normal(0, NOISE, seconds.shape)), dtype=np.float64)


def interval(samples: NDArray[np.float64], level: float) -> tuple[float, float]:
    """The central interval that holds `level` of the samples."""
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def latency_samples(posterior: Posterior, table: KernelTable, gpu: Gpu, seed: int = 0) -> NDArray[np.float64]:
    """Latencies [draws, networks] as another table of figures might list them: constants, protocol and noise drawn."""
    rng = np.random.default_rng(seed)
    rows = []
    for one in posterior.draws:
        drawn = with_drawn_tables(one, ["new"], rng)
        rows.append(drawn.latency_s(network_seconds(table, one.constants, one.form, gpu), "new"))
    return _with_noise(np.stack(rows), rng)


def point_latency_s(posterior: Posterior, table: KernelTable, gpu: Gpu = GPUS["t4"]) -> NDArray[np.float64]:
    """The most probable latency of each network of `table`, as a typical table would list it."""
    kernel_s = network_seconds(table, posterior.point.constants, posterior.point.form, gpu)
    return posterior.point.latency_s(kernel_s)


def posterior_to_json(posterior: Posterior) -> str:
    """The posterior as text; figures to six digits, which is far below what they mean."""

    def rounded(value: Any) -> Any:
        if isinstance(value, float):
            return float(f"{value:.6g}")
        if isinstance(value, Mapping):
            return {key: rounded(part) for key, part in value.items()}
        return [rounded(part) for part in value] if isinstance(value, list | tuple) else value

    return json.dumps(rounded(asdict(posterior)), separators=(",", ":")) + "\n"


def posterior_from_json(text: str) -> Posterior:
    """What `posterior_to_json` wrote."""

    def fit_from(row: dict[str, Any]) -> Fit:
        tables = {name: (float(pair[0]), float(pair[1])) for name, pair in row["tables"].items()}
        return Fit(Form(**row["form"]), row["constants"], tables, row["misfit"], row["effective_parameters"])

    data = json.loads(text)
    return Posterior(fit_from(data["point"]), tuple(fit_from(row) for row in data["draws"]), data["held_out"])


@cache
def committed_posterior() -> Posterior:
    """The posterior that `benchmarks/estimate.py` made and that is committed with the package."""
    return posterior_from_json((files("yoloproof.estimate") / "data" / "posterior_t4.json").read_text(encoding="utf-8"))


def summary(rows: Sequence[HeldOut]) -> dict[str, float]:
    """Mean and worst absolute error and the intervals' coverage, as fractions."""
    errors = np.array([abs(row.error) for row in rows])
    covered = {
        level: float(
            np.mean([low <= row.observation.seconds <= high for row in rows for low, high in [row.intervals_s[level]]])
        )
        for level in LEVELS
    }
    return {
        "figures": float(len(rows)),
        "mean_error": float(errors.mean()),
        "worst_error": float(errors.max()),
        **{f"coverage_{round(100 * level)}": value for level, value in covered.items()},
    }
