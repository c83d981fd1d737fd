"""Sections on what was found: figures of merit, threshold, calibration, subgroups, failures."""

from __future__ import annotations

from collections.abc import Mapping

from gcsam_med.reporting.names import in_order, metric_name
from gcsam_med.reporting.page import (
    Column,
    PageExhibit,
    PageFigure,
    Part,
    Row,
    Table,
    exhibit_jpeg,
)
from gcsam_med.reporting.report import Estimates, Report
from gcsam_med.reporting.text import count, interval, number

TRUTH_COLOUR, PREDICTION_COLOUR = "#2bb3e6", "#ff9f1c"

Figures = Mapping[str, PageFigure]


def pick(figures: Figures, *keys: str) -> list[PageFigure]:
    """Return those figures that there are."""
    return [figures[key] for key in keys if key in figures]


def results(report: Report, figures: Figures) -> list[Part]:
    """Figures of all cases and of each class."""
    parts = [Part(table=_metrics_table(report, report.metrics, "All cases", report.main_metric))]
    keys = ("dice", "size_dice", "bland_altman", "roc", "pr", "confusion", "scores")
    parts.append(Part(figures=pick(figures, *keys)))
    named = {name: values for name, values in report.per_class.items() if values}
    # Of two classes the table above says all there is.
    if len(named) > (2 if report.task == "classification" else 0):
        parts.append(Part("By class", table=_by_class_table(report, named)))
    return parts


def _metrics_table(report: Report, estimates: Estimates, caption: str, main: str = "") -> Table:
    rows = []
    for key in in_order(list(estimates)):
        name, estimate = metric_name(key, report.task), estimates[key]
        unit = unit_text(report, name.unit)
        tone = "main" if key == main else ("dim" if estimate.value is None else "")
        method = estimate.reason if estimate.ci95 is None else estimate.method
        cells = [name.title + unit, number(estimate.value), interval(estimate), f"{estimate.n:,}", method]
        rows.append(Row(cells, tone))
    columns = [
        Column("Figure"),
        Column("Value", numeric=True),
        Column("95 % interval", numeric=True),
        Column("n", numeric=True),
        Column("How the interval was made"),
    ]
    return Table(caption, columns, rows)


def unit_text(report: Report, unit: str) -> str:
    """Return a unit in brackets, for a heading."""
    measured = str(report.policy.get("distance_unit", "px"))
    if unit == "distance":
        return f" ({measured})"
    if unit == "tolerance":
        return f" (within {report.policy.get('nsd_tolerance'):g} {measured})"
    if unit == "area":
        return f" ({measured}²)"
    return ""


def _by_class_table(report: Report, named: Mapping[str, Estimates]) -> Table:
    keys = [
        key
        for key in in_order(list(next(iter(named.values()))))
        if any(values[key].value is not None for values in named.values())
    ]
    columns = [
        Column("Figure"),
        *(Column(f"{name} ({report.data.classes.get(name, 0)})", whole=True) for name in named),
    ]
    rows = []
    for key in keys:
        cells = [metric_name(key, report.task).title]
        cells += [_value_interval(values, key) for values in named.values()]
        rows.append(Row(cells))
    return Table("Value and 95 % interval, by class", columns, rows)


def _value_interval(estimates: Estimates, key: str) -> str:
    estimate = estimates[key]
    if estimate.ci95 is None:
        return number(estimate.value)
    return f"{number(estimate.value)} ({interval(estimate)})"


def _stacked(estimates: Estimates, key: str) -> str:
    """Write a figure above its interval, for tables of many columns."""
    estimate = estimates[key]
    return number(estimate.value) + (f"\n{interval(estimate)}" if estimate.ci95 else "")


def operating_point(report: Report, figures: Figures) -> list[Part]:
    """The threshold, where it comes from and how it transfers."""
    operating = report.operating
    if not operating.transfer:
        return []
    where = {
        "validation": f"It was chosen on {count(operating.n, 'validation case')} and on nothing else: "
        f"{operating.rule}.",
        "given": "It was given by the user; how it was chosen is for the author to state.",
        "default": f"It was not chosen: {operating.reason}.",
    }[operating.chosen_on]
    what = "a pixel is foreground" if report.task == "segmentation" else "a case is called positive"
    keys = list(next(iter(operating.transfer.values())))
    columns = [Column("Where"), *(Column(metric_name(k, "classification").title, numeric=True) for k in keys)]
    rows = [
        Row([where_, *(number(values[k]) for k in keys)]) for where_, values in operating.transfer.items()
    ]
    table = Table("What the threshold gives where it was chosen and where it is used", columns, rows)
    text = f"From a probability of {operating.threshold:.3f} on, {what}. {where}"
    return [Part(paragraphs=[text], table=table), Part(figures=pick(figures, "threshold"))]


