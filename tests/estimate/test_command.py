"""`yoloproof estimate` on the command line: marked as an estimate, one line for an error, nothing overwritten."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from yoloproof.commands.estimate import estimate as command
from yoloproof.errors import YoloproofError
from yoloproof.estimate import estimate, estimate_line

SOURCE = Path(__file__).resolve().parents[2] / "src"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "yoloproof", "estimate", *arguments], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE)}, check=False,
    )  # fmt: skip


def test_the_table_says_what_it_is_and_the_json_is_in_seconds(tmp_path):
    target = tmp_path / "e.json"
    result = run("yolov13n", "--gpu", "t4", "--json", str(target))
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("ESTIMATE, not a measurement: yolov13n on Tesla T4")
    for words in ("fused", "stripped", "Reported: 1.97 ms", "Measured: 2.80 ms", "What would pay most", "an outsider"):
        assert words in result.stdout
    document = json.loads(target.read_text(encoding="utf-8"))
    assert document["estimate"] is True
    assert document["measured"] is False
    assert [row["attention"] for row in document["estimates"]] == ["fused", "explicit", "published", "stripped"]
    low, high = document["estimates"][0]["interval_s"]
    assert 1e-3 < low < document["estimates"][0]["seconds"] < high < 5e-3
    with pytest.raises(YoloproofError, match="exists"):
        command("yolov13n", json_file=target)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("yolov99n",), "no layer shapes of 'yolov99n'"),
        (("yolov13n", "--gpu", "voodoo2"), "no figures for a GPU called 'voodoo2'"),
        (("yolov13n", "--imgsz", "384x640"), "square image"),
        (("yolov13n", "--bandwidth-gbs", "nan"), "must be a positive number"),
        (("yolov13n", "--tensor-tflops", "inf"), "must be a positive number"),
        (("yolov13n", "--batch", "1000000"), "give 1 to 1024 images"),
        (("yolov8n", "--attention", "stripped"), "yolov8n has no attention"),
    ],
)
def test_errors_are_one_line(arguments, words, monkeypatch, capsys):
    from yoloproof.cli import main

    monkeypatch.setattr(sys, "argv", ["yoloproof", "estimate", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert words in message
    assert len(message.strip().splitlines()) == 1


def test_one_line_for_other_reports():
    line = estimate_line("yolov12x")
    assert line.startswith("estimate, not a measurement: yolov12x on Tesla T4")
    assert "\n" not in line
    assert "not calibrated" in estimate_line("yolov12x", "l4")
    assert "not calibrated" not in line


def test_a_network_is_known_by_its_variant():
    from yoloproof.network import load_network

    network = load_network("yolov12n", random_weights=True)
    assert estimate(network).seconds == estimate("yolov12n").seconds
    with pytest.raises(YoloproofError, match=r"cannot estimate 'model\.engine'"):
        estimate("model.engine")


def test_parts_and_blocks_add_up():
    for model, attention in (("yolov13n", "fused"), ("yolov12x", "published")):
        found = estimate(model, attention=attention)
        assert sum(found.parts_s.values()) == pytest.approx(found.seconds)
        inside = found.seconds - found.parts_s["outside the kernels"]
        assert sum(found.blocks_s.values()) == pytest.approx(inside)
        assert all(0 < saved < found.seconds for saved in found.levers_s.values())
        assert ("fused attention" in found.levers_s) == (attention == "published")


def test_a_network_without_attention_is_not_called_fused(capsys):
    command("yolov8n")
    shown = capsys.readouterr().out
    assert "no attention" in shown
    assert "fused  " not in shown
    assert "no attention: " in estimate_line("yolov8n")


def test_a_report_shows_the_estimate_below_its_table_and_not_where_a_t4_was_measured(tmp_path):
    from made_results import made_entry, made_result, made_run
    from yoloproof.commands.report import report
    from yoloproof.results.file import write_result

    write_result(made_result([made_entry()]), tmp_path / "cpu.json")
    report([tmp_path / "cpu.json"], output=tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    _, _, below = page.partition("</table>")
    assert f"<li>{estimate_line('yolov13n')}</li>" in below
    write_result(made_result([made_entry()], made_run(gpu="Tesla T4")), tmp_path / "t4.json")
    report([tmp_path / "t4.json"], output=tmp_path / "t.html")
    assert "estimate, not a measurement" not in (tmp_path / "t.html").read_text(encoding="utf-8")
