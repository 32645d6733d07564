"""The figures of a row as cells: what one inference takes, and what an artifact that is served can do."""

from __future__ import annotations

from collections.abc import Sequence

from yoloproof.records import Entry, ServerSummary, Summary
from yoloproof.results.labels import NOT_SAID

LATENCY = "median\nms", "95 % over\nprocesses", "p90"
ON_GPU = "device\nms", "query\nms", "query\nmJ"
SERVER = (
    "alone\nms",
    "capacity\n/s",
    "p99 ≤\nms",
    "highest\n/s",
    "95 % over\nprocesses",
    "p50\nms",
    "p90\nms",
    "p99\nms",
)


def figure_columns(entries: Sequence[Entry]) -> list[tuple[str, tuple[str, ...]]]:
    """Headings and cells, one per entry; figures of an unproved row stand in brackets.

    Rows on a GPU have the device's own time beside the wall clock's, the whole query (load, execute, fetch) and its energy,
    the card's idle power included. Rows that were served have the highest rate and the latency at it instead.
    """
    headings: tuple[str, ...]
    if any(map(is_served, entries)):
        headings, rows = SERVER, [_served(entry.summary) for entry in entries]
    else:
        on_gpu = any((entry.runtime.device or "").startswith("cuda") for entry in entries)
        headings = (*LATENCY, *ON_GPU, "FPS") if on_gpu else (*LATENCY, "FPS")
        rows = [_timed(entry.summary, on_gpu) for entry in entries]
    filled = [(*row, *[NOT_SAID] * (len(headings) - len(row))) for row in rows]
    proved = [entry.proof.passed for entry in entries]
    return [
        (heading, tuple(bracketed(row[i], passed) for row, passed in zip(filled, proved, strict=True)))
        for i, heading in enumerate(headings)
    ]


def is_served(entry: Entry) -> bool:
    """Whether it was timed under the protocol `server`."""
    return entry.summary is not None and entry.summary.server is not None


def bracketed(cell: str, passed: bool | None) -> str:
    """The cell of a row that is proved, or in brackets."""
    return cell if passed is True or cell in (NOT_SAID, "failed") else f"({cell})"


def decimals(seconds: float) -> int:
    """Decimal places of a latency in milliseconds, so that three or four digits show."""
    return next((places for places, least in enumerate((1.0, 0.1, 0.01)) if seconds >= least), 3)


def p90_of(summary: Summary) -> float | None:
    """As it came, also of turns that were repeated; older files do not have that."""
    return summary.p90_s if summary.p90_as_it_came_s is None else summary.p90_as_it_came_s


def _timed(summary: Summary | None, on_gpu: bool) -> tuple[str, ...]:
    if summary is None:
        return ("failed",)
    places = decimals(summary.median_s)
    shorter = places if places == 3 else max(0, places - 1)
    spread = f"~{summary.mad_s * 1e3:.{places}f}"
    if summary.interval_s is not None:
        spread = "–".join(f"{end * 1e3:.{shorter}f}" for end in summary.interval_s)
    gpu: tuple[str, ...] = ()
    if on_gpu:
        energy = NOT_SAID if summary.energy_j is None else f"{summary.energy_j * 1e3:.3g}"
        gpu = _ms(summary.device_median_s, places), _ms(summary.query_median_s, places), energy
    fps = f"{summary.fps:.{1 if summary.fps < 100 else 0}f}"
    return f"{summary.median_s * 1e3:.{places}f}", spread, _ms(p90_of(summary), places), *gpu, fps


def _served(summary: Summary | None) -> tuple[str, ...]:
    if summary is None:
        return ("failed",)
    places = decimals(summary.median_s)
    alone, server = f"{summary.median_s * 1e3:.{places}f}", summary.server
    if server is None:
        return (alone,)
    at = server.at_highest
    latency = (None, None, None) if at is None else (at.p50_s, at.p90_s, at.p99_s)
    shorter = max(0, places - 1)
    return (
        alone, f"{server.capacity_hz:.3g}", f"{server.p99_bound_s * 1e3:.{shorter}f}",
        "none" if server.highest_hz is None else f"{server.highest_hz:.3g}", _rates(server),
        *(_ms(seconds, shorter) for seconds in latency),
    )  # fmt: skip


def _rates(server: ServerSummary) -> str:
    if server.interval_hz is None:
        return NOT_SAID
    return "–".join(f"{end:.3g}" for end in server.interval_hz)


def _ms(seconds: float | None, places: int) -> str:
    return NOT_SAID if seconds is None else f"{seconds * 1e3:.{places}f}"
