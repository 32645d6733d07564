"""One command, from committed data alone: the held-out table, the shipped calibration, the forensics, the figure.

python benchmarks/estimate.py --write          # fits everything anew (minutes) and writes all that is named below
python benchmarks/estimate.py --write --fast   # the fits as committed (seconds): after a new results/h100-*.json
python benchmarks/estimate.py --fast           # writes nothing; exit status 1 if a committed page is out of step

Written: estimate/data/posterior_t4.json and held_out_t4.json, docs/t4-tables.md, docs/t4.svg, and in docs/t4.md what
stands between `<!-- estimate: NAME -->` and `<!-- /estimate -->`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from yoloproof.errors import YoloproofError
from yoloproof.estimate.calibration import BELIEFS, Beliefs, draw_fits, fit, form_weights, observations
from yoloproof.estimate.cost import ATTENTION_PRIORS, FORMS, Form
from yoloproof.estimate.figure import PROJECT_TABLES, figure_svg
from yoloproof.estimate.forensics import ModelForensics, forensics, verdict, verdicts
from yoloproof.estimate.kernels import table_from_kernels
from yoloproof.estimate.posterior import (
    HeldOut,
    Posterior,
    committed_posterior,
    held_out,
    held_out_errors,
    misfits,
    point_latency_s,
    posterior_from_json,
    posterior_to_json,
    summary,
)
from yoloproof.estimate.shapes import ATTENTIONS, kernels_from_shapes
from yoloproof.estimate.transfer import mean_errors, transfer_rows

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "src/yoloproof/estimate/data"
NINE = [f"yolov{family}" for family in ("12n", "12s", "12m", "12l", "12x", "13n", "13s", "13l", "13x")]
VERDICT_TABLES = {
    "yolov12": "YOLOv12 reported", "yolov13": "YOLOv13 reported", "users-yolov12": "YOLOv12 measured by users",
    "users-yolov13": "YOLOv13-N measured by users",
}  # fmt: skip
SCHEMES = {
    "family": "by family, calibrated on all three tables",
    "model": "by model, calibrated on all three tables",
    "alone": "by family, calibrated on the fifteen alone",
}
DRAWS = 400
DRAWS_BY_MODEL = 100
BLOCK = re.compile(r"(<!-- estimate: (\w+) -->\n).*?(<!-- /estimate -->)", re.DOTALL)


@dataclass(frozen=True)
class Study:
    """Everything that was fitted: the calibration, the held-out rows of each scheme, and what hangs on the beliefs.

    sensitivity -- belief changed → mean and worst held-out error of the fifteen, yolov13n's estimate in seconds
    forms -- form → misfit on all thirty figures
    """

    posterior: Posterior
    folds: dict[str, list[HeldOut]]
    sensitivity: dict[str, tuple[float, float, float]]
    forms: dict[str, float]


def study_from_data(draws: int) -> Study:
    """Fit everything anew."""
    data = observations("calibrate")
    folds = {
        "family": held_out(data, draws),
        "model": held_out(data, min(draws, DRAWS_BY_MODEL), group_of=str),
        "alone": held_out([row for row in data if row.table in PROJECT_TABLES], draws),
    }
    ranking = misfits(data)
    drawn = tuple(draw_fits(data, ranking, draws, np.random.default_rng(0)))
    posterior = Posterior(fit(data, Form()), drawn, summary(fifteen(folds["family"])))
    forms = {form_text(form): misfit for form, misfit in ranking.items()}
    study = Study(posterior, folds, dict(sensitivity()), forms)
    return study_from_json(study_to_json(study), posterior_from_json(posterior_to_json(posterior)))


def sensitivity() -> Iterator[tuple[str, tuple[float, float, float]]]:
    """The fifteen held out by family, form fixed, with one belief changed at a time."""
    data = observations("calibrate")
    project = np.array([row.table in PROJECT_TABLES for row in data])
    network = table_from_kernels([kernels_from_shapes("yolov13n", "fused")])
    for what, beliefs in other_beliefs():
        errors = np.abs(held_out_errors(data, Form(), beliefs)[project])
        seconds = point_latency_s(Posterior(fit(data, Form(), beliefs=beliefs), (), {}), network)
        yield what, (float(errors.mean()), float(errors.max()), float(seconds[0]))


def other_beliefs() -> Iterator[tuple[str, Beliefs]]:
    """As shipped; each prior's median moved by its spread; all spreads halved and doubled (which is the noise doubled and
    halved: only their ratio counts)."""
    yield "as shipped", BELIEFS
    for field in ("constants", "tables"):
        priors = getattr(BELIEFS, field)
        for name, prior in priors.items():
            for sign, word in ((1, "up"), (-1, "down")):
                moved = replace(prior, median=prior.median * float(np.exp(sign * prior.spread)))
                changed = {field: {**priors, name: moved}}
                yield f"{name} {word}, to {moved.median:.3g}", replace(BELIEFS, **changed)
    for factor, word in ((0.5, "half"), (2.0, "twice")):
        wider = {
            field: {name: replace(p, spread=factor * p.spread) for name, p in getattr(BELIEFS, field).items()}
            for field in ("constants", "tables")
        }
        yield f"all spreads {word}", replace(BELIEFS, **wider)


def fifteen(rows: Sequence[HeldOut]) -> list[HeldOut]:
    """The project's fifteen figures (published_latency.csv) among the thirty."""
    return [row for row in rows if row.observation.table in PROJECT_TABLES]


