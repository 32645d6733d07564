"""The table of docs/measurement.md says what the committed file holds, and the benchmark counts rightly."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    pytest.importorskip("fcntl")
    spec = importlib.util.spec_from_file_location("repeatability", ROOT / "benchmarks" / "repeatability.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(naive_s: float, median_s: float, width: float = 0.002) -> dict[str, Any]:
    interval = [median_s - width, median_s + width]
    return {"naive_s": naive_s, "median_s": median_s, "interval_s": interval, "others_cores": 0.1, "warnings": []}


def document() -> dict[str, Any]:
    runs = [run(0.040, 0.0400), run(0.050, 0.0410), run(0.060, 0.0470)]
    verdicts = [{"verdict": "cannot tell", "ratio": 1.025}, {"verdict": "slower", "ratio": 1.146}]
    machine = {"cpu": {"model": "AMD EPYC", "logical_cores": 2}, "libraries": {"onnxruntime": "1.32.0"}}
    pair = {"verdict": "cannot tell", "ratio": 0.97}
    return {"machine": machine, "runs": runs, "compared": verdicts, "pairs": [pair]}


def test_the_table_counts_what_the_file_holds(benchmark: ModuleType) -> None:
    figures = dict(line.strip("| ").split(" | ") for line in benchmark.markdown(document()).splitlines()[2:])
    assert figures["intervals overlap, a run and the one before"] == "1 of 2"
    assert figures["intervals overlap, any two runs"] == "1 of 3"
    assert figures["spread of the naive loop"] == "20.00%; 50.0%"
    assert figures['`compare` of a run and the one before says "cannot tell"'] == "1 of 2"
    assert figures["… and its ratio is off 1 by at most"] == "3.00%"
    assert figures["naive spread / ours"] == "2.25"


def test_a_block_is_filled_and_what_stands_around_it_is_kept(benchmark: ModuleType) -> None:
    text = "above\n<!-- repeatability old.json -->\nold\n<!-- /repeatability -->\nbelow\n"
    filled = benchmark.filled(text, document(), "new.json")
    assert filled.startswith("above\n<!-- repeatability new.json -->\n| AMD EPYC")
    assert filled.endswith("| none |\n<!-- /repeatability -->\nbelow\n")
    assert "old" not in filled
    with pytest.raises(SystemExit, match="no block"):
        benchmark.filled("nothing", document(), "new.json")


def test_the_documents_table_is_the_committed_files(benchmark: ModuleType) -> None:
    text = (ROOT / "docs" / "measurement.md").read_text()
    found = benchmark.BLOCK.search(text)
    assert found is not None
    file = ROOT / found["file"]
    if not file.exists():
        assert "**Not shown yet**" in found.group()
        pytest.skip(f"no {found['file']}: the benchmark was not run on a quiet machine yet")
    assert benchmark.filled(text, json.loads(file.read_text()), found["file"]) == text
