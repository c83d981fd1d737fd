"""Write a comparison's files: ``comparison.html``, ``.json`` and ``.csv``, and its figures."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from gcsam_med import __version__
from gcsam_med.metrics.estimate import Estimate
from gcsam_med.reporting.comparison import Comparison
from gcsam_med.reporting.comparison_sections import arm_name, comparison_sections, pair_name, signed
from gcsam_med.reporting.figures_comparison import Sketch, draw_comparison
from gcsam_med.reporting.metrics_json import plain
from gcsam_med.reporting.names import metric_name
from gcsam_med.reporting.output import write_files
from gcsam_med.reporting.page import PageFigure, Part, Section, render
from gcsam_med.reporting.style import inline_svg
from gcsam_med.reporting.tables import to_csv
from gcsam_med.reporting.text import count, interval, number

SCHEMA = 1
WARNINGS_SHOWN = 3


def write_comparison(comparison: Comparison, folder: Path) -> list[Path]:
    """Write all files of a comparison.

    Parameters
    ----------
    comparison : Comparison
        What was found.
    folder : Path
        Created if it is not there; files of the same names are replaced.

    Returns
    -------
    list of Path
        The files written, ``comparison.html`` first.

    Raises
    ------
    EnvironmentFault
        If the folder cannot be written to.
    """
    drawn = draw_comparison(comparison)
    content: dict[str, bytes] = {
        "comparison.html": comparison_html(comparison, drawn).encode(),
        "comparison.json": (
            json.dumps(comparison_json(comparison), indent=2, allow_nan=False) + "\n"
        ).encode(),
        "comparison.csv": comparison_csv(comparison).encode(),
    }
    for figure in drawn:
        content[f"figures/{figure.key}.svg"] = figure.svg.encode()
        content[f"figures/{figure.key}.png"] = figure.png
    return write_files(folder, content, "The comparison")


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """Return the content of ``comparison.json``: only JSON types, no NaN."""
    content = {"schema": SCHEMA, **_as_data(comparison)}
    for arm in content["arms"]:
        del arm["lines"]
    for pair, given in zip(content["pairs"], comparison.pairs, strict=True):
        pair["verdict"] = given.verdict
        pair["by_seed"] = dict(given.by_seed)
    found = plain(content)
    assert isinstance(found, dict)  # noqa: S101
    return found


def _as_data(value: Any) -> Any:
    if isinstance(value, Estimate):
        return value.to_json()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _as_data(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: _as_data(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_as_data(item) for item in value]
    return value


def comparison_csv(comparison: Comparison) -> str:
    """Return ``comparison.csv``: one row a run, its figures and its cost's arm."""
    keys = list(dict.fromkeys(k for arm in comparison.arms for k in arm.figures))
    rows = [
        [
            run,
            arm.model,
            arm.name,
            seed,
            fold,
            *(arm.figures[k].values[i] if k in arm.figures else None for k in keys),
        ]
        for arm in comparison.arms
        for i, (run, (seed, fold)) in enumerate(zip(arm.runs, arm.replicates, strict=True))
    ]
    return to_csv(["run", "model", "arm", "seed", "fold", *keys], rows)


def comparison_html(comparison: Comparison, drawn: list[Sketch]) -> str:
    """Return ``comparison.html``: one file that needs no network and no script."""
    from markupsafe import Markup

    figures = {
        d.key: PageFigure(
            # Our own drawing, its texts escaped by matplotlib and by inline_svg.
            d.key,
            d.title,
            d.caption,
            Markup(inline_svg(d.svg, f"fig-{d.key}", d.title, d.words)),  # noqa: S704
        )
        for d in drawn
    }
    notices = [n for n in comparison.notices if n.key != "research-only"]
    shown, rest = notices[:WARNINGS_SHOWN], notices[WARNINGS_SHOWN:]
    sections = comparison_sections(comparison, figures)
    if rest:
        also = Section("notices", "Also to know", [Part(items=[f"{n.title}. {n.text}" for n in rest])])
        sections.insert(0, also)
    name = metric_name(comparison.main_metric, comparison.task).title
    value, between = headline(comparison)
    context = {
        "title": f"{', '.join(dict.fromkeys(a.name for a in comparison.arms))} on {comparison.title}",
        "subtitle": f"Comparison of {comparison.task} on the {comparison.split} split; written "
        f"{comparison.created.replace('T', ' ').replace('+00:00', ' UTC')}",
        "stamps": [n.title for n in comparison.notices if n.stamp],
        "summary": {
            "name": name,
            "value": value,
            "interval": between,
            "sentence": sentence(comparison),
            "facts": [
                ("Networks", ", ".join(comparison.models)),
                ("Runs", str(sum(len(a.runs) for a in comparison.arms))),
                ("Cases", f"{comparison.n_cases:,} in {count(comparison.n_groups, 'group')}"),
                ("Data", comparison.title),
            ],
            "notices": shown + [n for n in comparison.notices if n.key == "research-only"],
        },
        "sections": sections,
        "footer": f"Made with gcsam-med {__version__}. Research software, not for clinical use.",
    }
    return render("report.html.j2", context)


def headline(comparison: Comparison) -> tuple[str, str]:
    """Return the main result in a few words, and what stands beside it in small print."""
    if not comparison.pairs:
        arm = comparison.arms[0]
        return number(arm.main.value), f"95 % CI {interval(arm.main)}"
    if not comparison.shown:
        return "no difference shown", f"between {count(len(comparison.arms), 'arm')}"
    reference = comparison.arms[0].name
    best = max(comparison.shown, key=lambda p: (p.first == reference, abs(p.difference.value or 0.0)))
    return signed(
        best.difference.value
    ), f"{pair_name(comparison, best)}, 95 % CI {interval(best.difference)}"


def sentence(comparison: Comparison) -> str:
    """Say in prose what every pair showed."""
    means = ", ".join(f"{arm_name(comparison, a)} {number(a.main.value)}" for a in comparison.arms)
    texts = [f"Means: {means}."]
    shown = comparison.shown
    for pair in shown:
        texts.append(
            f"{pair.second} was {pair.verdict} than {pair.first} by "
            f"{number(abs(pair.difference.value or 0.0))} (95 % CI {interval(pair.difference)})."
        )
    left = len(comparison.pairs) - len(shown)
    if left:
        texts.append(f"For {count(left, 'other pair' if shown else 'pair')} no difference was shown.")
    return " ".join(texts)
