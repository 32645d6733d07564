"""`yoloproof report`: result files as a page, a table or pictures."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from yoloproof.commands.shared import check_new, models_to_estimate, say, write_json
from yoloproof.errors import YoloproofError
from yoloproof.files.new import write_new, write_over

if TYPE_CHECKING:
    from yoloproof.records import Result


def report(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE", help="results that profile or sweep wrote, or `last` for the newest"),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="the page (default: report.html)")
    ] = None,
    title: Annotated[str, typer.Option(metavar="TEXT", help="the page's title")] = "yoloproof report",
    markdown: Annotated[bool, typer.Option("--markdown", help="print a Markdown table instead")] = False,
    columns: Annotated[
        str | None, typer.Option(metavar="NAMES", help="with --markdown: its columns, separated by commas")
    ] = None,
    png: Annotated[
        Path | None, typer.Option(metavar="DIR", help="write the charts as PNG into this folder instead")
    ] = None,
    into: Annotated[
        Path | None, typer.Option(metavar="FILE", help="fill in the marked tables of this Markdown document instead")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="with --into: write nothing, exit 1 if a table is out of date")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace an existing page or picture")] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="list the files written, as JSON")
    ] = None,
) -> None:
    """Show result files as one self-contained HTML page (or --markdown, --png).

    Example: yoloproof report cpu.json t4.json -o report.html
    """
    check_new(json_file)
    if check and into is None:
        raise YoloproofError("--check is about a document's tables; name the document with --into")
    if columns and not markdown:
        raise YoloproofError("--columns are those of --markdown; give that, too")
    if into is not None:
        _fill(into, check)
        return
    if not files:
        raise YoloproofError("name a result file, or `last`; `yoloproof profile MODEL --json FILE` writes one")
    results = [(path.name, _read(path)) for path in files]
    from yoloproof.estimate import estimate_line
    from yoloproof.report.page import html_from_results, pictures_from_results
    from yoloproof.report.rows import rows_from_results
    from yoloproof.report.text import DEFAULT_COLUMNS, markdown_from_rows

    written: dict[Path, bytes] = {}
    if markdown:
        keys = [key.strip() for key in columns.split(",")] if columns else DEFAULT_COLUMNS
        typer.echo(markdown_from_rows(rows_from_results(results), keys), nl=False)
    if png is not None:
        written.update({png / name: picture for name, picture in pictures_from_results(results).items()})
    if output is not None or not (markdown or png):
        estimates = [estimate_line(name) for name in models_to_estimate([result for _, result in results])]
        written[output or Path("report.html")] = html_from_results(results, title, estimates).encode()
    for path in written:
        if path.exists() and not overwrite:
            raise YoloproofError(f"{path} exists; give --overwrite to replace it, or another name")
    for path, content in written.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise YoloproofError(f"{path} was not written: {error.strerror}; choose another place") from error
        (write_over if overwrite else write_new)(content, path)
    if json_file is not None:
        names = {str(path): len(content) for path, content in written.items()}
        write_json({"written_bytes": names}, json_file)
    pictures = [path for path in written if path.parent == png]
    for path in (path for path in written if path not in pictures):
        say(f"wrote {path}", err=True)
    if pictures:
        say(f"wrote {len(pictures)} pictures into {png}", err=True)


def _fill(document: Path, check: bool) -> None:
    from yoloproof.report.blocks import document_with_tables

    if not document.is_file():
        raise YoloproofError(f"{document}: no such document")
    try:
        document.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise YoloproofError(f"{document}: not a text document ({error})") from error
    words = document_with_tables(document)
    if words == document.read_text(encoding="utf-8"):
        say(f"{document}: its tables match their result files", err=True)
    elif check:
        say(
            f"{document}: its tables are out of date; run: yoloproof report --into {shlex.quote(str(document))}",
            err=True,
        )
        raise typer.Exit(1)
    else:
        write_over(words, document)
        say(f"{document}: tables written", err=True)


def _read(path: Path) -> Result:
    from yoloproof.results.file import read_result

    return read_result(path)
