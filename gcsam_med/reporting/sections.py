"""The sections of an evaluation's report, in their order, from a `Report`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gcsam_med.reporting import sections_found as found
from gcsam_med.reporting import sections_origin as origin
from gcsam_med.reporting.figures import Drawn
from gcsam_med.reporting.names import metric_name
from gcsam_med.reporting.page import PageFigure, Part, Section
from gcsam_med.reporting.report import Report
from gcsam_med.reporting.sections_found import Figures, unit_text
from gcsam_med.reporting.style import inline_svg
from gcsam_med.reporting.text import count, estimate_text


def sections(report: Report, drawn: Sequence[Drawn], *, themed: bool = True) -> list[Section]:
    """Build every section the report has something to say in."""
    figures = {d.key: _figure(d, themed) for d in drawn}
    built = [
        Section(key, title, [part for part in build(report, figures) if part != Part()])
        for key, (title, build) in SECTIONS.items()
    ]
    return [section for section in built if section.parts]


def _figure(drawn: Drawn, themed: bool) -> PageFigure:
    from markupsafe import Markup

    svg = inline_svg(drawn.svg, drawn.key.replace("_", "-"), drawn.spec.title, drawn.words, themed=themed)
    # Drawn by matplotlib, which escapes text; title and description are escaped by inline_svg.
    return PageFigure(drawn.key, drawn.spec.title, drawn.spec.caption, Markup(svg))  # noqa: S704


# In the order of the page.
SECTIONS: dict[str, tuple[str, Callable[[Report, Figures], list[Part]]]] = {
    "results": ("Results", found.results),
    "threshold": ("Operating point", found.operating_point),
    "calibration": ("Calibration and usefulness", found.calibration_section),
    "subgroups": ("Subgroups", found.subgroups_section),
    "gallery": ("Failures and successes", found.gallery_section),
    "postprocessing": ("Post-processing", found.postprocessing_section),
    "cases": ("Cases", origin.cases_section),
    "data": ("Data", origin.data_section),
    "training": ("Training and environment", origin.training_section),
    "sharpness": ("Sharpness of the minimum", origin.sharpness_section),
    "policies": ("How the figures were taken", origin.policies_section),
    "ledger": ("Looks at this split", origin.ledger_section),
    "methods": ("Methods paragraph", origin.methods_section),
    "checklist": ("Reporting checklist", origin.checklist_section),
}


def summary_facts(report: Report) -> list[tuple[str, str]]:
    """Return the summary box's facts: model, data, numbers, threshold, and two or three more figures."""
    material, subject = report.data, report.model
    unit = ("patient", "patients") if material.group_kind == "patient" else ("group", "groups")
    groups = count(material.n_groups, *unit)
    joint = "of" if material.group_kind == "patient" else "in"
    facts = [
        ("Model", f"{subject.network} trained with {subject.optimizer} on {subject.trained_on}"),
        ("Data", f"{material.title}, {material.split} split" + (" (external)" if material.external else "")),
        ("Cases", f"{count(material.n_cases, 'image')} {joint} {groups}"),
        ("Classes", ", ".join(f"{name} {n:,}" for name, n in material.classes.items())),
    ]
    if report.task == "segmentation":
        shown: tuple[str, ...] = ("hd95", "lesion_sensitivity", "missed_cases", "false_positives_per_normal")
    elif len(material.classes) == 2:
        shown = ("sensitivity", "specificity", "auprc", "ece")
    else:
        shown = ("accuracy", "auc", "ece")
    for key in shown:
        estimate = report.metrics.get(key)
        if estimate is not None and estimate.value is not None:
            name = metric_name(key, report.task)
            facts.append((name.title + unit_text(report, name.unit), estimate_text(estimate)))
    return facts