def calibration_section(report: Report, figures: Figures) -> list[Part]:
    """Probabilities before and after temperature scaling; the decision curve."""
    calibration = report.calibration
    if calibration is None:
        return []
    if calibration.temperature is None:
        text = f"No temperature was fitted: {calibration.reason}."
    else:
        sure = "too sure" if calibration.temperature > 1 else "not sure enough"
        text = (
            f"A temperature of {calibration.temperature:.3f} was fitted on validation (the network was "
            f"{sure} there). Whether that helps is seen on these cases, which took no part in fitting. All "
            "other figures use the probabilities as the network gives them."
        )
    columns = [
        Column("Figure"),
        Column("As the network gives them", whole=True),
        Column("After temperature scaling", whole=True),
    ]
    rows = [
        Row(
            [
                metric_name(key).title,
                _value_interval(calibration.before, key),
                _value_interval(calibration.after, key) if calibration.after else "–",
            ]
        )
        for key in calibration.before
    ]
    table = Table("Calibration on the examined cases; lower is better", columns, rows)
    return [Part(paragraphs=[text], table=table), Part(figures=pick(figures, "calibration", "decision"))]


def subgroups_section(report: Report, figures: Figures) -> list[Part]:
    """Figures by attribute."""
    if not report.subgroups:
        return []
    keys = [
        k
        for k in report.subgroups[0].estimates
        if any(p.estimates[k].value is not None for p in report.subgroups)
    ]
    columns = [
        Column("Attribute"),
        Column("Value"),
        Column("Cases", numeric=True),
        Column("Groups", numeric=True),
        *(Column(metric_name(k, report.task).title, whole=True) for k in keys),
    ]
    rows = [
        Row(
            [
                p.column,
                p.value,
                f"{p.n:,}",
                f"{p.n_groups:,}",
                *(_stacked(p.estimates, k) for k in keys),
            ],
            "dim" if p.small else "",
        )
        for p in report.subgroups
    ]
    text = (
        "Subgroups were not planned and not corrected for their number: with twenty intervals, one is "
        "expected to miss. Grey rows rest on fewer than 10 cases."
    )
    caption = "Value and 95 % interval, by subgroup"
    return [
        Part(paragraphs=[text], figures=pick(figures, "subgroups")),
        Part(table=Table(caption, columns, rows)),
    ]


def postprocessing_section(report: Report, figures: Figures) -> list[Part]:
    """What options of predict would do."""
    del figures
    if not report.postprocessing:
        return []
    keys = list(next(iter(report.postprocessing.values())))
    columns = [
        Column("Option of predict"),
        *(Column(metric_name(k, report.task).title, whole=True) for k in keys),
    ]
    rows = [Row(["none (all other figures)", *(_stacked(report.metrics, k) for k in keys)])]
    rows += [
        Row([name, *(_stacked(values, k) for k in keys)]) for name, values in report.postprocessing.items()
    ]
    text = (
        "What each option would have done on these cases. Choosing one by this table would be "
        "choosing on test."
    )
    return [Part(paragraphs=[text], table=Table("Effect of post-processing", columns, rows))]


def gallery_section(report: Report, figures: Figures) -> list[Part]:
    """Pictures of failures and successes."""
    del figures
    if not report.gallery:
        return []
    text = (
        "Chosen by their figures alone, before anyone looked. Pictures may hold burnt-in text: check before "
        "you share."
    )
    if report.task == "classification":
        text += (
            " Beside each image, Grad-CAM: where it is bright, the image speaks for the called class. It "
            "shows where the network looked, not why, and not whether it was right to."
        )
    parts: list[Part] = [Part(paragraphs=[text])]
    for kind in dict.fromkeys(e.kind for e in report.gallery):
        shown = [e for e in report.gallery if e.kind == kind]
        parts.append(
            Part(
                kind,
                exhibits=[
                    PageExhibit(
                        f"{e.case_id} ({e.label})" if e.label else e.case_id,
                        e.caption,
                        e.alt,
                        exhibit_jpeg(e.image),
                        e.image.shape[1],
                        e.image.shape[0],
                    )
                    for e in shown
                ],
                key=[("truth", TRUTH_COLOUR, False), ("prediction", PREDICTION_COLOUR, True)]
                if report.task == "segmentation" and len(parts) == 1
                else [],
                wide=report.task == "classification",
            )
        )
    return parts
