"""The table of results/README.md says what the committed files hold, and the benchmark counts rightly."""

from __future__ import annotations

import importlib.util
import json
import random
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from yoloproof.intervals import repeated_ratio, unpaired_ratio
from yoloproof.results.compare import CPU_RUN_TO_RUN

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
    processes = [median_s + width * step for step in (-1, -0.5, 0, 0, 0.5, 1)]
    return {
        "naive_s": naive_s, "median_s": median_s, "interval_s": interval, "process_medians_s": processes,
        "others_cores": 0.1, "warnings": [],
    }  # fmt: skip


def document() -> dict[str, Any]:
    runs = [run(0.040, 0.0400), run(0.050, 0.0410), run(0.060, 0.0470)]
    machine = {"cpu": {"model": "AMD EPYC", "logical_cores": 2}, "libraries": {"onnxruntime": "1.32.0"}}
    pair = {"verdict": "cannot tell", "ratio": 0.97}
    return {"machine": machine, "runs": runs, "pairs": [pair]}


def test_the_table_counts_what_the_file_holds(benchmark: ModuleType) -> None:
    figures = benchmark.figures([document()])
    assert figures["intervals overlap, a run and the one before"] == "1 of 2"
    assert figures["intervals overlap, any two runs"] == "1 of 3"
    assert figures["spread of the naive loop"] == "20.00%; 50.0%"
    assert figures['`compare` of a run and the one before says "cannot tell"'] == "1 of 2"
    assert figures["… and its ratio is off 1 by at most"] == "3.00%"
    assert figures["naive spread / ours"] == "2.25"
    assert figures['`compare` of any two runs says "cannot tell"'] == "1 of 3"


def test_several_files_have_a_column_each_and_one_together(benchmark: ModuleType) -> None:
    rows = benchmark.markdown({"results/one.json": document(), "results/two.json": document()}).splitlines()
    assert rows[0].endswith("| `one` | `two` | together |")
    assert rows[2] == "| runs of each, in turns | 3 | 3 | 6 |"
    neighbours = next(row for row in rows if "intervals overlap, a run and the one before" in row)
    assert neighbours.endswith("| 1 of 2 | 1 of 2 | 2 of 4 |")  # the last run of one is no neighbour of two's first


def test_a_file_is_hardly_ever_told_from_itself_in_another_run(benchmark: ModuleType) -> None:
    """The runs that the document shows, whatever their hour: at most one pair in twenty."""
    found = benchmark.BLOCK.search((ROOT / "results" / "README.md").read_text())
    runs = [run for file in found["files"].split() for run in json.loads((ROOT / file).read_text())["runs"]]
    told = [benchmark.verdict(*pair) != "cannot tell" for pair in combinations(runs, 2)]
    assert len(told) > 100
    assert sum(told) <= 0.05 * len(told)


def sessions() -> list[list[dict[str, Any]]]:
    """The runs of one file, eleven in each of four sessions, in their order."""
    files = sorted((ROOT / "results").glob("repeatability-amd-epyc-[5-8].json"))
    found = [json.loads(file.read_text())["runs"] for file in files]
    assert [len(runs) for runs in found] == [11] * 4
    return found


def widening(before: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]]) -> float:
    """By what factor the interval of two groups of runs of one file must be widened to hold 1; 1 where it does."""
    interval = repeated_ratio([run["median_s"] for run in after], [run["median_s"] for run in before])[0].interval
    assert interval is not None
    return max(interval.low, 1 / interval.high, 1.0)


def fresh_session() -> list[dict[str, Any]]:
    """Eleven runs of a later export on another host, which had no part in choosing anything here."""
    found: list[dict[str, Any]] = json.loads((ROOT / "results" / "repeatability-amd-epyc-9.json").read_text())["runs"]
    assert len(found) == 11
    return found


@pytest.mark.parametrize(("runs", "covered", "all_drawn"), [(3, 1815, 1848), (4, 648, 660), (5, 44, 44)])
def test_runs_of_a_session_in_turns_are_not_told_from_themselves(runs: int, covered: int, all_drawn: int) -> None:
    """Any of a session's runs in their order, A B A B …: 98 % at least, somewhat more than 95."""
    drawn = [some for session in sessions() for some in combinations(session, 2 * runs)]
    held = [widening(some[::2], some[1::2]) == 1 for some in drawn]
    assert (sum(held), len(held)) == (covered, all_drawn)


def test_the_run_to_run_interval_covers_what_it_says_on_all_five_sessions() -> None:
    """Three runs against three in turns: 95 % of the fresh session's, 97.6 % of all five sessions'."""
    held = [
        [widening(some[::2], some[1::2]) == 1 for some in combinations(session, 6)]
        for session in (*sessions(), fresh_session())
    ]
    assert (sum(held[-1]), len(held[-1])) == (440, 462)
    assert 0.92 <= sum(held[-1]) / len(held[-1]) <= 0.98
    assert 0.92 <= sum(map(sum, held)) / sum(map(len, held)) <= 0.98


def test_the_default_between_two_single_runs_holds_on_a_fresh_session(benchmark: ModuleType) -> None:
    """54 of 55 pairs of the fresh session, by the allowance that was taken from the four before."""
    told = [benchmark.verdict(*pair) != "cannot tell" for pair in combinations(fresh_session(), 2)]
    assert (sum(told), len(told)) == (1, 55)
    text = " ".join((ROOT / "results" / "README.md").read_text().split())
    assert "in 440 of 462 cases" in text
    assert "10 of 10, of any two in 54 of 55" in text


