"""Tables of a Markdown document stay in step with result files."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from made_results import end_to_end_entry, made_entry, made_result
from yoloproof.errors import YoloproofError
from yoloproof.report.blocks import document_with_tables
from yoloproof.results.file import write_result
from yoloproof.results.merge import merged


def document(tmp_path, asked="cpu.json | columns: model, median | where: runtime=openvino 1.32.0"):
    entries = [made_entry(), made_entry(runtime="openvino", median_s=0.0238)]
    (tmp_path / "cpu.json").unlink(missing_ok=True)
    write_result(made_result(entries), tmp_path / "cpu.json")
    page = tmp_path / "README.md"
    page.write_text(f"# Title\n\n<!-- yoloproof-table {asked} -->\nold\n<!-- /yoloproof-table -->\nrest\n")
    return page


def test_a_block_shows_what_it_asks_for_and_leaves_the_rest(tmp_path):
    words = document_with_tables(document(tmp_path))
    assert words.startswith("# Title\n\n<!-- yoloproof-table cpu.json")
    assert "| Model | Median ms |\n|---|---:|\n| yolov13n | 23.8 |\n<!-- /yoloproof-table -->\nrest\n" in words
    assert "70.4" not in words


def test_filling_twice_changes_nothing(tmp_path):
    page = document(tmp_path)
    page.write_text(document_with_tables(page))
    assert document_with_tables(page) == page.read_text()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("cpu.json | colums: model", "known are columns:, where:, across: and against:"),
        ("cpu.json | columns: speed", "no column is called speed"),
        ("cpu.json | where: runtime=tensorrt", "the table would be empty"),
        ("cpu.json | columns: model | against: stripped", "no row is of the network 'stripped'"),
        ("cpu.json | across: network | against: published", "across: and against:"),
    ],
)
def test_a_block_that_cannot_be_filled_is_an_error(tmp_path, asked, said):
    with pytest.raises(YoloproofError, match=said):
        document_with_tables(document(tmp_path, asked))


def test_against_holds_every_row_of_a_run_to_one_of_its_networks_whatever_the_runtime(tmp_path):
    rows = (made_entry(attention="published", median_s=0.08), made_entry(runtime="openvino", median_s=0.02))
    write_result(merged([made_result(rows), made_result([made_entry(median_s=0.04)])], ["made"]), tmp_path / "cpu.json")
    page = tmp_path / "README.md"
    asked = "cpu.json | columns: run, network | against: published"
    page.write_text(f"<!-- yoloproof-table {asked} -->\n<!-- /yoloproof-table -->\n")
    lines = document_with_tables(page).splitlines()
    assert lines[1] == "| Run | Network | Of published |"
    assert lines[3] == "| 1 | published | 1 |"
    assert lines[4].startswith("| 1 | fused | 0.250")
    assert lines[5] == "| 2 | fused | – |"  # its run has no such row


def test_an_end_to_end_engine_is_another_network(tmp_path):
    rows = (made_entry(runtime="native", median_s=0.02), end_to_end_entry(median_s=0.03))
    page = document(tmp_path, "two.json | columns: network, median | where: network=fused")
    write_result(made_result(rows), tmp_path / "two.json")
    assert "|---|---:|\n| fused | 20.0 |\n<!--" in document_with_tables(page)
    assert "| fused (end to end) |" in document_with_tables(document(tmp_path, "two.json"))
    page = document(tmp_path, "two.json | columns: network | against: fused")
    assert "\n| fused (end to end) | 1.5" in document_with_tables(page)


def test_a_block_that_does_not_end_is_an_error(tmp_path):
    page = document(tmp_path)
    page.write_text(page.read_text().replace("<!-- /yoloproof-table -->", ""))
    with pytest.raises(YoloproofError, match="every table needs one of each"):
        document_with_tables(page)


def test_check_tells_a_stale_table_and_writes_nothing(tmp_path):
    from yoloproof.cli import app

    page = document(tmp_path)
    before, runner = page.read_text(), CliRunner()
    stale = runner.invoke(app, ["report", "--into", str(page), "--check"])
    assert (stale.exit_code, page.read_text()) == (1, before)
    assert runner.invoke(app, ["report", "--into", str(page)]).exit_code == 0
    assert runner.invoke(app, ["report", "--into", str(page), "--check"]).exit_code == 0
