"""The latency table of a result and what has to be said below it: the only place, with the report, of milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from yoloproof.intervals import Ratio, batch_medians, side_by_side
from yoloproof.names import Weights
from yoloproof.records import Accuracy, Check, Entry, PublishedFigure, Result, RunWarning
from yoloproof.results.figures import bracketed, decimals, figure_columns, is_served
from yoloproof.results.labels import (
    NOT_SAID,
    gpu_name,
    machine_label,
    model_label,
    network_label,
    plain_text,
    precision_of,
    row_label,
    weights_of,
)
from yoloproof.results.published import model_ratios, reported_ms, same_gpu, verdict

# What goes first where a row would not fit on one line of the terminal; the result file and the report have all of it.
DROPPED_FIRST = (
    "FLOPs\n(G)",
    "params\n(M)",
    "AP50",
    "query\nmJ",
    "p90",
    "capacity\n/s",
    "FPS",
    "device\nms",
    "query\nms",
    "p50\nms",
    "p90\nms",
)
UNLIMITED = 100_000  # columns of a pipe
LEAST_NAME = 8  # letters of a model's name that stay


@dataclass(frozen=True)
class Column:
    """heading -- of one or two lines; cells -- one per row; shared -- goes into the title where all rows say the same"""

    heading: str
    cells: tuple[str, ...]
    numeric: bool = True
    shared: str | None = None

    @property
    def width(self) -> int:
        return max(cell_len(words) for words in (*self.heading.split("\n"), *self.cells))


def print_result(
    result: Result, console: Console, estimates: Mapping[str, str] = {}, fastest: Sequence[str] = ()
) -> None:
    """The table, one line a row, and its notes. In a pipe nothing is wrapped, cut or left out.

    estimates -- by model, what stands beside its reported figure: of the same GPU, in words that say it is an estimate;
    fastest -- lines that say which row won (`compare.fastest_lines`)
    """
    console = unwrapped(console)
    table, left_out = latency_table(result, console.width)
    for line in _title_lines(result, console.width):
        console.print(Text(line, "bold"))
    console.print(table)
    for note in notes(result, left_out, estimates, fastest):
        console.print(note)


def unwrapped(console: Console) -> Console:
    """The console itself on a terminal, one that wraps no line in a pipe."""
    return (
        console if console.is_terminal else Console(file=console.file, width=UNLIMITED, color_system=None, markup=False)
    )


def latency_table(result: Result, width: int) -> tuple[Table, list[str]]:
    """One row per entry, and the headings left out so that it fits `width`. An unproved row's figures
    stand in brackets: they are no result.

    Beside the median stand the ends of its 95 % interval over processes, not "±": it is seldom symmetric. Where there
    is none, ~ is the median absolute deviation of the samples.
    AP columns, in percent points, stand where an AP was measured; "AP lost" is against the float32 network.
    """
    columns = [column for column in _columns(result) if not _is_shared(column)]
    left_out = []
    for heading in DROPPED_FIRST:
        if _width(columns) > width:
            left_out += [heading.replace("\n", " ") for column in columns if column.heading == heading]
            columns = [column for column in columns if column.heading != heading]
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for column in columns:
        room = column.width
        if column is columns[0]:
            room = max(LEAST_NAME, min(room, room + width - _width(columns)))
        table.add_column(
            column.heading, justify="right" if column.numeric else "left", no_wrap=True, overflow="ellipsis",
            min_width=room, max_width=room,
        )  # fmt: skip
    for cells in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*map(Text, cells))
    return table, left_out


def notes(
    result: Result, left_out: Sequence[str] = (), estimates: Mapping[str, str] = {}, fastest: Sequence[str] = ()
) -> list[Text]:
    """What belongs below the table: signs, failed checks, reported figures, warnings, which row won; nothing twice."""
    hidden = [Text(f"not shown at this width: {', '.join(left_out)}", "dim")] if left_out else []
    said = [
        *hidden, *_signs(result), *_failures(result), *_own_terms(result), *_reported(result, estimates),
        *_warnings(result), *_last(result, fastest),
    ]  # fmt: skip
    return list({note.plain: note for note in said}.values())


def _columns(result: Result) -> list[Column]:
    entries = result.entries
    shown: list[Column] = [
        Column("model", tuple(map(_name, entries)), numeric=False),
        Column("params\n(M)", tuple(_scaled(e.model.parameters, 1e6) for e in entries), shared="{} M parameters"),
        Column("FLOPs\n(G)", tuple(_scaled(e.model.flops, 1e9) for e in entries), shared="{} GFLOPs"),
        Column("prec", tuple(map(precision_of, entries)), numeric=False, shared="{}"),
        Column("attention", tuple(map(network_label, entries)), numeric=False, shared="{} attention"),
        Column("runtime", tuple(str(e.runtime.name) for e in entries), numeric=False, shared="{}"),
    ]
    shown += [Column(heading, cells) for heading, cells in figure_columns(entries)]
    ratios = first_row_ratios(result)
    if any(ratio is not None for ratio in ratios):
        cells = (bracketed(ratio or NOT_SAID, e.proof.passed) for ratio, e in zip(ratios, entries, strict=True))
        shown.append(Column("of\nfirst", tuple(cells)))
    shown.append(
        Column("proof", tuple({True: "✓", False: "✗", None: "?"}[e.proof.passed] for e in entries), numeric=False)
    )
    return [*shown, *_accuracy_columns(entries)]


def _accuracy_columns(entries: Sequence[Entry]) -> Iterator[Column]:
    parts: tuple[tuple[str, Callable[[Accuracy], float | None], int], ...] = (
        ("AP", lambda found: found.AP, 1), ("AP50", lambda found: found.AP50, 1),
        ("AP\nlost", lambda found: found.AP_lost, 2),
    )  # fmt: skip
    for heading, part, places in parts:
        shares = [None if entry.accuracy is None else part(entry.accuracy) for entry in entries]
        if any(share is not None for share in shares):
            yield Column(heading, tuple(_percent(share, places) for share in shares))


def _is_shared(column: Column) -> bool:
    """Whether a column has one value, which then goes into the title instead."""
    return column.shared is not None and len(set(column.cells)) == 1


def _width(columns: Sequence[Column]) -> int:
    return sum(column.width + 1 for column in columns) - 1


def _title_lines(result: Result, width: int) -> list[str]:
    """What all rows share, broken between two of its parts where it is wider than `width`."""
    protocols = dict.fromkeys(plain_text(run.protocol.name) for run in result.runs)
    machines = dict.fromkeys(machine_label(run) for run in result.runs)
    marks = [word for word, is_so in (("QUICK", result.quick), ("PARTIAL", result.partial)) if is_so]
    shared = [column for column in _columns(result) if _is_shared(column) and column.cells[0] != NOT_SAID]
    said = [column.shared.format(column.cells[0]) for column in shared if column.shared is not None]
    lines: list[str] = []
    for part in (*marks, ", ".join(protocols), ", ".join(machines), *said):
        if lines and cell_len(longer := f"{lines[-1]} · {part}") <= width:
            lines[-1] = longer
        else:
            lines.append(part)
    return lines


def _name(entry: Entry) -> str:
    return model_label(entry) if entry.artifact.batch == 1 else f"{model_label(entry)} ×{entry.artifact.batch}"


def first_row_ratios(result: Result) -> list[str | None]:
    """Each row's time over that of the first row of the same weights, size and batch in its run, as a cell; None where
    these rows differ in neither network, runtime nor precision, or were served."""
    keys = [
        (entry.run, weights, entry.artifact.imgsz, entry.artifact.batch)
        for entry, weights in zip(result.entries, weights_of(result.entries), strict=True)
    ]
    groups: dict[tuple[object, ...], list[Entry]] = {}
    for key, entry in zip(keys, result.entries, strict=True):
        groups.setdefault(key, []).append(entry)
    cells: list[str | None] = []
    for key, entry in zip(keys, result.entries, strict=True):
        first, *_ = group = groups[key]
        differ = len({(network_label(one), one.runtime.name, precision_of(one)) for one in group}) > 1
        ratio = side_by_side(batch_medians(first), batch_medians(entry))
        cells.append(None if not differ or any(map(is_served, group)) else "1" if entry is first else _ratio(ratio))
    return cells


def _ratio(ratio: Ratio | None) -> str:
    if ratio is None:
        return NOT_SAID
    sign = "~" if ratio.interval is None else "≈" if ratio.verdict == "cannot tell" else ""
    return f"{sign}{ratio.value:.2f}"


def _scaled(value: float | None, unit: float) -> str:
    return NOT_SAID if value is None else f"{value / unit:.{2 if value / unit < 10 else 1}f}"


def _percent(share: float | None, places: int) -> str:
    return NOT_SAID if share is None else f"{round(share * 100, places) + 0.0:.{places}f}"  # + 0.0: never "-0.0"


def _signs(result: Result) -> Iterator[Text]:
    servers = {entry.summary.server.sessions for entry in result.entries if entry.summary and entry.summary.server}
    if servers:
        sessions = " or ".join(map(str, sorted(servers)))
        yield Text(
            f"highest /s: Poisson arrivals at {sessions} session{'' if servers == {1} else 's'} behind one queue, with the 99th "
            "percentile from the scheduled arrival within its bound; p50, p90, p99 are those at that rate", "dim",
        )  # fmt: skip
    if any(entry.summary is not None and entry.summary.interval_s is None for entry in result.entries):
        yield Text("~ median absolute deviation of the samples: too few processes for an interval", "dim")
    for name, requests in dict.fromkeys((str(e.runtime.name), e.runtime.requests) for e in result.entries):
        if requests is not None and requests > 1:
            yield Text(
                f"{name}: the median is of {requests} batches at once, one for each of its streams; ratios are per batch",
                "dim",
            )
    unproved = [entry for entry in result.entries if entry.proof.passed is not True]
    unheld = [entry for entry in unproved if entry.model.weights is Weights.FOREIGN and entry.proof.passed is None]
    if unheld:
        yield Text("( ) latency of a file that was not checked to be the right detector", "dim")
    if len(unheld) < len(unproved):
        yield Text("( ) not proved to be the published detector: the figure is not a result", "dim")


def _tells_least(check: Check) -> bool:
    """The attention goes first: a lost one is why the rest fails."""
    return check.name != "attention"


def _failures(result: Result) -> Iterator[Text]:
    for entry in result.entries:
        for passed, sign, colour in ((False, "✗", "red"), (None, "?", "yellow")):
            failed = sorted((check for check in entry.proof.failures if check.passed is passed), key=_tells_least)
            if failed:
                also = "".join(f", {check.name}" for check in failed[1:])
                said = f"{failed[0].name}: {failed[0].detail}{also and f'; also {also[2:]}'}"
                yield _line(f"{sign} {row_label(entry)}: {said}", colour)
        if entry.error is not None:
            yield _line(f"! {row_label(entry)}: {entry.error}", "red")


def _own_terms(result: Result) -> Iterator[Text]:
    """Under the protocol `published`: the figure that ProfileModels would have printed."""
    for entry in result.entries:
        summary = entry.summary
        if summary is not None and summary.clipped_mean_s is not None and summary.clipped_std_s is not None:
            places = decimals(summary.clipped_mean_s)
            mean, std = (f"{seconds * 1e3:.{places}f}" for seconds in (summary.clipped_mean_s, summary.clipped_std_s))
            yield _line(
                f"{row_label(entry)} as ProfileModels reports it: {mean} ± {std} ms (mean ± standard deviation of what its "
                "clipping left)"
            )


def _reported(result: Result, estimates: Mapping[str, str]) -> Iterator[Text]:
    """Each model's reported figure once, its estimate beside it; ratios between models where the machine is another."""
    seen: set[PublishedFigure] = set()
    for entry in result.entries:
        figure = entry.published
        if figure is None or figure in seen:
            continue
        seen.add(figure)
        run = result.run_of(entry)
        estimated = f"; for that GPU an {estimates[figure.model]}" if figure.model in estimates else ""
        here = same_gpu(figure.gpu, gpu_name(run))
        where = f"this GPU: {verdict(figure, entry, run)}" if here else "ANOTHER MACHINE"
        yield _line(
            f"reported for the architecture {figure.model}: {reported_ms(figure)} ms on a {figure.gpu}, {where} "
            f"(source: {figure.source}){estimated}"
        )
    if len(result.runs) == 1:
        ratios = {(ratio.model, ratio.against): ratio for ratio in reversed(model_ratios(result.entries))}
        for ratio in reversed(ratios.values()):
            yield _line(
                f"{ratio.model} / {ratio.against}: {ratio.measured:.2f} here, {ratio.reported:.2f} as reported for a "
                f"{ratio.gpu} ({ratio.source})"
            )