def test_six_runs_one_after_the_other_in_turns_are_hardly_ever_told_from_themselves() -> None:
    windows = [session[i : i + 6] for session in sessions() for i in range(6)]
    covered = [widening(some[::2], some[1::2]) == 1 for some in windows]
    assert (sum(covered), len(covered)) == (22, 24)


def of_two_sessions(few: Sequence[list[dict[str, Any]]], runs: int) -> list[float]:
    """What `widening` each stretch of runs of one session needs against each of another."""
    return [
        widening(a[i : i + runs], b[j : j + runs])
        for a, b in combinations(few, 2)
        for i in range(len(a) - runs + 1)
        for j in range(len(b) - runs + 1)
    ]


def test_runs_of_one_session_against_another_need_the_single_runs_allowance() -> None:
    """Three runs of a session against three of another: 74 % bare, 97 % with the allowance; more runs cover always."""
    needed = of_two_sessions(sessions(), 3)
    assert (sum(factor == 1 for factor in needed), len(needed)) == (360, 486)
    assert sum(factor <= CPU_RUN_TO_RUN for factor in needed) == 473
    assert 0.92 <= 473 / 486 <= 0.98
    assert all(factor <= CPU_RUN_TO_RUN for factor in of_two_sessions(sessions(), 4))


def test_the_allowance_between_sessions_holds_for_a_session_that_it_was_not_taken_from() -> None:
    """The factor that 95 % of the other three sessions' groups need, on the groups of the fourth against theirs."""
    held, factors = [], []
    for out, session in enumerate(sessions()):
        others = [runs for i, runs in enumerate(sessions()) if i != out]
        needed = sorted(of_two_sessions(others, 3))
        factors.append(needed[int(0.95 * len(needed))])
        held += [factor <= factors[-1] for other in others for factor in of_two_sessions([session, other], 3)]
    assert max(factors) == pytest.approx(CPU_RUN_TO_RUN, abs=0.001)
    assert 0.92 <= sum(held) / len(held) <= 0.98


def test_a_difference_that_two_single_runs_are_said_to_show_is_told_in_four_of_five_cases() -> None:
    """The statement of two of the 44 runs, tried on two others, of which one is made slower by that much."""
    runs = [run["process_medians_s"] for session in sessions() for run in session]
    chance, told = random.Random(3), 0
    for _ in range(1500):
        before, after, fresh, slower = chance.sample(runs, 4)
        detectable = unpaired_ratio(after, before).widened(CPU_RUN_TO_RUN).detectable
        assert detectable is not None
        made = [(1 + detectable) * seconds for seconds in slower]
        told += unpaired_ratio(made, fresh).widened(CPU_RUN_TO_RUN).verdict == "slower"
    assert 0.77 <= told / 1500 <= 0.84


def factor_needed(before: dict[str, Any], after: dict[str, Any]) -> float:
    """By what factor the interval of two single runs of one file must be widened to hold 1."""
    interval = unpaired_ratio(after["process_medians_s"], before["process_medians_s"]).interval
    assert interval is not None
    return max(interval.low, 1 / interval.high, 1.0)


def test_the_default_between_two_single_runs_holds_in_a_session_that_it_was_not_taken_from() -> None:
    """Each of the four sessions held out: the factor that 95 % of the other sessions' pairs need, on the pairs within it."""
    held, factors = [], []
    for out, session in enumerate(sessions()):
        others = [run for i, runs in enumerate(sessions()) if i != out for run in runs]
        needed = sorted(factor_needed(*pair) for pair in combinations(others, 2))
        factors.append(needed[int(0.95 * len(needed))])
        held += [factor_needed(*pair) <= factors[-1] for pair in combinations(session, 2)]
    assert max(abs(factor - CPU_RUN_TO_RUN) for factor in factors) < 0.01
    assert 0.92 <= sum(held) / len(held) <= 0.98


def test_a_block_is_filled_and_what_stands_around_it_is_kept(benchmark: ModuleType) -> None:
    text = "above\n<!-- repeatability old.json -->\nold\n<!-- /repeatability -->\nbelow\n"
    filled = benchmark.filled(text, {"new.json": document()})
    assert filled.startswith("above\n<!-- repeatability new.json -->\n| AMD EPYC")
    assert filled.endswith("| none |\n<!-- /repeatability -->\nbelow\n")
    assert "old" not in filled
    with pytest.raises(SystemExit, match="no block"):
        benchmark.filled("nothing", {"new.json": document()})


def test_the_documents_table_is_the_committed_files(benchmark: ModuleType) -> None:
    text = (ROOT / "results" / "README.md").read_text()
    found = benchmark.BLOCK.search(text)
    assert found is not None
    documents = {file: json.loads((ROOT / file).read_text()) for file in found["files"].split()}
    assert benchmark.filled(text, documents) == text


def test_the_guide_quotes_the_table(benchmark: ModuleType) -> None:
    files = sorted((ROOT / "results").glob("repeatability-amd-epyc-[5-8].json"))
    figures = benchmark.figures([json.loads(file.read_text()) for file in files])
    ours, naive = (
        figures[name].split(";")[0]
        for name in (
            "spread of ours between runs (standard deviation / mean; largest over smallest)",
            "spread of the naive loop",
        )
    )
    neighbours = figures['`compare` of a run and the one before says "cannot tell"']
    any_two = figures['`compare` of any two runs says "cannot tell"']
    text = " ".join((ROOT / "docs" / "measurement.md").read_text().split())
    assert f"is {ours} of the mean for ours, {naive} for the naive loop" in text
    assert f"the one before in {neighbours} cases, of any two runs in {any_two}" in text
