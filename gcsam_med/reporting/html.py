"""``report.html``: one self-contained file that needs no network and no script."""

from __future__ import annotations

from collections.abc import Sequence

from gcsam_med import __version__
from gcsam_med.reporting.figures import Drawn
from gcsam_med.reporting.names import metric_name
from gcsam_med.reporting.page import render
from gcsam_med.reporting.report import Notice, Report
from gcsam_med.reporting.sections import sections, summary_facts
from gcsam_med.reporting.text import count, estimate_text, interval, number

WARNINGS_SHOWN = 3


def report_html(report: Report, drawn: Sequence[Drawn], *, themed: bool = True) -> str:
    """Write a report as one HTML document.

    Parameters
    ----------
    report : Report
        What was found.
    drawn : sequence of Drawn
        Its figures.
    themed : bool
        Figures follow the reader's theme; off for PDF.

    Returns
    -------
    str
        UTF-8 text of the document; all names from data are escaped.
    """
    material, subject = report.data, report.model
    main = report.metrics[report.main_metric]
    notices = [n for n in report.notices if n.key != "research-only"][:WARNINGS_SHOWN]
    context = {
        "title": f"{subject.network} on {material.title}",
        "subtitle": f"{report.task.capitalize()}, {material.split} split, run {subject.run}; evaluated "
        f"{report.created.replace('T', ' ').replace('+00:00', ' UTC')}",
        "stamps": [n.title for n in report.notices if n.stamp],
        "summary": {
            "name": metric_name(report.main_metric, report.task).title,
            "value": number(main.value),
            "interval": f"95 % CI {interval(main)}" if main.ci95 else main.reason,
            "sentence": _sentence(report),
            "facts": summary_facts(report),
            "notices": notices + [n for n in report.notices if n.key == "research-only"],
        },
        "sections": [*_notices_section(report, notices), *sections(report, drawn, themed=themed)],
        "footer": f"Made with gcsam-med {__version__}. Research software, not for clinical use.",
    }
    return render("report.html.j2", context)


def _sentence(report: Report) -> str:
    material = report.data
    name = metric_name(report.main_metric, report.task).title
    main = estimate_text(report.metrics[report.main_metric])
    if report.task == "segmentation":
        what = f"mean {name} over {count(report.metrics['dice'].n, 'lesion image')} was {main}"
    elif report.main_metric == "auc":
        negative, positive = material.classes
        what = f"the {name} of telling {positive} from {negative} was {main}"
    else:
        what = f"{name.lower()} over {count(len(material.classes), 'class', 'classes')} was {main}"
    where = "an external data set" if material.external else f"the {material.split} split"
    return f"On {count(material.n_cases, 'case')} of {where}, {what}."


def _notices_section(report: Report, shown: Sequence[Notice]) -> list[object]:
    """Return the notices that the summary box has no room for."""
    from gcsam_med.reporting.page import Part, Section

    rest = [n for n in report.notices if n not in shown and n.key != "research-only"]
    if not rest:
        return []
    return [Section("notices", "Also to know", [Part(items=[f"{n.title}. {n.text}" for n in rest])])]
