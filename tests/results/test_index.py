"""results/README.md lists the files of its folder, and its figures are those in the files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from statistics import median
from typing import Any

import pytest

RESULTS = Path(__file__).resolve().parents[2] / "results"
INDEX = (RESULTS / "README.md").read_text(encoding="utf-8")


def content(name: str) -> Any:
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


def ms(*seconds: float, places: int) -> str:
    return " | ".join(f"{one * 1e3:.{places}f}" for one in seconds)


def test_every_file_is_in_the_index() -> None:
    there = {path.name for path in RESULTS.iterdir()} - {"README.md"}
    first_column = re.findall(r"^\| (`[^|]*) \|", INDEX.split("\n## ")[0], re.MULTILINE)
    assert there == {name for cell in first_column for name in re.findall(r"`([^`]+)`", cell)}


def test_links_lead_to_the_sections() -> None:
    headings = re.findall(r"^#+ (.*)$", INDEX, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    linked = re.findall(r"\]\(#([^)]+)\)", INDEX)
    assert len(linked) == 8
    assert set(linked) <= anchors


def test_a_part_of_an_h200() -> None:
    native = content("native-h200.json")
    taken = {name: row["median_s"] for name, row in native["small"].items() if "median_s" in row}
    published, stripped = (taken[f"{name}, 40 multiprocessors"] for name in ("published", "stripped"))
    for label, name in (("9.0 code", "native own code"), ("7.5 code, from its PTX", "native 7.5 PTX")):
        own = taken[f"{name}, 40 multiprocessors"]
        assert f"| {label} | {ms(own, places=3)} | {own / published:.3f} | {own / stripped:.3f} |" in INDEX
    assert f"| `published` | {ms(published, places=3)} | 1 | |" in INDEX
    assert f"| `stripped` | {ms(stripped, places=3)} | | 1 |" in INDEX
    whole = native["beside"]["native 7.5 PTX"]["median_s"]
    part = taken["native 7.5 PTX, 40 multiprocessors"]
    assert f"takes {ms(whole, places=3)} ms on all 132 multiprocessors and {ms(part, places=3)} ms on 40" in INDEX
    codes = [row for name, row in native["small"].items() if name.startswith("native")]
    boxes, scores = (max(row[name] for row in codes) for name in ("box_max_px", "score_max"))
    assert f"within {boxes:.2f} px (1.0 is allowed) and their classes within {scores:.4f}" in INDEX


def test_toolchains() -> None:
    file = content("toolchains-h200.json")
    ratios: dict[tuple[str, int], float] = {}
    for model, total in file["totals"].items():
        figures = " | ".join(f"{total[name]:.0f}" for name in ("triton", "cuda", "cudnn", "cudnn bare"))
        assert f"| {model} | {figures} |" in INDEX
        for k in (1, 3):
            rows = [
                row for row in file["rows"] if row["k"] == k and len(row["sources"]) == 1 and model in row["occurs"]
            ]
            sums = [
                sum(row["occurs"][model] * row["toolchains"][name]["median_us"] for row in rows)
                for name in ("cuda", "triton")
            ]
            ratios[model, k] = sums[0] / sums[1]
    leads = [f"{ratios[model, k]:.2f}" for k in (3, 1) for model in ("yolov13n", "yolov13s")]
    assert (
        f"({leads[0]} and {leads[1]} of Triton's time); in 1×1 of one input it takes {leads[2]} and {leads[3]}" in INDEX
    )


def test_frames() -> None:
    own, turing = (content("native-frames-h200.json")[code]["timings"] for code in ("own", "7.5"))
    for name in own:
        if not name.startswith("3840"):
            assert f"| {name} | {ms(own[name]['median_s'], turing[name]['median_s'], places=2)} |" in INDEX


@pytest.mark.parametrize(("label", "attention"), [("`stripped`", "stripped"), ("`fused` (our kernels)", "fused")])
def test_yolov12_without_its_attention(label: str, attention: str) -> None:
    taken = {
        (entry["artifact"]["attention"], entry["model"]["scale"]): entry["summary"]["median_s"]
        for entry in content("profile-h100-yolov12.json")["entries"]
    }
    ratios = [f"{taken[attention, scale] / taken['published', scale]:.2f}" for scale in "nsmlx"]
    assert f"| {label} / `published` here | {' | '.join(ratios)} |" in INDEX


def test_openvinos_own_profile() -> None:
    passes = (RESULTS / "operators-openvino.txt").read_text(encoding="utf-8").split("pass ")[1:]
    kinds = ("Convolution", "GroupConvolution", "FullyConnected", "MatMul", "attention", "Reorder", "all")
    taken = [
        {kind: [float(ms) for ms in re.findall(r"\| ([\d.]+)", re.search(rf"^\| {kind} (.*)$", one, re.MULTILINE)[1])] for kind in kinds}
        for one in passes
    ]  # fmt: skip
    layers = [[sum(one[kind][at] for kind in kinds[:4]) for at in range(3)] for one in taken]
    rows = {"convolutions and linear layers": layers, "attention, eight subgraphs": [one["attention"] for one in taken]}
    rows |= {"reordering": [one["Reorder"] for one in taken], "all": [one["all"] for one in taken]}
    for label, figures in rows.items():
        shown = " | ".join(f"{median(column):.1f}" for column in zip(*figures, strict=True)).replace("| 0.0", "| –")
        assert f"| {label} | {shown} |" in INDEX
    left = [
        (layer[1] + one["attention"][1] + one["Reorder"][1]) / one["all"][0]
        for layer, one in zip(layers, taken, strict=True)
    ]
    assert f"alone are {median(left):.3f} ({min(left):.3f} to {max(left):.3f}) of all of `published`" in INDEX