def form_text(form: Form) -> str:
    return "/".join(str(part) for part in vars(form).values())


def study_to_json(study: Study) -> str:
    """All but the posterior, which has its own file."""

    def row(one: HeldOut) -> dict[str, Any]:
        intervals = {str(level): [float(f"{s:.6g}") for s in ends] for level, ends in one.intervals_s.items()}
        return {
            "model": one.observation.model, "table": one.observation.table, "form": asdict(one.form),
            "predicted_s": float(f"{one.predicted_s:.6g}"), "intervals_s": intervals,
        }  # fmt: skip

    document = {
        "folds": {name: [row(one) for one in rows] for name, rows in study.folds.items()},
        "sensitivity": {what: [float(f"{v:.6g}") for v in found] for what, found in study.sensitivity.items()},
        "forms": {form: round(misfit, 4) for form, misfit in study.forms.items()},
    }
    return json.dumps(document, separators=(",", ":")) + "\n"


def committed_study() -> Study:
    """What the last `--write` fitted."""
    return study_from_json((DATA / "held_out_t4.json").read_text(encoding="utf-8"), committed_posterior())


def study_from_json(text: str, posterior: Posterior) -> Study:
    """What `study_to_json` wrote; fresh fits go through it too, so that pages show what is committed."""
    document = json.loads(text)
    known = {(row.model, row.table): row for row in observations("calibrate")}

    def row(one: dict[str, Any]) -> HeldOut:
        intervals = {float(level): (float(low), float(high)) for level, (low, high) in one["intervals_s"].items()}
        return HeldOut(known[one["model"], one["table"]], Form(**one["form"]), one["predicted_s"], intervals)

    folds = {name: [row(one) for one in rows] for name, rows in document["folds"].items()}
    found = {what: (mean, worst, s) for what, (mean, worst, s) in document["sensitivity"].items()}
    return Study(posterior, folds, found, document["forms"])


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows)) + "\n"


def percent(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f} %"


def accuracy_table(study: Study) -> str:
    rows = []
    for name, title in SCHEMES.items():
        sets = [("the fifteen", fifteen(study.folds[name]))]
        if name != "alone":
            sets.append(("all thirty", study.folds[name]))
        for which, held in sets:
            found = summary(held)
            rows.append([
                title, which, percent(found["mean_error"]), percent(found["worst_error"]),
                percent(found["coverage_50"], 0), percent(found["coverage_90"], 0),
            ])  # fmt: skip
    return table(["held out", "figures", "mean error", "worst", "in the 50 % interval", "in the 90 % interval"], rows)


def held_out_table(rows: Sequence[HeldOut]) -> str:
    cells = []
    for row in rows:
        seen, (low, high) = row.observation, row.intervals_s[0.9]
        cells.append([
            seen.model, seen.table, f"{1e3 * seen.seconds:.2f}", f"{1e3 * row.predicted_s:.2f}",
            f"{100 * row.error:+.1f} %", f"{1e3 * low:.2f}–{1e3 * high:.2f}", form_text(row.form),
        ])  # fmt: skip
    heads = ["model", "table", "published", "predicted", "error", "90 % interval", "form chosen without it"]
    return table(heads, cells)


