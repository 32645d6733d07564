"""A small SVG canvas, scales and ticks. Text goes through ElementTree, so nothing written to it can become markup.

Colours are CSS classes: the page gives them light and dark values, `PRINT_CSS` gives them fixed ones for PNG.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from xml.etree import ElementTree

# Okabe and Ito, "Color Universal Design" (2008): told apart with the common colour-vision deficiencies.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9")
DARK_SERIES = ("#56b4e9", "#ff8c42", "#2ec4a0", "#e7a1c9", "#f0d34a", "#9fd3f5")
LIGHT = {"ink": "#1c2330", "soft": "#5b6472", "grid": "#d9dde4", "bad": "#b3261e", "paper": "#ffffff"}

STYLE = """
text{font-family:system-ui,-apple-system,"Segoe UI","Helvetica Neue",Arial,"DejaVu Sans","Liberation Sans","Noto Sans",sans-serif}
text{font-size:12px;fill:%(ink)s}
.soft{fill:%(soft)s}.small{font-size:11px}.strong{font-weight:600}
.grid{stroke:%(grid)s;stroke-width:1;fill:none}.axis{stroke:%(soft)s;stroke-width:1;fill:none}
.whisker{stroke:%(ink)s;stroke-width:1.5;fill:none}
.front{stroke:%(soft)s;stroke-width:1.5;stroke-dasharray:5 4;fill:none}
.reported{fill:none;stroke:%(soft)s;stroke-width:1.5}.bad{fill:none;stroke:%(bad)s;stroke-width:1.8}.badtext{fill:%(bad)s}
.median{stroke:%(ink)s;stroke-width:2}
path.dot{stroke:%(paper)s;stroke-width:1}
"""
SERIES_STYLE = "".join(
    f".s{index}{{fill:%(s{index})s;stroke:%(s{index})s}}.l{index}{{fill:none;stroke:%(s{index})s;stroke-width:2}}"
    for index in range(len(SERIES))
)
PRINT_CSS = (STYLE + SERIES_STYLE) % {**LIGHT, **{f"s{index}": colour for index, colour in enumerate(SERIES)}}
# What XML 1.0 does not allow in a document, however it is escaped.
_ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

Scale = Callable[[float], float]


class Canvas:
    """An SVG drawing `width` × `height` px; coordinates grow right and down."""

    def __init__(self, width: float, height: float, title: str, description: str) -> None:
        self.width, self.height = width, height
        self.root = ElementTree.Element(
            "svg",
            {"viewBox": f"0 0 {width:g} {height:g}", "width": f"{width:g}", "height": f"{height:g}", "role": "img"},
        )
        # One accessible name: what the picture shows, and what it says.
        self.root.set("aria-label", legal(f"{title}. {description}"))
        self.parent = self.root

    def add(self, tag: str, css: str = "", **attributes: object) -> ElementTree.Element:
        """Append an element; numbers are written short, underscores in names become hyphens."""
        element = ElementTree.SubElement(self.parent, tag)
        if css:
            element.set("class", css)
        for name, value in attributes.items():
            written = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else legal(str(value))
            element.set(name.replace("_", "-"), written)
        return element

    def text(self, x: float, y: float, words: str, css: str = "", anchor: str = "start") -> None:
        """Write words with their baseline at y."""
        attributes = {} if anchor == "start" else {"text_anchor": anchor}
        self.add("text", css, x=float(x), y=float(y), **attributes).text = legal(words)

    def line(self, x1: float, y1: float, x2: float, y2: float, css: str = "axis") -> None:
        """A straight line."""
        self.add("line", css, x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2))

    def path(self, points: Iterable[tuple[float, float]], css: str, closed: bool = False) -> None:
        """A polyline, closed to a polygon on demand."""
        steps = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        self.add("path", css, d=f"M{steps}{'Z' if closed else ''}")

    def mark(self, x: float, y: float, shape: str, css: str, tooltip: str = "", key: str = "") -> None:
        """A data point: `circle`, `point` (a small circle), `square`, `triangle`, `diamond`, `cross`, `plus` or `star`.

        key -- names its row
        """
        # A rim of the paper's colour keeps marks apart that lie on one another.
        css += " dot" if css[:1] == "s" else ""
        element = self.add("path", css, d=_SHAPES[shape], transform=f"translate({x:.1f} {y:.1f})")
        if key:
            element.set("data-row", key)
        if tooltip:
            ElementTree.SubElement(element, "title").text = legal(tooltip)

    def svg(self, css: str = "", caption: str = "") -> str:
        """The drawing as text; with `css` it stands alone, its caption written below."""
        if css:
            self.text(4, self.height + 14, clipped(caption, self.width - 8, 5.9), "small soft")
            self.root.set("height", f"{self.height + 22:g}")
            self.root.set("viewBox", f"0 0 {self.width:g} {self.height + 22:g}")
            self.root.set("xmlns", "http://www.w3.org/2000/svg")
            style = ElementTree.Element("style")
            style.text = css
            self.root.insert(0, style)
        return ElementTree.tostring(self.root, encoding="unicode")


_SHAPES = {
    "circle": "M-5 0A5 5 0 1 0 5 0A5 5 0 1 0 -5 0Z",
    "point": "M-3 0A3 3 0 1 0 3 0A3 3 0 1 0 -3 0Z",
    "square": "M-4.5 -4.5H4.5V4.5H-4.5Z",
    "triangle": "M0 -5.5L5.2 4H-5.2Z",
    "diamond": "M0 -6L6 0L0 6L-6 0Z",
    "cross": "M-4.5 -4.5L4.5 4.5M4.5 -4.5L-4.5 4.5",
    "plus": "M-6 0H6M0 -6V6",
    "star": "M0 -6L1.6 -1.9H6L2.5 0.9L3.8 5.2L0 2.6L-3.8 5.2L-2.5 0.9L-6 -1.9H-1.6Z",
}


def legal(words: str) -> str:
    """The words without the control characters that no XML document may hold."""
    return _ILLEGAL.sub("\N{REPLACEMENT CHARACTER}", words)


def clipped(words: str, width_px: float, letter_px: float = 6.6) -> str:
    """The words, cut with an ellipsis to about `width_px`."""
    letters = max(3, int(width_px / letter_px))
    return words if len(words) <= letters else f"{words[: letters - 1]}…"


def scale(low: float, high: float, start: float, end: float, log: bool = False) -> Scale:
    """A function from [low, high] to [start, end] px, linear or logarithmic; an empty range maps to the middle."""
    first, last = (math.log(low), math.log(high)) if log else (low, high)
    if last <= first:
        return lambda value: (start + end) / 2
    return lambda value: start + ((math.log(value) if log else value) - first) / (last - first) * (end - start)


def linear_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round values (1, 2, 2.5 or 5 times a power of ten) within [low, high]."""
    if high <= low:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough)
    return [step * index for index in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2, 5 times powers of ten within [low, high]; round linear values where the range is under a factor of 4."""
    if high / low < 4:
        return linear_ticks(low, high)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [
        tick for power in powers for tick in (1 * 10.0**power, 2 * 10.0**power, 5 * 10.0**power) if low <= tick <= high
    ]
