"""From a matplotlib figure to inline SVG that follows the page's colours, light, dark and in print.

This room knows ink, palette and markup. It must not know metrics, records or what a figure shows.
"""

from __future__ import annotations

import io
import re
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from markupsafe import Markup, escape
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from snellen.core.letters import reveal

# Every colour is drawn as a fixed value and leaves as a CSS variable with that value as its fallback.
INK, MUTED, RULE, PAPER, ON_FILL, HEAT = "#1b1e23", "#5b626c", "#d5d8dd", "#fdfdfc", "#fefefe", "#0b4f8a"
# Okabe and Ito (2008) without yellow, which is illegible on white; the dark page has lighter relatives.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
DASHES: tuple[str | tuple[int, tuple[float, ...]], ...] = (
    "-",
    (0, (5, 1.5)),
    (0, (1.5, 1.2)),
    (0, (6, 1.5, 1.5, 1.5)),
)
# Room for row labels left of an axis.
LABEL_IN = 1.45
MARKERS = ("o", "s", "^", "D", "v", "P")

_VARIABLES = {INK: "ink", MUTED: "muted", RULE: "rule", PAPER: "paper", ON_FILL: "on-fill", HEAT: "heat"} | {
    colour: f"s{number}" for number, colour in enumerate(SERIES, 1)
}
_RC = {
    "svg.fonttype": "none",
    "svg.hashsalt": "snellen",
    "text.parse_math": False,
    "axes.unicode_minus": False,
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.labelpad": 5.0,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "legend.fontsize": 9,
}


@dataclass(frozen=True)
class Drawing:
    """Inline SVG. `key` is unique on a page; `description` says in words what there is to see."""

    key: str
    title: str
    description: str
    svg: Markup


@contextmanager
def drawing_style() -> Iterator[None]:
    """All drawing happens inside: the user's own matplotlib settings stay out and come back after."""
    with style.context(["default", _RC]), warnings.catch_warnings():
        # The browser sets the type, so a letter that matplotlib's own font lacks is no loss.
        warnings.filterwarnings("ignore", message=r"Glyph \d+")
        yield


def new_figure(width_in: float, height_in: float) -> Figure:
    """A figure without background, to be filled by absolute axes in inches, see `add_axes`."""
    figure = Figure(figsize=(width_in, height_in))
    FigureCanvasSVG(figure)
    figure.patch.set_visible(False)
    return figure


def add_axes(figure: Figure, left_in: float, bottom_in: float, width_in: float, height_in: float) -> Axes:
    """Axes at a place in inches, without background."""
    full_width, full_height = figure.get_size_inches()
    box = (left_in / full_width, bottom_in / full_height, width_in / full_width, height_in / full_height)
    axes = figure.add_axes(box)
    axes.patch.set_visible(False)
    return axes


def series_style(number: int) -> tuple[str, str | tuple[int, tuple[float, ...]], str]:
    """Colour, dash and marker of the `number`-th series: neighbours differ in all three."""
    turn = number // len(SERIES)
    return SERIES[number % len(SERIES)], DASHES[(number + turn) % len(DASHES)], MARKERS[number % len(MARKERS)]


def wrap(text: str, width: int, max_lines: int = 3) -> list[str]:
    """`text` in lines of `width` characters at most; what does not fit ends in an ellipsis."""
    lines = textwrap.wrap(text, width, max_lines=max_lines, placeholder=" …", break_on_hyphens=True)
    return lines or [text[:width]]


def shorten(text: str, width: int) -> str:
    """`text` in `width` characters at most."""
    return text if len(text) <= width else text[: width - 1].rstrip() + "…"


def write_row_labels(axes: Axes, positions: Sequence[float], labels: Sequence[str]) -> None:
    """Labels in the `LABEL_IN` left of the y axis, smaller where a word is long.

    Each line of text is set by itself, so that it stays flush right in any font.
    """
    longest = max((len(word) for label in labels for word in label.split()), default=0)
    width, size = (18, 9.0) if longest <= 18 else (22, 7.6)
    axes.set_yticks(list(positions), [""] * len(positions))
    axes.tick_params(axis="y", length=0)
    for position, label in zip(positions, labels, strict=True):
        lines = wrap(label, width)
        for row, line in enumerate(lines):
            shift = ((len(lines) - 1) / 2 - row) * 1.15 * size
            axes.annotate(
                line,
                (0, position),
                (-7, shift),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                ha="right",
                va="center_baseline",
                annotation_clip=False,
                fontsize=size,
            )


def to_drawing(figure: Figure, key: str, title: str, description: str) -> Drawing:
    """The figure as SVG with accessible name and description; equal figures give equal bytes."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = buffer.getvalue()
    body = svg[svg.index(">", svg.index("<svg")) + 1 : svg.rindex("</svg>")]
    body = re.sub(r"<style.*?</style>", "", body, flags=re.DOTALL)
    body = _with_own_ids(_with_page_colours(body), key)
    body = re.sub(r"\s*\n\s*", "\n", body)
    width, height = (72 * float(side) for side in figure.get_size_inches())
    head = (
        f'<svg class="plot" role="img" viewBox="0 0 {width:g} {height:g}" style="--w:{width:g}" '
        f'aria-labelledby="{key}-title {key}-desc">'
        f'<title id="{key}-title">{escape(title)}</title><desc id="{key}-desc">{escape(description)}</desc>'
    )
    # matplotlib escapes what it writes, the head is escaped above.
    return Drawing(key, title, description, Markup(reveal(head + body) + "</svg>"))  # noqa: S704


def _with_own_ids(body: str, key: str) -> str:
    """Ids that something refers to get the figure's key in front; the others go."""
    body = body.replace("xlink:href", "href")
    used = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', body))
    names = {name for pair in used for name in pair if name}
    body = re.sub(r' id="([^"]+)"', lambda found: f' id="{key}-{found[1]}"' if found[1] in names else "", body)
    return re.sub(r'(href="#|url\(#)', rf"\g<1>{key}-", body)


def _with_page_colours(body: str) -> str:
    """Fixed colours become CSS variables; the page's font replaces matplotlib's."""
    body = re.sub(r" font-family: [^;\"]*sans-serif;?", "", body)
    for colour, name in _VARIABLES.items():
        body = body.replace(f": {colour}", f": var(--{name},{colour})")
    return body
