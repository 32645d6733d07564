"""The page in a real headless Chromium, and the pictures."""

from __future__ import annotations

import itertools
import shutil
import struct
import subprocess
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from xml.etree import ElementTree

import pytest

from made_results import (
    ATTENTIONS,
    HOSTILE,
    lab_result,
    made_accuracy,
    made_entry,
    made_process,
    made_result,
    made_run,
    served_entry,
)
from yoloproof.errors import YoloproofError
from yoloproof.names import Runtime, Weights
from yoloproof.records import ModelFacts, Protocol
from yoloproof.report import plots
from yoloproof.report.page import html_from_results, pictures_from_results
from yoloproof.report.rows import rows_from_results

pytestmark = pytest.mark.xdist_group("browser")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# As root and without a network: no sandbox, and nothing that phones home.
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install playwright)")
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine (Debian: apt install chromium)")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def show(browser, tmp_path):
    """A function that opens a page of results and returns it; at the end, no console message and no request is held
    against it."""
    complaints, pages = [], []

    def opened(result, width=1600, **context):
        target = tmp_path / "report.html"
        target.write_text(html_from_results([("made.json", result)]), encoding="utf-8")
        page = browser.new_context(viewport={"width": width, "height": 900}, **context).new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: complaints.append(request.url) if "report.html" not in request.url else None)
        page.goto(target.as_uri())
        pages.append(page)
        return page

    yield opened
    for page in pages:
        page.context.close()
    assert [words for words in complaints if not words.startswith("data:")] == []


def medians(page):
    cells = page.locator("#table tbody tr:not([hidden]) td[data-order]:nth-child(3)")
    return [float(value) for value in cells.evaluate_all("cells => cells.map(cell => cell.dataset.order)")]


def test_sorting_by_click_and_by_keyboard(show):
    page = show(lab_result())
    unsorted = medians(page)
    page.get_by_role("button", name="Median ms").click()
    assert medians(page) == sorted(unsorted)
    head = page.locator("th[data-column=median]")
    assert head.get_attribute("aria-sort") == "ascending"
    head.locator("button").press("Enter")
    assert medians(page) == sorted(unsorted, reverse=True)
    assert "not measured" in page.locator("#table tbody tr").last.inner_text(), "a row without a number stays last"


def test_filters_hide_rows_details_and_marks_together(show):
    page = show(lab_result())
    page.locator("select[data-column=attention]").select_option("fused")
    page.get_by_label("Search").fill("yolov13n openvino")
    assert page.locator("#status").inner_text() == "4 of 68 shown"
    assert page.locator("#table tbody tr:not([hidden])").count() == 4
    assert page.locator("details.result:not([hidden])").count() == 4
    assert page.locator(".wide path[data-row]:not(.dim)").count() == 4
    page.get_by_role("button", name="Reset").click()
    assert page.locator("#status").inner_text() == "68 of 68 shown"


@pytest.mark.parametrize(
    ("form", "starts", "holds"),
    [
        (
            "Markdown",
            "| Model | Attention | Median ms |",
            "| stripped | 43.6 (not proved) | 0.619 (0.618–0.621) | ✗ not proved |",
        ),
        ("CSV", "Model,Attention,Median ms,", "yolov13n,stripped,43.6 (not proved),0.619 (0.618–0.621),✗ not proved"),
        (
            "LaTeX",
            "\\begin{tabular}{llr",
            "yolov13n & stripped & 43.6 (not proved) & 0.619 (0.618--0.621) & $\\times$ not proved",
        ),
    ],
)
def test_copying_takes_the_shown_rows_and_columns(show, form, starts, holds):
    page = show(lab_result())
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_label("Search").fill("yolov13n onnxruntime")
    page.get_by_role("button", name=form).click()
    page.wait_for_function("document.querySelector('#status').textContent.startsWith('Copied')")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith(starts)
    assert holds in copied
    assert "openvino" not in copied


def test_copying_without_a_clipboard_shows_the_text(show):
    page = show(lab_result())
    page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page.get_by_role("button", name="CSV").click()
    assert page.get_by_role("dialog").is_visible()
    assert page.locator("#copied textarea").input_value().startswith("Model,")


def test_a_link_opens_the_proof_check_by_check(show):
    page = show(lab_result())
    page.locator("#table tbody tr").nth(6).get_by_role("link").click()
    detail = page.locator("details.result[open]")
    assert detail.count() == 1
    said = detail.inner_text()
    for words in (
        "Proof: not proved",
        "✗ failed",
        "numeric parity",
        "? could not be checked",
        "yoloproof profile yolov13n.pt",
    ):
        assert words in said


