"""Pages from Jinja templates: each is one self-contained file that needs no network and no script.

The prose stands in ``templates/``; the templates read a `Report`, a `Comparison` or an audit as it is.
"""

from __future__ import annotations

import base64
import io
import os
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from gcsam_med import __version__
from gcsam_med.config import Language
from gcsam_med.metrics.table import METRICS, shown_in
from gcsam_med.reporting import plain_words, text
from gcsam_med.reporting.comparison import CentreStudy, Comparison
from gcsam_med.reporting.report import Exhibit, Notice, Report
from gcsam_med.reporting.style import Drawn

if TYPE_CHECKING:
    import pandas as pd
    from jinja2 import Environment

WARNINGS_SHOWN = 3  # in the summary; the others get a section
PREDICTIONS_SHOWN = 500
THUMBNAIL = 240  # pixels of a thumbnail's longer side


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Return the templates' environment, whose filters write numbers as the reports do."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("gcsam_med.reporting", "templates"),
        # Everything is escaped but what is Markup: our own style sheet and SVG.
        autoescape=True,
        undefined=StrictUndefined,
        extensions=["jinja2.ext.do"],
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "arm": text.readable_arm,
        "settings": text.settings,
        "as_records": _as_records,
        "brief": text.brief,
        "by_kind": _by_kind,
        "by_method": text.by_method,
        "case_table": _case_table,
        "columns": text.columns_of,
        "counted": text.count,
        "estimate": text.estimate_text,
        "extract": lambda key, mapping: mapping[key],
        "flat": text.flat,
        "heading": text.heading,
        "headline": text.headline,
        "interval": text.interval,
        "jpeg": jpeg,
        "metric": lambda key, task: METRICS[task][key],
        "number": text.number,
        "p": text.p_text,
        "plain": text.plain_value,
        "sentence": text.sentence,
        "signed": text.signed,
        "spread": text.spread,
        "stacked": text.stacked,
        "value": text.value,
    }
    made.globals |= {"arm_name": text.arm_name, "pair_name": text.pair_name, "shown_in": shown_in}
    return made


def render(template: str, context: Mapping[str, Any]) -> str:
    """Fill in a template of ``templates/``; the style sheet and the version are added."""
    from markupsafe import Markup

    css = (files("gcsam_med.reporting") / "templates" / "style.css").read_text(encoding="utf-8")
    # Our own file, no one else's text.
    return environment().get_template(template).render(css=Markup(css), version=__version__, **context)  # noqa: S704


