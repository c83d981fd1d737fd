"""One look for all figures, and how they follow the reader's light or dark theme.

Figures are drawn in the colours of the light theme. In the report their SVG stands inline with each of those
colours replaced by the CSS variable of the same role, so one drawing serves both themes and print.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Role -> colour in the light theme; the dark theme's stand in templates/style.css under the same names.
# Series colours: Okabe and Ito's palette, darkened to 3:1 on white; told apart by line style and marker too.
COLOURS = {
    "ink": "#1b1f24",
    "muted": "#5a6470",
    "rule": "#d5dae0",
    "paper": "#fefefe",
    "series-1": "#0b62a8",
    "series-2": "#c2560c",
    "series-3": "#08795a",
    "series-4": "#8a3f86",
    "fill-1": "#c9dff2",
    "fill-2": "#f6dcc7",
}
SERIES = ("series-1", "series-2", "series-3", "series-4")
LINES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D")

_RC: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "text.color": COLOURS["ink"],
    "axes.labelcolor": COLOURS["ink"],
    "axes.edgecolor": COLOURS["muted"],
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": COLOURS["rule"],
    "grid.linewidth": 0.6,
    "xtick.color": COLOURS["muted"],
    "ytick.color": COLOURS["muted"],
    "xtick.labelcolor": COLOURS["ink"],
    "ytick.labelcolor": COLOURS["ink"],
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.facecolor": COLOURS["paper"],
    # A class may be called "$x$".
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "gcsam-med",
    "lines.linewidth": 1.6,
}


@contextmanager
def look() -> Iterator[None]:
    """Draw within this context with the style of all figures, whatever the matplotlibrc of the user says."""
    from matplotlib import style

    with style.context(_RC, after_reset=True):
        yield


def new_figure(width: float = 5.2, height: float = 3.6) -> tuple[Figure, Axes]:
    """Return an empty figure (inches) with one pair of axes, bound to no window system."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def label(text: str, longest: int = 28) -> str:
    """Return a name as a figure has room for it."""
    return text if len(text) <= longest else f"{text[: longest - 3].rstrip()}..."


def to_svg(figure: Figure) -> str:
    """Return a figure as an SVG document, the same for the same data."""
    with look():
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()


def to_png(figure: Figure, dpi: int = 200) -> bytes:
    """Return a figure as PNG."""
    with look():
        data = io.BytesIO()
        figure.savefig(data, format="png", dpi=dpi, metadata={"Software": None})
    return data.getvalue()


def inline_svg(svg: str, prefix: str, title: str, description: str, *, themed: bool = True) -> str:
    """Make an SVG document of `to_svg` fit to stand inside a page: one ``<svg role="img">``.

    It has no size, background or metadata. `prefix` (letters, digits and dashes) is put before every id, so
    that figures of one page do not share any; `title` and `description` are for those who cannot see it, and
    escaped here. With `themed` colours and font become CSS variables; off for PDF, whose maker knows none
    inside SVG.
    """
    from html import escape

    svg = svg[svg.index("<svg") :]
    # matplotlib's <style> would hold for the whole page.
    svg = re.sub(r"<(metadata|style)\b.*?</\1>", "", svg, flags=re.DOTALL)
    # The figure's background is the page's.
    svg = re.sub(r'(<g id="patch_1">\s*<path [^>]*style=")fill: #[0-9a-f]{6}', r"\1fill: none", svg, count=1)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', svg)
    svg = re.sub(r'xlink:href="#([^"]+)"', rf'href="#{prefix}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", svg)
    if themed:
        for role, colour in COLOURS.items():
            svg = svg.replace(colour, f"var(--{role})")
        # Text is text: let the page's own font set it.
        svg = re.sub(r"'DejaVu Sans'[^;\"]*", "var(--figure-font)", svg)
    box = re.search(r'viewBox="([^"]+)"', svg)
    head = svg[: svg.index(">") + 1]
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box.group(1) if box else "0 0 100 100"}" '
        f'role="img" aria-labelledby="{prefix}-title {prefix}-desc">'
        f'<title id="{prefix}-title">{escape(title)}</title>'
        f'<desc id="{prefix}-desc">{escape(description)}</desc>'
    )
    return svg.replace(head, opening, 1)


@dataclass(frozen=True)
class Drawn:
    """A figure, drawn."""

    key: str  #: File name without ending.
    title: str  #: Heading.
    caption: str  #: How to read it.
    words: str  #: What it shows, for those who cannot see it.
    svg: str  #: An SVG document.
    png: bytes  #: The same as PNG, 200 dpi.

    @classmethod
    def of(cls, figure: Figure, key: str, title: str, caption: str, words: str) -> Drawn:
        """Draw a matplotlib figure as SVG and PNG."""
        with look():
            if engine := figure.get_layout_engine():
                engine.execute(figure)
            figure.set_layout_engine(None)  # everything has its place now; to find it anew costs a half more
        return cls(key, title, caption, words, to_svg(figure), to_png(figure))

    def inline(self, *, themed: bool = True) -> dict[str, Any]:
        """Return title, caption and an SVG that may stand in a page; see `inline_svg`."""
        from markupsafe import Markup

        prefix = self.key.replace("_", "-")
        svg = inline_svg(self.svg, f"fig-{prefix}", self.title, self.words, themed=themed)
        # Drawn by matplotlib, which escapes text; title and description are escaped by inline_svg.
        return {"title": self.title, "caption": self.caption, "svg": Markup(svg)}  # noqa: S704