@pytest.mark.parametrize("width", [390, 1600])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_spills_over_the_side_and_text_is_readable(show, width, scheme):
    long = made_entry(model=ModelFacts(name="a_very_long_model_name_" * 6, weights=Weights.TRAINED, family="other"))
    page = show(made_result([*lab_result().entries, long]), width, color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    shown = page.locator(".wide svg" if width > 760 else ".narrow svg")
    assert shown.first.is_visible()
    smallest = page.evaluate(
        "Math.min(...[...document.querySelectorAll('figure svg')].filter(one => one.checkVisibility())"
        ".map(one => 11 * one.getBoundingClientRect().width / one.viewBox.baseVal.width))"
    )
    assert smallest >= 9, "the smallest letters of a chart, in px"
    ink, paper = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    assert contrast(ink, paper) >= 7
    assert contrast(page.evaluate("getComputedStyle(document.querySelector('.soft')).color"), paper) >= 4.5


def contrast(one, other):
    """The contrast ratio of two rgb() colours (WCAG 2.2)."""

    def luminance(colour):
        parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_theme_button_overrides_the_system(show):
    page = show(lab_result(), color_scheme="light")
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.locator("#theme").click()
    page.locator("#theme").click()
    assert page.locator("#theme").inner_text() == "Theme: dark"
    assert page.evaluate(background) != light


def test_everything_a_keyboard_or_screen_reader_needs_has_a_name(show):
    page = show(lab_result())
    assert page.locator("html").get_attribute("lang") == "en"
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button, select, input, [role=region], [role=img]')].filter(one =>"
        " !(one.getAttribute('aria-label') || one.getAttribute('aria-labelledby') || one.labels?.length"
        " || one.textContent.trim())).length"
    )
    assert unnamed == 0
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the results"
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map(one => Number(one.tagName[1]))")
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def hostile(value):
    """The record with every text in it made hostile, and every key of its free mappings."""
    if is_dataclass(value):
        return type(value)(**{one.name: hostile(getattr(value, one.name)) for one in fields(value)})
    if isinstance(value, Mapping):
        return {f"{key}{HOSTILE}": hostile(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(map(hostile, value))
    return f"{value}{HOSTILE}" if type(value) is str else value


def test_untrusted_text_stays_text(show):
    result = hostile(lab_result())
    entry = replace(
        result.entries[0], artifact=replace(result.entries[0].artifact, metadata={HOSTILE: [{HOSTILE: HOSTILE}]})
    )
    result = replace(result, entries=(entry, *result.entries[1:]))
    page = show(result)
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    page.wait_for_timeout(100)
    assert page.evaluate("window.pwned") is None
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 1
    assert HOSTILE[:20] in page.locator("#table tbody tr").first.inner_text()


def test_its_own_policy_stops_a_script_that_got_in(show, browser, tmp_path):
    target = tmp_path / "broken.html"
    page_text = html_from_results([("made.json", lab_result())])
    target.write_text(
        page_text.replace("<main>", "<main><script>window.pwned=1</script><img src=x onerror='window.pwned=1'>")
    )
    page = browser.new_page()
    page.goto(target.as_uri())
    page.wait_for_timeout(100)
    assert page.evaluate("window.pwned") is None
    page.close()


def test_500_results_load_in_under_two_seconds(show):
    entries = [
        made_entry(f"yolov13{scale}", attention, runtime, batch, samples=400)
        for scale in "nslx"
        for attention in ATTENTIONS
        for runtime in [runtime for runtime in Runtime if runtime is not Runtime.AUTO]
        for batch in (1, 2, 4, 8)
    ]
    result = made_result(entries)
    assert len(entries) >= 500
    page = show(result)
    # Processor time, not the clock's: whatever else the machine does, the page may not cost more.
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")

    def spent_s():
        metrics = session.send("Performance.getMetrics")["metrics"]
        return next(metric["value"] for metric in metrics if metric["name"] == "ProcessTime")

    loaded_s = spent_s()
    assert 0 < loaded_s < 2.0
    page.get_by_role("button", name="Median ms").click()
    page.get_by_label("Search").fill("openvino fused")
    assert page.locator("#status").inner_text() == f"16 of {len(entries)} shown"
    assert spent_s() - loaded_s < 2.0


def test_networks_are_told_apart_in_table_chart_and_headline(show):
    entries = []
    for attention, marks, median_s in (
        ("published", {}, 2e-3), ("stripped", {}, 1.6e-3), ("fused", {"simplified": ("kernels",)}, 0.8e-3),
        ("published", {"compile": True}, 1e-3),
    ):  # fmt: skip
        entry = made_entry("yolov13n", attention, "pytorch", median_s=median_s, proved=attention != "stripped")
        columns = tuple(made_process(i, [median_s * share] * 5) for i, share in enumerate((0.9, 1.0, 1.1)))
        artifact = replace(entry.artifact, simplified=marks.get("simplified", ()))
        runtime = replace(entry.runtime, compile=marks.get("compile", False))
        case = replace(entry.case, compiled=marks.get("compile", False))
        entries.append(replace(entry, artifact=artifact, runtime=runtime, case=case, processes=columns))
    page = show(made_result(entries, command=("benchmarks/gpu.py", "--models", "demo")))
    assert page.locator("th[data-column=network]").is_visible()
    assert page.locator("th[data-column=attention]").is_hidden(), "the network says more"
    assert page.locator("#attention svg").count() == 1
    assert "fused (our kernels) 0.800 ms, proved" in page.locator("#attention svg").get_attribute("aria-label")
    said = page.locator(".cards").inner_text()
    assert "0.800 ms" in said
    assert "0.40 × its time" in said
    assert "python benchmarks/gpu.py --models demo" in page.locator("#details").text_content()


def test_a_filter_that_nothing_meets_says_so(show):
    page = show(lab_result())
    page.get_by_label("Search").fill("no such thing")
    assert page.locator("#none").is_visible()
    page.get_by_role("button", name="Reset").click()
    assert page.locator("#none").is_hidden()


def test_random_weights_have_no_point_in_latency_and_ap(show):
    entry = made_entry("yolov12n")
    entry = replace(entry, model=replace(entry.model, weights=Weights.RANDOM))
    assert show(made_result([entry])).locator("#accuracy svg").count() == 0


def test_a_result_without_samples_ap_or_summary_is_still_a_page(show):
    bare = made_entry(processes=0, summary=None, accuracy=None, published=None, error="the worker was killed twice")
    page = show(made_result([bare]))
    assert "1 not measured" in page.locator(".lead").inner_text()
    assert "the worker was killed twice" in page.locator("#details").text_content()
    assert "profile --data" in page.locator("#accuracy").inner_text(), "what is missing says how to get it"


def test_a_quick_row_carries_a_badge(show):
    page = show(made_result([made_entry()], protocol=Protocol(name="latency", quick=True)))
    assert page.locator("#table tbody th .pill").inner_text() == "quick"
    assert "(quick)" in page.locator(".cards").inner_text()
    assert "· quick" in page.locator("details.result summary").first.inner_text()


def test_reported_aps_stand_only_beside_those_of_the_same_images():
    coco, other = made_entry(), made_entry("yolov13s", accuracy=made_accuracy(0.59, images=128))
    charts = {
        images: plots.scatter(rows_from_results([("made.json", made_result([entry]))]), {"yolov13": 0})
        for images, entry in ((5000, coco), (128, other))
    }
    assert "reported on Tesla T4" in charts[5000].svg
    assert "reported" not in charts[128].svg
    assert "AP on 128 images" in charts[128].caption
    assert html_from_results([("made.json", made_result([coco, other]))]).count("latency against AP on ") >= 2


def test_bars_of_two_runs_are_not_held_against_each_other():
    entries = [made_entry("yolov13n", "published", run=0), made_entry("yolov13n", "fused", run=1)]
    rows = rows_from_results([("made.json", made_result(entries, made_run(), made_run()))])
    assert plots.forensic_groups(rows) == []


def test_a_row_that_was_served_has_a_chart_of_latency_against_load():
    page = html_from_results([("made.json", made_result([served_entry(), made_entry(batch=2)]))])
    assert page.count('id="load"') == 1
    assert "12.5/s" in page
    assert "2.00 queries/s: p99 90.9 ms" in page
    assert 'id="load"' not in html_from_results([("made.json", made_result([made_entry()]))])
    assert "load-1.png" in pictures_from_results([("made.json", made_result([served_entry(None)]))])


def test_nothing_to_show_is_an_error():
    with pytest.raises(YoloproofError, match="no result file holds an entry"):
        html_from_results([("made.json", made_result([]))])


def test_charts_are_well_formed_and_hold_no_markup_of_a_result():
    rows = rows_from_results([("made.json", hostile(lab_result()))])
    colours = plots.series_of(rows)
    groups = plots.forensic_groups(rows)
    charts = [
        plots.scatter(rows, colours),
        *(plots.forensic(group, colours) for group in groups),
        *plots.batch_scaling(rows, colours),
    ]
    charts += [plots.distribution(row, colours) for row in rows[:-1]]
    tags = {element.tag for chart in charts for element in ElementTree.fromstring(chart.svg).iter()}
    assert tags <= {"svg", "path", "line", "rect", "text", "title"}
    assert len(groups) == 16
    assert len(plots.batch_scaling(rows, colours)) == 1


def test_pictures_are_png_with_letters_in_them():
    pytest.importorskip("resvg_py", reason="resvg-py is not installed (pip install resvg-py)")
    if (
        shutil.which("fc-list") is None
        or "dejavu" not in subprocess.run("fc-list", capture_output=True, text=True).stdout.lower()
    ):
        pytest.skip("no DejaVu font on this machine (Debian: apt install fonts-dejavu-core)")
    pictures = pictures_from_results([("lab.json", made_result(lab_result().entries[:9]))])
    assert {"latency-ap-1.png", "forensics-1.png", "distribution-9.png"} <= set(pictures)
    picture = pictures["latency-ap-1.png"]
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", picture[16:24])
    assert (width, height > 600) == (1720, True)
