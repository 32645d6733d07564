"""`yoloproof report` on files: what it writes, what it refuses."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from made_results import lab_result, made_entry, made_result, made_run
from yoloproof.cli import app
from yoloproof.errors import YoloproofError
from yoloproof.results.file import write_result


@pytest.fixture
def file(tmp_path):
    write_result(lab_result(), tmp_path / "lab.json")
    return tmp_path / "lab.json"


def run(*words):
    return CliRunner().invoke(app, ["report", *map(str, words)])


def test_a_page_is_written_once(file, tmp_path):
    page = tmp_path / "out" / "page.html"
    said = run(file, "-o", page, "--title", "Our <lab>", "--json", tmp_path / "written.json")
    assert said.exit_code == 0
    assert "<h1>Our &lt;lab&gt;</h1>" in page.read_text()
    assert json.loads((tmp_path / "written.json").read_text())["written_bytes"] == {str(page): page.stat().st_size}
    again = run(file, "-o", page)
    assert isinstance(again.exception, YoloproofError)
    assert "give --overwrite" in str(again.exception)
    assert run(file, "-o", page, "--overwrite").exit_code == 0


def test_markdown_goes_to_the_output_and_nothing_is_written(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = run(file, "--markdown", "--columns", "model, median,proof")
    assert said.stdout.splitlines()[:3] == [
        "| Model | Median ms | Proof |",
        "|---|---:|---|",
        "| yolov13n | 52.8 | ✓ proved |",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["lab.json"]


def test_two_files_make_one_page(file, tmp_path):
    write_result(made_result([made_entry()], made_run(gpu="Tesla T4")), tmp_path / "t4.json")
    run(file, tmp_path / "t4.json", "-o", tmp_path / "page.html")
    assert "69 results on 2 machines" in (tmp_path / "page.html").read_text()


def test_pictures_go_to_a_folder(tmp_path):
    pytest.importorskip("resvg_py", reason="resvg-py is not installed (pip install resvg-py)")
    write_result(made_result([made_entry()]), tmp_path / "one.json")
    said = run(tmp_path / "one.json", "--png", tmp_path / "charts")
    if isinstance(said.exception, YoloproofError) and "no font" in str(said.exception):
        pytest.skip(str(said.exception))
    assert sorted(path.name for path in (tmp_path / "charts").iterdir()) == ["distribution-1.png", "latency-ap-1.png"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name a result file"),
        (["gone.json"], "cannot be read"),
        (["plan.toml"], "is not a result file"),
        (["lab.json", "--json", "lab.json"], "exists"),
        (["lab.json", "--markdown", "--columns", "speed"], "no column is called speed"),
        (["--into", "gone.md"], "no such document"),
        (["--into", "bytes.md"], "not a text document"),
        (["lab.json", "--check"], "name the document with --into"),
        (["lab.json", "--columns", "model"], "give that, too"),
        (["lab.json", "-o", "plan.toml/page.html"], "was not written"),
        (["lab.json", "--png", "plan.toml", "--overwrite"], "was not written"),
    ],
)
def test_what_cannot_be_shown_is_one_line(file, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plan.toml").write_text("models = []")
    (tmp_path / "bytes.md").write_bytes(b"\xff\xfe")
    answer = run(*words)
    assert isinstance(answer.exception, YoloproofError)
    assert said in str(answer.exception)
