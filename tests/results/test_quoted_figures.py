"""Figures that README and docs quote in sentences are those of results/h200.json; the marked tables are tested elsewhere."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import pytest

from yoloproof.records import Entry, Result
from yoloproof.results.file import read_result
from yoloproof.results.forensics import which_resembles
from yoloproof.results.labels import network_label
from yoloproof.results.published import figures_of

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def result() -> Result:
    return read_result(ROOT / "results" / "h200.json")


def words(name: str) -> str:
    """A document's text on one line, so that a sentence may be wrapped anywhere."""
    return " ".join((ROOT / name).read_text(encoding="utf-8").split())


def row(result: Result, network: str, target: str | None = None) -> Entry:
    """The row of run 1, the trained yolov13n."""
    found = [e for e in result.entries if e.run == 0 and (network_label(e), e.runtime.target) == (network, target)]
    assert len(found) == 1
    return found[0]


def median_ms(entry: Entry) -> float:
    assert entry.summary is not None
    return entry.summary.median_s * 1e3


def query_ms(entry: Entry) -> float:
    assert entry.summary is not None
    assert entry.summary.query_median_s is not None
    return entry.summary.query_median_s * 1e3


def beside_ms(entry: Entry) -> float:
    """What a whole query takes beside its execution."""
    return query_ms(entry) - median_ms(entry)


def test_readme_says_what_the_native_engine_takes(result: Result) -> None:
    native, t4 = row(result, "fused", "9.0"), row(result, "fused", "7.5 (PTX)")
    published, compiled = (median_ms(row(result, name)) for name in ("published", "fused (compiled)"))
    best = min(median_ms(e) for e in result.entries if e.run == 0 and e.runtime.name == "pytorch" and e.proof.passed
               and "our kernels" not in network_label(e))  # fmt: skip
    assert best == compiled
    said = f"**{median_ms(native):.2f} ms: {median_ms(native) / compiled:.2f} of the time of the best alternative and "
    assert said + f"{median_ms(native) / published:.2f} of the published network's" in words("README.md")
    assert "takes a quarter of the published network's time there" in words("README.md")
    assert 0.225 < median_ms(t4) / published < 0.275
    query = query_ms(row(result, "fused (end to end)", "9.0"))
    said = f"from a frame in NumPy to detections, takes {query:.2f} ms; one from a float32 image {query_ms(native):.2f}, no less"
    assert said in words("README.md")
    assert query_ms(native) == pytest.approx(query_ms(row(result, "fused (compiled)")), rel=0.01)


def test_the_engines_page_says_what_a_whole_query_takes(result: Result) -> None:
    card = result.runs[0].machine
    assert card is not None
    assert card.gpu is not None
    here = [e for e in result.entries if (m := result.run_of(e).machine) and m.gpu and m.gpu.uuid == card.gpu.uuid]
    native = [e for e in here if e.runtime.name == "native" and network_label(e) == "fused"]
    more = [beside_ms(e) for e in native]
    published = [beside_ms(e) for e in here if e.runtime.name == "pytorch" and network_label(e) == "published"]
    load = median(e.summary.load_median_s * 1e3 for e in native if e.summary and e.summary.load_median_s)
    said = f"takes {min(more):.1f} to {max(more):.1f} ms more** (`published` in PyTorch: {min(published):.1f} to "
    assert said + f"{max(published):.1f}), {load:.1f} of which bring the image to the GPU" in words("docs/native.md")
    earlier = [beside_ms(e) for e in result.entries if e.run in (4, 5) and e.runtime.name == "native"]
    assert f"with an earlier cast, {earlier[0]:.1f} and {earlier[1]:.1f} ms more" in words("docs/native.md")
    queries = [query_ms(row(result, "fused", "9.0"))]
    queries += [query_ms(row(result, name)) for name in ("fused (compiled)", "fused (our kernels)")]
    said = "a query of yolov13n takes {:.2f} ms, of `fused (compiled)` {:.2f}, of our kernels in PyTorch {:.2f}".format(
        *queries
    )
    assert said in words("docs/native.md")
    whole = row(result, "fused (end to end)", "9.0")
    assert f"takes {query_ms(whole):.2f} ms, {beside_ms(whole):.2f} more than its execution" in words("docs/native.md")


def test_the_tables_notes_name_the_rows_with_warnings(result: Result) -> None:
    warned = {(network_label(e), w.code) for e in result.entries if e.run == 0 for w in e.warnings}
    differ = {("fused (compiled)", "processes_differ"), ("fused (our kernels)", "processes_differ")}
    assert warned == {("fused", "drift"), ("fused (our kernels)", "host_bound"), *differ}
    drifted = [e for e in result.entries if any(w.code == "drift" for w in e.warnings)]
    assert drifted == [row(result, "fused", "9.0")]
    evidence = next(warning.evidence for warning in drifted[0].warnings if warning.code == "drift")
    share = f"{float(evidence.rpartition(' by ')[2].partition('%')[0]):.1f} %"
    assert f"its processes' medians rose by {share} from first to last" in words("docs/performance.md")


def test_forensics_probabilities(result: Result) -> None:
    rows = [e for e in result.entries if e.run == 3]
    resemblance = which_resembles(figures_of(rows[0]), rows, result.run_of(rows[0]))
    assert resemblance.attention is None
    likeliest = sorted(resemblance.rows, key=lambda one: -(one.probability or 0))
    said = ", ".join(f"`{one.attention}` {100 * (one.probability or 0):.0f} %" for one in likeliest)
    assert f"undecided: {said}, if settings differ" in words("docs/why-different.md")
