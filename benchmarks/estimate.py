"""One command, from committed data alone: the held-out table, the shipped posterior, the forensics, the figure.

python benchmarks/estimate.py            # prints the tables, checks the committed posterior
python benchmarks/estimate.py --write    # and writes data/posterior_t4.json, docs/t4.svg and docs/t4-tables.md
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from yoloproof.estimate.calibration import draw_fits, fit, form_weights, observations
from yoloproof.estimate.cost import FORMS, Form
from yoloproof.estimate.figure import figure_svg
from yoloproof.estimate.forensics import forensics, verdict
from yoloproof.estimate.posterior import HeldOut, Posterior, held_out, misfits, posterior_to_json, summary
from yoloproof.estimate.shapes import ATTENTIONS
from yoloproof.estimate.transfer import h100_rows

ROOT = Path(__file__).resolve().parents[1]
PROJECT_TABLES = ("thu", "yolo11-docs")  # the fifteen figures of the project's published_latency.csv
NINE = [f"yolov{family}" for family in ("12n", "12s", "12m", "12l", "12x", "13n", "13s", "13l", "13x")]
DRAWS = 400


def held_out_lines(rows: list[HeldOut]) -> list[str]:
    """The held-out table as Markdown."""
    lines = ["| model | table | published | predicted | error | 90 % interval | form chosen without the family |"]
    lines.append("|---|---|---|---|---|---|---|")
    for row in rows:
        seen, (low, high) = row.observation, row.intervals_s[0.9]
        form = "/".join(str(part) for part in vars(row.form).values())
        lines.append(
            f"| {seen.model} | {seen.table} | {1e3 * seen.seconds:.2f} | {1e3 * row.predicted_s:.2f} "
            f"| {100 * row.error:+.1f} % | {1e3 * low:.2f}–{1e3 * high:.2f} | {form} |"
        )
    return lines


def summary_line(title: str, rows: list[HeldOut]) -> str:
    """One line of figures."""
    found = summary(rows)
    return (
        f"{title}: {len(rows)} figures, mean absolute error {100 * found['mean_error']:.1f} %, worst "
        f"{100 * found['worst_error']:.1f} %, coverage of the 50 % interval {100 * found['coverage_50']:.0f} %, "
        f"of the 90 % interval {100 * found['coverage_90']:.0f} %"
    )


def forensic_lines(posterior: Posterior) -> list[str]:
    """The nine models and the tables' verdicts as Markdown."""
    lines = [
        "| model | fused | explicit | published | stripped | reported | measured by users |",
        "|---|---|---|---|---|---|---|",
    ]
    for model in NINE:
        found = forensics(model, posterior)
        cells = [f"{1e3 * s:.1f} ({1e3 * low:.1f}–{1e3 * high:.1f})" for s, low, high in found.estimates_s.values()]
        figures = {
            role: next((f"{1e3 * r.seconds:.2f}" for r in found.figures if r.role == role), "–")
            for role in ("reported", "measured")
        }
        lines.append(f"| {model} | {' | '.join(cells)} | {figures['reported']} | {figures['measured']} |")
    lines += ["", "| figure | " + " | ".join(ATTENTIONS) + " |", "|---|---|---|---|---|"]
    for model in NINE:
        for role, found_p in forensics(model, posterior).probability.items():
            lines.append(f"| {model} {role} | " + " | ".join(f"{p:.2f}" for p in found_p.values()) + " |")
    lines += [
        "",
        "| table, all its figures together | factor spread | " + " | ".join(ATTENTIONS) + " |",
        "|---|---|---|---|---|---|",
    ]
    for table in ("yolov12", "yolov13", "users-yolov12", "users-yolov13"):
        for spread in (0.05, 0.10, 0.20):
            found_p = verdict(table, posterior, spread).probability
            lines.append(f"| {table} | {spread:.2f} | " + " | ".join(f"{p:.3f}" for p in found_p.values()) + " |")
    return lines


def transfer_lines(posterior: Posterior) -> list[str]:
    """The H100's timings beside the estimates, and the mean absolute error of each runtime."""
    lines = ["| model | attention | runtime | measured | estimated | error |", "|---|---|---|---|---|---|"]
    rows = h100_rows(posterior)
    for row in rows:
        lines.append(
            f"| {row.model} | {row.attention} | {row.runtime} | {1e3 * row.measured_s:.2f} "
            f"| {1e3 * row.estimated_s:.2f} "
            f"| {100 * row.error:+.0f} % |"
        )
    for runtime in dict.fromkeys(row.runtime for row in rows):
        mean = np.mean([abs(row.error) for row in rows if row.runtime == runtime])
        lines.append(f"| mean absolute error | | {runtime} | | | {100 * mean:.0f} % |")
    return lines


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--draws", type=int, default=DRAWS)
    arguments = parser.parse_args()
    data = observations("calibrate")
    rows = held_out(data, arguments.draws)
    project = [row for row in rows if row.observation.table in PROJECT_TABLES]
    rng = np.random.default_rng(0)
    ranking = misfits(data)
    posterior = Posterior(fit(data, Form()), tuple(draw_fits(data, ranking, arguments.draws, rng)), summary(project))
    lines = ["## Held out by family", "", *held_out_lines(rows), ""]
    lines += [summary_line("The fifteen figures of the project", project) + ".", ""]
    lines += [summary_line("All thirty", rows) + ".", ""]
    alone = held_out([row for row in data if row.table in PROJECT_TABLES], arguments.draws)
    lines += [
        summary_line("The fifteen, fitted to the fifteen alone (no second table of the same networks)", alone) + ".",
        "",
    ]
    weights = form_weights(ranking)
    lines += [f"Forms tried: {len(FORMS)}. By misfit on all thirty:", "", "| form | misfit | weight |", "|---|---|---|"]
    for form in [*list(ranking)[:5], Form()]:
        lines.append(f"| {'/'.join(str(p) for p in vars(form).values())} | {ranking[form]:.2f} | {weights[form]:.3f} |")
    point = posterior.point
    lines += [
        "",
        "| constant | value |",
        "|---|---|",
        *(f"| {name} | {value:.4g} |" for name, value in point.constants.items()),
    ]
    lines += ["", "| table | offset (ms) | factor |", "|---|---|---|"]
    lines += [f"| {name} | {1e3 * offset:.2f} | {factor:.3f} |" for name, (offset, factor) in point.tables.items()]
    lines += [
        "",
        "## The nine models",
        "",
        *forensic_lines(posterior),
        "",
        "## H100, measured ceilings",
        "",
        *transfer_lines(posterior),
    ]
    print("\n".join(lines))
    if arguments.write:
        (ROOT / "src/yoloproof/estimate/data/posterior_t4.json").write_text(
            posterior_to_json(posterior), encoding="utf-8"
        )
        (ROOT / "docs/t4-tables.md").write_text(
            "# Tables made by benchmarks/estimate.py\n\n" + "\n".join(lines) + "\n", encoding="utf-8"
        )
        (ROOT / "docs/t4.svg").write_text(
            figure_svg(rows, [forensics(model, posterior) for model in NINE]), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