def _worst_of_codes(result: Result) -> Iterator[tuple[str, RunWarning, str]]:
    """For each code of a warning: itself with the rows it holds for, the worst case, and its evidence."""
    found: dict[str, list[tuple[RunWarning, str | None]]] = {}
    for run in result.runs:
        for warning in run.warnings:
            found.setdefault(warning.code, []).append((warning, None))
    for entry in result.entries:
        for warning in entry.warnings:
            found.setdefault(warning.code, []).append((warning, row_label(entry)))
    for code, seen in found.items():
        worst = max((warning for warning, _ in seen), key=lambda warning: warning.level_factor or 0.0)
        labels = list(dict.fromkeys(label for _, label in seen if label is not None))
        differ = len({warning.evidence for warning, _ in seen}) > 1
        evidence = f"{'at worst ' if differ else ''}{worst.evidence}"
        yield f"{code}{_rows(labels, len(result.entries))}", worst, evidence


def _warnings(result: Result) -> Iterator[Text]:
    """A line per code: how many rows it holds for, the worst case, and what to do."""
    for code, worst, evidence in _worst_of_codes(result):
        if worst.level != "note":
            yield _line(f"⚠ {code}: {evidence}. → {worst.advice}", "red" if worst.level == "unusable" else "yellow")


def _last(result: Result, fastest: Sequence[str]) -> Iterator[Text]:
    """Which row won, and what only is good to know: in one line where one row won."""
    remarks = []
    if any(ratio is not None and ratio.startswith("≈") for ratio in first_row_ratios(result)):
        remarks.append("≈ cannot be told from the first row")
    noted = [code for code, worst, _ in _worst_of_codes(result) if worst.level == "note"]
    if noted:
        remarks.append(f"noted: {', '.join(noted)}; the result file has the evidence")
    if len(fastest) == 1:
        yield _line("; ".join((*fastest, *remarks)))
    else:
        yield from (_line(remark, "dim") for remark in remarks)
        yield from map(_line, fastest)


def _rows(labels: Sequence[str], entries: int) -> str:
    if not labels or len(labels) == entries:
        return ""
    return f" ({', '.join(labels) if len(labels) <= 2 else f'{len(labels)} of {entries} rows'})"


def _line(words: str, style: str = "") -> Text:
    return Text(plain_text(words), style)