def sensitivity_table(study: Study) -> str:
    rows = [
        [what, percent(mean), percent(worst), f"{1e3 * seconds:.2f}"]
        for what, (mean, worst, seconds) in study.sensitivity.items()
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


def verdict_table(posterior: Posterior) -> str:
    rows = []
    for name, title in VERDICT_TABLES.items():
        for spread, found in verdicts(name, posterior, (0.05, 0.10, 0.20)).items():
            rows.append([title, f"{spread:.2f}", *(f"{p:.3f}" for p in found.probability.values())])
    return table(["figures", "spread", *ATTENTIONS], rows)


def attention_table(posterior: Posterior) -> str:
    """The verdicts with each attention prior moved by its spread: nothing here calibrates them."""
    rows = []
    for name, prior in ATTENTION_PRIORS.items():
        for sign in (1, -1):
            by = float(np.exp(sign * prior.spread))
            draws = tuple(
                replace(one, constants={**one.constants, name: by * one.constants[name]})
                for one in posterior.draws[:DRAWS_BY_MODEL]
            )
            for table_name in ("yolov12", "yolov13", "users-yolov12"):
                found = verdict(table_name, replace(posterior, draws=draws)).probability
                shares = [f"{p:.3f}" for p in found.values()]
                rows.append([VERDICT_TABLES[table_name], f"{name} {by * prior.median:.2f}", *shares])
    return table(["figures (spread 0.10)", "prior median moved to", *ATTENTIONS], rows)


def transfer_tables(posterior: Posterior) -> tuple[str, str]:
    """Mean errors by form, and every timing, of the committed results/h100-*.json (or h200) that measured ceilings."""
    files = sorted((ROOT / "results").glob("h[12]00-*.json"))
    results = [json.loads(path.read_text(encoding="utf-8")) for path in files]
    results = [result for result in results if result.get("ceilings")]
    if not results:
        raise YoloproofError("results/: no h100-*.json with ceilings; benchmarks/gpu.py writes them on an H100")
    found = transfer_rows(posterior, results)
    rows = [
        [
            row.gpu, row.model + (f" ×{row.batch}" if row.batch > 1 else ""), row.form, row.attention,
            f"{1e3 * row.measured_s:.2f}", f"{1e3 * row.estimated_s:.2f}", f"{100 * row.error:+.0f} %",
        ]
        for row in found
    ]  # fmt: skip
    means = [
        [form, str(count), f"{100 * signed:+.0f} %", percent(absolute, 0)]
        for form, (count, signed, absolute) in mean_errors(found).items()
    ]
    heads = ["GPU", "model", "form", "attention", "measured", "estimated", "error"]
    return table(["form", "timings", "mean error", "mean absolute error"], means), table(heads, rows)


def constants_tables(study: Study) -> str:
    point, weights = study.posterior.point, form_weights(study.forms)
    forms = [*list(study.forms)[:5], form_text(Form())]
    parts = [
        f"Forms tried: {len(FORMS)}. By misfit on all thirty, and the one of the central figure:\n",
        table(["form", "misfit", "weight"], [[f, f"{study.forms[f]:.2f}", f"{weights[f]:.3f}"] for f in forms]),
        f"{point.effective_parameters:.1f} parameters are decided by the figures rather than by their priors.\n",
        table(["constant", "value"], [[name, f"{value:.4g}"] for name, value in point.constants.items()]),
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
        "accuracy": accuracy_table(study), "nine": nine_table(models), "verdicts": verdict_table(posterior),
        "transfer": errors,
    }  # fmt: skip
    sections = {
        "Held out by family": held_out_table(study.folds["family"]),
        "Held out by family, the fifteen alone": held_out_table(study.folds["alone"]),
        "Held out by model": held_out_table(study.folds["model"]),
        "What hangs on the priors": "One belief changed at a time, the fifteen held out by family, form fixed.\n\n"
        + sensitivity_table(study),
        "The calibration": constants_tables(study),
        "Each figure alone": alone_table(models),
        "What hangs on the attention priors": attention_table(posterior),
        "H100, measured ceilings": timings,
    }
    document = ROOT / "docs/t4.md"
    return {
        ROOT / "docs/t4-tables.md": "# Tables made by benchmarks/estimate.py\n"
        + "".join(f"\n## {title}\n\n{body}" for title, body in sections.items()),
        document: BLOCK.sub(lambda m: f"{m[1]}\n{blocks[m[2]]}\n{m[3]}", document.read_text(encoding="utf-8")),
        ROOT / "docs/t4.svg": figure_svg(study.folds["family"], models),
    }


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the files; otherwise print the tables and compare")
    parser.add_argument("--fast", action="store_true", help="take the committed fits")
    parser.add_argument("--draws", type=int, default=DRAWS)
    arguments = parser.parse_args()
    study = committed_study() if arguments.fast else study_from_data(arguments.draws)
    made = pages(study)
    if not arguments.fast:
        made[DATA / "posterior_t4.json"] = posterior_to_json(study.posterior)
        made[DATA / "held_out_t4.json"] = study_to_json(study)
    print(made[ROOT / "docs/t4-tables.md"])
    if arguments.write:
        for path, text in made.items():
            path.write_text(text, encoding="utf-8")
        return 0
    stale = [path for path, text in made.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        print(f"{path.relative_to(ROOT)} is out of step; run: python benchmarks/estimate.py --write", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