def jpeg(image: np.ndarray) -> str:
    """Encode uint8 (H, W) or (H, W, 3) as a ``data:`` address of a JPEG."""
    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(image).save(data, format="JPEG", quality=88, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode("ascii")


def report_html(
    report: Report, drawn: Sequence[Drawn], *, themed: bool = True, language: Language = "en"
) -> str:
    """Write ``report.html`` from a report and its figures.

    With `themed` figures follow the reader's light or dark theme; off for PDF. `language` is that of the half
    page in plain words; the rest is in English.
    """
    from gcsam_med.optim import OPTIMIZERS  # brings torch, which the page of a data set does without

    context = {
        "report": report,
        "model": report.model,
        "data": report.data,
        "method": OPTIMIZERS.get(report.model.optimizer),
        "drawn": {d.key: d.inline(themed=themed) for d in drawn},
        "plain_words": plain_words.of_report(report, language),
        **_notices(report.notices),
    }
    page = render("report.html.j2", context)
    target = report.data.mask_target
    if report.task == "segmentation" and target != "lesion" and not _LESION.search(_words_of_data(report)):
        # The words of metrics, notices and figures speak of lesions; these masks outline something else.
        page = re.sub(r"\blesion(s?)\b", rf"{target}\1", page)
        page = re.sub(r"\bLesion(s?)\b", rf"{target.capitalize()}\1", page)
    return page


_LESION = re.compile(r"\blesions?\b", re.IGNORECASE)


def _words_of_data(report: Report) -> str:
    """Names and values that came with the data; none of them may be changed on the page."""
    columns = [f"{part.column} {part.value}" for part in report.subgroups]
    cells = report.cases.to_csv(index=False, header=False)
    return " ".join(
        [report.data.name, report.data.title, report.model.run, report.model.trained_on, *columns, cells]
    )


def comparison_html(
    comparison: Comparison, drawn: Sequence[Drawn], folder: Path | None = None, *, language: Language = "en"
) -> str:
    """Write ``comparison.html``; see `report_html`. It links to the runs' reports if `folder` is its own."""
    title = METRICS[comparison.task][comparison.main_metric].title
    context = {
        "comparison": comparison,
        "drawn": {d.key: d.inline() for d in drawn},
        "plain_words": plain_words.of_comparison(comparison, title, language),
        "reports": {} if folder is None else _report_links(comparison, folder),
        **_notices(comparison.notices),
    }
    return render("comparison.html.j2", context)


def centres_html(study: CentreStudy, drawn: Sequence[Drawn]) -> str:
    """Write the page of a study that leaves out one centre after another."""
    return render("centres.html.j2", {"study": study, "drawn": {d.key: d.inline() for d in drawn}})


def _report_links(comparison: Comparison, folder: Path) -> dict[str, str]:
    """Addresses of the runs' reports relative to the comparison, where there are any."""
    pages = {
        name: root / "evaluation" / comparison.split / "report.html"
        for name, root in comparison.folders.items()
    }
    return {
        name: quote(Path(os.path.relpath(page.resolve(), folder.resolve())).as_posix())
        for name, page in pages.items()
        if page.is_file()
    }


def predictions_html(
    rows: Sequence[Mapping[str, Any]], settings: Mapping[str, Any], thumbnails: Mapping[str, np.ndarray]
) -> str:
    """Write ``predictions.html``, which stands beside the masks.

    `rows` are as in ``predictions.csv`` (only `rows_shown` of them are shown), `settings` as in
    ``predictions.json``; `thumbnails` are, by a row's ``name``, its image with the outline, uint8.
    """
    context = {
        "rows": rows_shown(rows),
        "n_rows": len(rows),
        "settings": settings,
        "thumbnails": thumbnails,
    }
    return render("predictions.html.j2", context)


def rows_shown(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the rows that ``predictions.html`` has room for: flagged ones first, then in their order."""
    return sorted(rows, key=lambda row: not row["flags"])[:PREDICTIONS_SHOWN]


def thumbnail(image: np.ndarray, side: int = THUMBNAIL) -> np.ndarray:
    """Shrink uint8 (H, W) or (H, W, 3) so that its longer side is at most `side` pixels."""
    from PIL import Image

    small = Image.fromarray(image)
    small.thumbnail((side, side))
    return np.asarray(small)


def _notices(notices: Sequence[Notice]) -> dict[str, list[Notice]]:
    """Sort the warnings: those of the summary, the research notice last; and those it has no room for."""
    research = [n for n in notices if n.key == "research-only"]
    others = [n for n in notices if n.key != "research-only"]
    return {
        "notices": others[:WARNINGS_SHOWN] + research,
        "more_notices": others[WARNINGS_SHOWN:],
        "stamps": [n for n in notices if n.stamp],
    }


def _as_records(values: Sequence[Any], name: str) -> list[Mapping[str, Any]]:
    """Return a list as mappings: what is none becomes the one entry `name` of one."""
    return [value if isinstance(value, Mapping) else {name: value} for value in values]


def _by_kind(gallery: Sequence[Exhibit]) -> list[tuple[str, list[Exhibit]]]:
    """Group the pictures by kind, in the order in which kinds come first."""
    return [(kind, [e for e in gallery if e.kind == kind]) for kind in dict.fromkeys(e.kind for e in gallery)]


def _case_table(cases: pd.DataFrame) -> tuple[list[str], str, list[list[str]]]:
    """Return titles, kinds (see ``macros.html.j2``) and cells of the table of all cases."""
    hidden = ("hd", "assd", "specificity", "area_unit", "distance_unit", "correct")
    shown = [c for c in cases.columns if c not in hidden]
    kinds = "".join("n" if cases[c].dtype.kind in "fi" else "t" for c in shown)
    columns = [
        [text.number(v) if isinstance(v, float) else "–" if v is None else str(v) for v in cases[c].tolist()]
        for c in shown
    ]
    units = {"hd95": "distance_unit", "area_truth": "area_unit", "area_predicted": "area_unit"}
    titles = [
        c.replace("_", " ") + (f" ({cases[units[c]].iloc[0]})" if c in units and len(cases) else "")
        for c in shown
    ]
    return titles, kinds, [list(row) for row in zip(*columns, strict=True)]
