"""The tables and the figure of docs/t4.md and research/t4-tables.md, from a study and the committed result files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from t4_model.figure import figure_svg
from t4_model.fitting import FORMULAS, plausibilities
from t4_model.study import HeldOut, Study, fifteen, formula_text, summary
from t4_model.transfer import mean_error, transfer_rows
from t4_model.verdicts import verdicts, verdicts_under_moved_priors
from yoloproof.estimate.cost import Formula
from yoloproof.estimate.domain import OUTSIDE_CHECK, Check
from yoloproof.estimate.forensics import ModelForensics, forensics
from yoloproof.estimate.posterior import HeldOutErrors, Posterior
from yoloproof.estimate.shapes import ATTENTIONS
from yoloproof.results.file import read_result
from yoloproof.results.labels import network_label

ROOT = Path(__file__).resolve().parents[2]
PAGE, TABLES, FIGURE = ROOT / "docs/t4.md", ROOT / "research/t4-tables.md", ROOT / "docs/t4.svg"
H200_FILE = ROOT / "results/h200.json"
NINE = [f"yolov{family}" for family in ("12n", "12s", "12m", "12l", "12x", "13n", "13s", "13l", "13x")]
VERDICT_TABLES = {
    "yolov12": "YOLOv12 reported", "yolov13": "YOLOv13 reported", "users-yolov12": "YOLOv12 measured by users",
    "users-yolov13": "YOLOv13-N measured by users",
}  # fmt: skip
SCHEMES = {
    "family": "by family",
    "model": "by model",
    "alone": "by family, without the other table",
    "size": "by model, other sizes",
}
SIZES = {"-cls": "YOLO11-cls, 224 px", "-obb": "YOLO11-obb, 1024 px"}
ERRORS = ("mean error, %", "worst", "in the 50 % interval", "in the 90 %")
BLOCK = re.compile(r"(<!-- estimate: (\w+) -->\n).*?(<!-- /estimate -->)", re.DOTALL)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows)) + "\n"


def percent(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f} %"


def accuracy_table(study: Study) -> str:
    rows = []
    for name, title in SCHEMES.items():
        sets = [("fifteen", fifteen(study.folds[name]))]
        if name == "size":
            sets = [(size, size_rows(study, ending)) for ending, size in SIZES.items()]
        elif name != "alone":
            sets.append(("thirty", study.folds[name]))
        for which, held in sets:
            rows.append([title, which, *error_cells(summary(held))])
    return table(["held out", "figures", *ERRORS], rows)


def size_rows(study: Study, ending: str) -> list[HeldOut]:
    """The held-out rows of the networks whose names end so."""
    return [row for row in study.folds["size"] if row.observation.model.endswith(ending)]


def error_cells(found: HeldOutErrors | Check) -> list[str]:
    """By `ERRORS`."""
    shares = (found.mean_error, found.worst_error, found.coverage_50, found.coverage_90)
    mean, worst, half, most = (100 * share for share in shares)
    return [f"{mean:.1f}", f"{worst:.1f}", f"{half:.0f}", f"{most:.0f}"]


def outside_table() -> str:
    rows = [[row.what, str(row.figures), *error_cells(row), f"{100 * row.bias:+.0f}"] for row in OUTSIDE_CHECK]
    return table(["what", "figures", *ERRORS, "bias, %"], rows)


def held_out_table(rows: Sequence[HeldOut]) -> str:
    cells = []
    for row in rows:
        seen, (low, high) = row.observation, row.interval_s(0.9)
        cells.append([
            seen.model, seen.table, f"{1e3 * seen.seconds:.2f}", f"{1e3 * row.predicted_s:.2f}",
            f"{100 * row.error:+.1f} %", f"{1e3 * low:.2f}–{1e3 * high:.2f}", formula_text(row.formula),
        ])  # fmt: skip
    heads = ["model", "table", "published", "predicted", "error", "90 % interval", "most plausible formula without it"]
    return table(heads, cells)


def sensitivity_table(study: Study) -> str:
    rows = [
        [what, percent(found.mean_error), percent(found.worst_error), f"{1e3 * found.yolov13n_s:.2f}"]
        for what, found in study.sensitivity.items()
    ]
    return table(["belief", "mean error", "worst", "yolov13n fused, ms"], rows)


def nine_table(models: Sequence[ModelForensics]) -> str:
    rows = []
    for found in models:
        cells = [f"{1e3 * s:.1f} ({1e3 * low:.1f}–{1e3 * high:.1f})" for s, low, high in found.estimates_s.values()]
        known = {figure.role: f"{1e3 * figure.seconds:.2f}" for figure in found.figures}
        rows.append([found.model, *cells, known.get("reported", "–"), known.get("measured", "–")])
    return table(["model", *ATTENTIONS, "reported", "measured"], rows)


def alone_table(models: Sequence[ModelForensics]) -> str:
    rows = [
        [f"{found.model} {role}", *(f"{p:.2f}" for p in shares.values())]
        for found in models
        for role, shares in found.probability.items()
    ]
    return table(["figure, taken alone", *ATTENTIONS], rows)


def verdict_page_table(posterior: Posterior) -> str:
    """Each probability at a spread of 0.10, then at 0.20."""
    rows = []
    for name, title in VERDICT_TABLES.items():
        at_10, at_20 = verdicts(name, posterior, (0.10, 0.20)).values()
        rows.append([title, *(f"{at_10[one]:.2f}, {at_20[one]:.2f}" for one in ATTENTIONS)])
    return table(["figures", *ATTENTIONS], rows)


def verdict_table(posterior: Posterior) -> str:
    rows = []
    for name, title in VERDICT_TABLES.items():
        for spread, found in verdicts(name, posterior, (0.05, 0.10, 0.20)).items():
            rows.append([title, f"{spread:.2f}", *(f"{p:.3f}" for p in found.values())])
    return table(["figures", "spread", *ATTENTIONS], rows)


def attention_table(posterior: Posterior) -> str:
    moved = verdicts_under_moved_priors(posterior, ("yolov12", "yolov13", "users-yolov12"))
    rows = [[VERDICT_TABLES[name], what, *(f"{p:.3f}" for p in found.values())] for name, what, found in moved]
    return table(["figures (spread 0.10)", "prior median moved to", *ATTENTIONS], rows)


def transfer_tables(posterior: Posterior) -> tuple[str, str]:
    """Mean errors by how the network ran, and every timing, of the rows of results/h200.json that the model describes."""
    found = transfer_rows(posterior, read_result(H200_FILE))
    rows = [
        [
            str(row.entry.run + 1), row.title, str(row.entry.runtime.name), network_label(row.entry),
            f"{1e3 * row.measured_s:.2f}", f"{1e3 * row.estimated_s:.2f}", f"{100 * row.error:+.0f} %",
        ]
        for row in found
    ]  # fmt: skip
    means = []
    for how in dict.fromkeys(row.how for row in found):
        count, signed, absolute = mean_error([row for row in found if row.how == how])
        means.append([how, str(count), f"{100 * signed:+.0f}", f"{100 * absolute:.0f}"])
    heads = ["run", "model", "runtime", "network", "measured, ms", "estimated, ms", "error"]
    return table(["how it ran", "timings", "mean error, %", "mean absolute error, %"], means), table(heads, rows)


def constants_tables(study: Study) -> str:
    point, weights = study.posterior.point, plausibilities(study.formulas)
    formulas = [*list(study.formulas)[:5], formula_text(Formula())]
    parts = [
        f"Formulas tried: {len(FORMULAS)}. By misfit on all forty figures, and the one of the central figure:\n",
        table(
            ["formula", "misfit", "weight"], [[f, f"{study.formulas[f]:.2f}", f"{weights[f]:.3f}"] for f in formulas]
        ),
        f"{point.effective_parameters:.1f} parameters are decided by the figures rather than by their priors.\n",
        table(["constant", "value"], [[name, f"{value:.4g}"] for name, value in vars(point.constants).items()]),
        table(
            ["table", "offset, ms", "factor"],
            [[name, f"{1e3 * offset:.2f}", f"{factor:.3f}"] for name, (offset, factor) in point.tables.items()],
        ),
    ]
    return "\n".join(parts)


def pages(study: Study) -> dict[Path, str]:
    """Everything that is written for readers, by path."""
    posterior = study.posterior
    models = [forensics(model, posterior) for model in NINE]
    errors, timings = transfer_tables(posterior)
    blocks = {
        "accuracy": accuracy_table(study), "nine": nine_table(models), "verdicts": verdict_page_table(posterior),
        "transfer": errors, "outside": outside_table(),
    }  # fmt: skip
    sections = {
        "Held out by family": held_out_table(study.folds["family"]),
        "Held out by family, the fifteen alone": held_out_table(study.folds["alone"]),
        "Held out by model": held_out_table(study.folds["model"]),
        "Other sizes, each network left out": held_out_table(study.folds["size"]),
        "What hangs on the priors": "One belief changed at a time, the fifteen held out by family, formula fixed.\n\n"
        + sensitivity_table(study),
        "The calibration": constants_tables(study),
        "Each figure alone": alone_table(models),
        "Attention, by how far the factors of two tables may lie apart": verdict_table(posterior),
        "What hangs on the attention priors": attention_table(posterior),
        "H200, measured ceilings": timings,
    }
    return {
        TABLES: "# Tables made by research/t4.py\n"
        + "".join(f"\n## {title}\n\n{body}" for title, body in sections.items()),
        PAGE: BLOCK.sub(lambda m: f"{m[1]}\n{blocks[m[2]]}\n{m[3]}", PAGE.read_text(encoding="utf-8")),
        FIGURE: figure_svg(study.folds["family"], models),
    }
