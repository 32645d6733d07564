"""The table: every column of the brief, one line a row, and no unproved figure that looks like a result."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from made_results import (
    end_to_end_entry,
    lab_result,
    made_entry,
    made_process,
    made_result,
    made_run,
    made_summary,
    served_entry,
)
from yoloproof.names import ArtifactFormat, Weights
from yoloproof.records import Check, Entry, Protocol, Result, RunWarning, Verdict
from yoloproof.results.compare import compare_rows, fastest_lines
from yoloproof.results.figures import decimals
from yoloproof.results.labels import network_label
from yoloproof.results.published import published_for
from yoloproof.results.table import first_row_ratios, latency_table, notes, print_result


def printed(result: Result, width: int | None = 100) -> str:
    """What a terminal of that width shows; None: what a pipe gets."""
    console = Console(file=io.StringIO(), width=width, color_system=None, force_terminal=width is not None)
    print_result(result, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def line_of(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(start))


def test_every_column_is_there_and_nothing_is_cut_at_80() -> None:
    text = printed(made_result([made_entry(accuracy=None)]), 80)
    for words in ("model", "median", "95 % over", "p90", "FPS", "proof"):
        assert words in text
    assert text.splitlines()[:2] == [
        "latency · AMD EPYC 9B14 (2 cores) · 2.50 M parameters · 6.40 GFLOPs · fp32",
        "fused attention · onnxruntime",
    ], "one row: nothing differs"
    assert "…" not in text
    assert all(len(line) <= 80 for line in text.splitlines())
    for cell in ("70.40", "69.0–72.5", "77.44", "14.2"):
        assert cell in line_of(text, "yolov13n")


def test_a_row_is_one_line_at_80_columns_and_says_what_was_left_out() -> None:
    long = made_entry("yolov13x-with-a-very-long-name-of-a-file", "published", "openvino")
    long = replace(long, model=replace(long.model, weights=Weights.RANDOM))
    result = made_result([made_entry(), long])
    text = printed(result, 80)
    table = text[: text.index("not shown at this width: AP50")]
    assert len(table.splitlines()) == 5, "title, two lines of headings, two rows"
    assert all(len(line) <= 80 for line in table.splitlines())
    assert "…" in line_of(table, "yolov13x")


def test_a_pipe_gets_everything_on_one_line_a_row() -> None:
    entry = made_entry("yolov13x" + "-long" * 30, error="e" * 300)
    text = printed(made_result([made_entry(), entry]), None)
    row = line_of(text, "yolov13x-long")
    assert "AP50" in text
    assert "77.44" in line_of(text, "yolov13n")
    assert row.rstrip().endswith("41.6 56.6")
    assert "e" * 300 in text
    assert "not shown" not in text


def test_the_p90_is_that_of_all_turns_as_they_came() -> None:
    summary = replace(made_summary(0.0704), p90_as_it_came_s=0.1234)
    assert "123.40" in line_of(printed(made_result([made_entry(accuracy=None, summary=summary)]), 80), "yolov13n")


def test_a_row_on_a_gpu_has_the_devices_time_the_whole_query_and_its_energy() -> None:
    entry = made_entry(accuracy=None, runtime="tensorrt")
    summary = replace(made_summary(0.000561), device_median_s=0.000503, query_median_s=0.001392, energy_j=0.0917)
    entry = replace(entry, summary=summary, runtime=replace(entry.runtime, device="cuda:0"))
    text = printed(made_result([entry, entry], made_run(gpu="Tesla T4")), 80)
    row = line_of(text, "yolov13n").split()
    assert row[1:6] == ["0.561", "0.550–0.578", "0.617", "0.503", "1.392"]
    assert "91.7" in row
    assert all(len(line) <= 80 for line in text.splitlines() if line.startswith("yolov13n"))
    for words in ("device", "query", "mJ"):
        assert words in text
        assert words not in printed(made_result([made_entry()]))


def test_the_whole_query_is_the_last_of_a_gpus_columns_to_go() -> None:
    entry = made_entry(name="yolov13-of-a-long-name-n", accuracy=None, runtime="tensorrt")
    summary = replace(made_summary(0.000561), device_median_s=0.000503, query_median_s=0.001392, energy_j=0.0917)
    entry = replace(entry, summary=summary, runtime=replace(entry.runtime, device="cuda:0"))
    result = made_result([entry, made_entry(name="yolov13-of-a-long-name-s")], made_run(gpu="Tesla T4"))
    lines = [note.plain for width in range(60, 110) for note in notes(result, latency_table(result, width)[1])]
    left_out = [line for line in dict.fromkeys(lines) if line.startswith("not shown")]
    assert any("FPS" in line and "device ms" in line and "query ms" not in line for line in left_out)
    assert all("FPS" in line and "device ms" in line for line in left_out if "query ms" in line)


def test_a_row_that_was_served_has_its_highest_rate_and_the_latency_at_it() -> None:
    entries = [served_entry(), served_entry(None, attention="explicit")]
    text = printed(made_result(entries, protocol=Protocol(name="server")), 100)
    assert "50.00 20 250.0 12.5 11.2–13.8 60.0 131.0 246.0 ✓" in " ".join(text.split())
    assert "50.00 20 250.0 none – – – – ✓" in " ".join(text.split())
    assert "Poisson arrivals at 2 sessions behind one queue" in " ".join(text.split())
    narrow = printed(made_result(entries, protocol=Protocol(name="server")), 80).splitlines()
    assert all(len(line) <= 80 for line in narrow if line.startswith("yolov13n"))


def test_a_median_of_several_requests_at_once_says_so() -> None:
    entry = made_entry(runtime="openvino", batch=8)
    entry = replace(entry, runtime=replace(entry.runtime, requests=2))
    assert "openvino: the median is of 2 batches at once" in " ".join(printed(made_result([entry])).split())


def test_what_all_rows_share_stands_in_the_title() -> None:
    entries = [made_entry(attention=attention, accuracy=None) for attention in ("fused", "published")]
    text = printed(made_result(entries))
    title, *rest = text.splitlines()
    assert title == "latency · AMD EPYC 9B14 (2 cores) · 2.50 M parameters · 6.40 GFLOPs · fp32 · onnxruntime"
    assert "FLOPs" not in "".join(rest)
    assert "onnxruntime" not in line_of(text, "yolov13n")


def test_accuracy_has_columns_only_where_it_was_measured() -> None:
    assert "AP50" in printed(made_result([made_entry()]))
    assert "AP" not in printed(made_result([made_entry(accuracy=None)]))


def timed(attention: str, factor: float, processes: int = 6, **changes: Any) -> Entry:
    moods = (1.0, 1.02, 0.99, 1.03, 1.01, 0.98)[:processes]
    columns = tuple(made_process(i, [factor * mood * (1 + 1e-4 * i)] * 5) for i, mood in enumerate(moods))
    return replace(made_entry(attention=attention, processes=0), processes=columns, **changes)


def test_rows_of_one_run_are_held_against_the_first_of_their_model() -> None:
    entries = [timed("fused", 0.1), timed("published", 0.13), timed("explicit", 0.1)]
    assert first_row_ratios(made_result(entries)) == ["1", "1.30", "≈1.00"]
    assert first_row_ratios(made_result([timed("fused", 0.1, 3), timed("published", 0.13, 3)])) == ["1", "~1.30"]
    text = printed(made_result(entries))
    assert "≈ cannot be told from the first row" in text
    assert notes(made_result(entries), fastest=["n won"])[-1].plain == "n won; ≈ cannot be told from the first row"
    assert "1.30" in line_of(text, "yolov13n published")


def test_a_file_named_otherwise_is_held_against_the_rows_of_its_checkpoint() -> None:
    """A native file built elsewhere, beside the network it was built from."""
    published, fused = timed("published", 0.2), timed("fused", 0.1)
    native = replace(fused, model=replace(fused.model, name="t4", family=None, scale=None, weights=Weights.FOREIGN))
    assert first_row_ratios(made_result([published, native])) == ["1", "0.50"]
    other = replace(native, artifact=replace(native.artifact, checkpoint_sha256="12" * 32))
    assert first_row_ratios(made_result([published, other])) == [None, None]
    unsaid = replace(fused, artifact=replace(fused.artifact, checkpoint_sha256=None))
    assert first_row_ratios(made_result([published, unsaid])) == ["1", "0.50"], "by the model's name"
    (line,) = fastest_lines(made_result([published, native]))
    assert line.startswith("fastest verified: t4 fused")


def test_a_median_of_several_batches_at_once_is_ranked_by_what_a_batch_takes() -> None:
    """As FPS says: 8 images in 1.7 s are 4.7 a second, twice 8 in 2.4 s are 6.7."""
    one, two = timed("fused", 1.7), timed("fused", 2.4)
    one = replace(one, artifact=replace(one.artifact, batch=8))
    two = replace(two, artifact=one.artifact, runtime=replace(made_entry(runtime="openvino").runtime, requests=2))
    result = made_result([one, two])
    assert first_row_ratios(result) == ["1", "0.71"]
    (line,) = fastest_lines(result)
    assert line.startswith("fastest verified: yolov13n fused fp32 openvino batch 8, 0.706")
    (compared,) = compare_rows(result)
    assert compared.verdict == "faster"
    assert compared.b_median_s / compared.a_median_s == pytest.approx(compared.ratio)
    assert "times are per batch: openvino answers 2 at once" in compared.notes


def test_rows_that_differ_in_nothing_or_were_timed_in_two_runs_have_no_ratio() -> None:
    assert first_row_ratios(made_result([timed("fused", 0.1)])) == [None]
    assert first_row_ratios(made_result([timed("fused", 0.1), timed("fused", 0.1)])) == [None, None]
    two_runs = made_result([timed("fused", 0.1), timed("published", 0.13, run=1)], made_run(), made_run())
    assert first_row_ratios(two_runs) == [None, None]
    assert "first" not in printed(two_runs)


@pytest.mark.parametrize(("proved", "sign"), [(False, "✗"), (None, "?")])
def test_an_unproved_figure_stands_in_brackets_and_says_why(proved: bool | None, sign: str) -> None:
    text = printed(made_result([made_entry(proved=proved)]))
    row = line_of(text, "yolov13n")
    assert "(70.40) (69.0–72.5)" in " ".join(row.split())
    assert sign in row
    assert "the figure is not a result" in text
    assert f"{sign} yolov13n fused fp32 onnxruntime: graph: all reach the output" in " ".join(text.split())


def test_a_check_that_could_not_be_made_says_why() -> None:
    check = Check("sensitivity", None, {}, "rounding hides the change")
    text = printed(made_result([made_entry(proof=Verdict((check,)))]))
    assert "? yolov13n fused fp32 onnxruntime: sensitivity: rounding hides the change" in " ".join(text.split())


def test_a_row_that_failed_much_is_one_line_that_begins_with_the_attention() -> None:
    failed = [Check(name, False, {}, f"why of {name}") for name in ("weights", "attention", "detections")]
    entry = replace(
        made_entry("yolov13n", "stripped"), proof=Verdict((*failed, Check("blocks", None, {}, "cannot run")))
    )
    lines = [line for line in printed(made_result([entry]), None).splitlines() if line[0] in "✗?"]
    assert [line.partition("fp32 onnxruntime: ")[2] for line in lines] == [
        "attention: why of attention; also weights, detections", "blocks: cannot run",
    ]  # fmt: skip


def test_what_two_runs_say_in_the_same_words_is_one_line() -> None:
    entries = [made_entry("yolov13n", "stripped", proved=False, run=run) for run in (0, 1)]
    (one,) = [note.plain for note in notes(made_result(entries[:1])) if note.plain.startswith("✗")]
    assert [note.plain for note in notes(made_result(entries, made_run(), made_run()))].count(one) == 1


def test_a_figure_without_an_interval_shows_another_sign() -> None:
    text = printed(made_result([made_entry(summary=replace(made_summary(0.0704), interval_s=None))]))
    assert "70.40 ~0.70" in " ".join(text.split())
    assert "–7" not in text
    assert "too few processes" in text


def test_the_reported_figure_is_marked_as_another_machines_with_its_source() -> None:
    text = " ".join(printed(made_result([made_entry()])).split())
    assert "reported for the architecture yolov13n: 1.97 ms on a Tesla T4, ANOTHER MACHINE" in text
    assert "iMoonLab/yolov13 README" in text


def test_another_runtime_on_the_reported_gpu_is_another_setting_not_another_machine() -> None:
    text = " ".join(printed(made_result([made_entry()], made_run(gpu="Tesla T4"))).split())
    assert "1.97 ms on a Tesla T4, this GPU: another setting: TensorRT, not onnxruntime" in text
    assert "ANOTHER MACHINE" not in text


def test_two_models_of_one_reported_latency_are_a_line_each_and_an_estimate_joins_that_of_its_model() -> None:
    result = made_result([made_entry(), made_entry("yolov13s"), made_entry()])
    found = notes(result, estimates={"yolov13s": "estimate, not a measurement: 4 ms"})
    n, s = (note.plain for note in found if note.plain.startswith("reported for"))
    assert (
        n
        == "reported for the architecture yolov13n: 1.97 ms on a Tesla T4, ANOTHER MACHINE (source: iMoonLab/yolov13 README)"
    )
    assert s == f"{n.replace('13n', '13s')}; for that GPU an estimate, not a measurement: 4 ms"


def test_a_reported_latency_is_printed_as_it_was_written() -> None:
    figure = published_for("yolov12n")[0]
    for said, rounding_s in (("1.60", figure.rounding_s), ("1.6", 0.0)):
        entry = made_entry("yolov12n", published=replace(figure, rounding_s=rounding_s))
        assert f"yolov12n: {said} ms on a Tesla T4" in printed(made_result([entry]), None)


def test_a_row_that_never_ran_says_so() -> None:
    text = printed(made_result([made_entry(summary=None, error="open failed: no memory")]))
    assert "failed" in text
    assert "open failed: no memory" in text


def test_warnings_come_once_a_code_with_the_worst_case_and_how_many_rows() -> None:
    def drift(share: float) -> tuple[RunWarning, ...]:
        return (RunWarning("drift", f"moves by {share:.0%}", "cool it", 1 + share),)

    entries = [made_entry(attention=a, warnings=drift(share)) for a, share in (("fused", 0.02), ("explicit", 0.04))]
    result = made_result([*entries, made_entry("yolov13s")])
    (line,) = [note.plain for note in notes(result) if "drift" in note.plain]
    assert line == (
        "⚠ drift (yolov13n fused fp32 onnxruntime, yolov13n explicit fp32 onnxruntime): at worst moves by 4%. → cool it"
    )
    many = made_result(
        [*(made_entry(batch=batch, warnings=drift(0.02)) for batch in (1, 2, 4)), made_entry("yolov13s")]
    )
    assert any(note.plain.startswith("⚠ drift (3 of 4 rows): moves by 2%") for note in notes(many))


@pytest.mark.parametrize(
    ("code", "style"), [("governor", "yellow"), ("host_slowed", "dim"), ("bimodal", "dim"), ("partial", "red")]
)
def test_only_what_the_reader_can_mend_is_yellow_and_only_what_forbids_the_figure_red(code: str, style: str) -> None:
    result = made_result([made_entry()], warnings=(RunWarning(code, "evidence", "advice", 1.0),))
    (line,) = [note for note in notes(result) if code in note.plain]
    assert line.style == style


@pytest.mark.parametrize(
    ("fastest", "last"),
    [
        ([], ["noted: bimodal; the result file has the evidence"]),
        (["n won"], ["n won; noted: bimodal; the result file has the evidence"]),
        (["n won", "s won"], ["noted: bimodal; the result file has the evidence", "n won", "s won"]),
    ],
)
def test_codes_that_are_good_to_know_join_the_line_of_the_one_row_that_won(fastest: list[str], last: list[str]) -> None:
    result = made_result([made_entry()], warnings=(RunWarning("bimodal", "evidence", "advice"),))
    assert [note.plain for note in notes(result, fastest=fastest)][-len(last) :] == last


def test_quick_and_partial_stand_in_the_title() -> None:
    text = printed(made_result([made_entry()], protocol=Protocol(name="latency", quick=True), partial=True))
    assert text.startswith("QUICK · PARTIAL · latency · AMD EPYC 9B14 (2 cores)")


def test_ratios_between_models_are_shown_once_beside_the_reported_ones() -> None:
    entries = [
        made_entry(name, attention, median_s=seconds)
        for attention in ("fused", "published")
        for name, seconds in (("yolov13n", 0.1), ("yolov13s", 0.2))
    ]
    text = " ".join(printed(made_result(entries)).split())
    assert text.count("yolov13s / yolov13n: 2.00 here, 1.51 as reported for a Tesla T4") == 1


def test_our_kernels_compiled_networks_and_end_to_end_engines_are_told_apart() -> None:
    entry = made_entry(runtime="pytorch")
    ours = replace(entry, artifact=replace(entry.artifact, format=ArtifactFormat.PYTORCH, simplified=("kernels",)))
    compiled = replace(entry, runtime=replace(entry.runtime, compile=True))
    assert [network_label(one) for one in (entry, ours, compiled, end_to_end_entry())] == [
        "fused", "fused (our kernels)", "fused (compiled)", "fused (end to end)",
    ]  # fmt: skip


def test_an_end_to_end_engine_is_named_and_never_the_fastest_or_the_next_of_rows_that_do_less() -> None:
    rows = [made_entry(median_s=0.05), made_entry(runtime="native", median_s=0.02)]
    text = printed(made_result([*rows, end_to_end_entry(median_s=0.01), end_to_end_entry(median_s=0.03)]), None)
    assert [line.split().count("(end") for line in text.splitlines() if line.startswith("yolov13n ")] == [0, 0, 1, 1]
    (line,) = fastest_lines(made_result([*rows, end_to_end_entry(median_s=0.01)]))
    assert line.startswith("fastest verified: yolov13n fused fp32 native, 0.4")
    (line,) = fastest_lines(made_result([*rows, end_to_end_entry(median_s=0.03)]))
    assert line.endswith("of the time of onnxruntime")


def test_no_text_of_a_file_steers_the_terminal_or_is_taken_for_markup() -> None:
    evil = "[red]x\x1b[2J\x9b\u202e\r\nyolov13z"
    entry = made_entry(error=evil, warnings=(RunWarning(evil, evil, evil),))
    entry = replace(
        entry, model=replace(entry.model, name=evil), published=replace(entry.published, source=evil, gpu=evil)
    )
    for width in (80, None):
        text = printed(made_result([entry], made_run(cpu=evil, protocol=Protocol(name=evil))), width)
        assert all(letter.isprintable() or letter == "\n" for letter in text)
        assert not [line for line in text.splitlines() if line.startswith("yolov13z")]
        assert "[red]x" in text


def test_a_result_of_many_rows_and_one_of_none() -> None:
    assert "failed" in printed(lab_result())
    assert printed(made_result([])).startswith("latency")


@pytest.mark.parametrize(("seconds", "places"), [(0.00197, 3), (0.0123, 2), (0.0981, 2), (0.231, 1), (1.2345, 0)])
def test_three_or_four_digits_show(seconds: float, places: int) -> None:
    assert decimals(seconds) == places
