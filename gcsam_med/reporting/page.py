"""The parts a page is made of. Templates only lay them out; all words and numbers come from here."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from gcsam_med import __version__

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup


@dataclass(frozen=True)
class Column:
    """A column's title, whether its cells stand to the right, and whether their lines stay whole."""

    title: str
    numeric: bool = False
    whole: bool = False


@dataclass(frozen=True)
class Row:
    """A row's cells; ``tone`` is ``main`` (bold), ``dim`` (grey) or empty."""

    cells: Sequence[str]
    tone: str = ""


@dataclass(frozen=True)
class Table:
    """A table with its caption."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Row]


@dataclass(frozen=True)
class PageFigure:
    """A drawing that stands inline."""

    key: str
    title: str
    caption: str
    svg: Markup


@dataclass(frozen=True)
class PageExhibit:
    """A picture with its caption; ``data`` is a JPEG in base64."""

    title: str
    caption: str
    alt: str
    data: str
    width: int
    height: int


@dataclass(frozen=True)
class Part:
    """A part of a section; what is empty is left out."""

    heading: str = ""
    paragraphs: Sequence[str] = ()
    quote: Sequence[str] = ()
    items: Sequence[str] = ()
    facts: Sequence[tuple[str, str]] = ()
    table: Table | None = None
    folded: str = ""
    figures: Sequence[PageFigure] = ()
    exhibits: Sequence[PageExhibit] = ()
    key: Sequence[tuple[str, str, bool]] = ()
    wide: bool = False


@dataclass(frozen=True)
class Section:
    """A section with its heading; ``key`` is its address on the page."""

    key: str
    title: str
    parts: Sequence[Part] = field(default_factory=list)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("gcsam_med.reporting", "templates"),
        # Everything is escaped but what is Markup: our own SVG.
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: str, context: Mapping[str, Any]) -> str:
    """Fill a template of ``templates/`` in; the house's style sheet and version are added."""
    from markupsafe import Markup

    css = (files("gcsam_med.reporting") / "templates" / "style.css").read_text(encoding="utf-8")
    # Our own file, no one else's text.
    return _environment().get_template(template).render(css=Markup(css), version=__version__, **context)  # noqa: S704


def exhibit_jpeg(image: np.ndarray) -> str:
    """Encode uint8 (H, W, 3) as JPEG in base64."""
    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(image).save(data, format="JPEG", quality=88, optimize=True)
    return base64.b64encode(data.getvalue()).decode("ascii")
