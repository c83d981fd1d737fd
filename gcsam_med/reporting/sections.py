"""The sections of an evaluation's report, from a `Report`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from gcsam_med.reporting.checklist import checklist_table
from gcsam_med.reporting.figures import Drawn
from gcsam_med.reporting.methods import methods_paragraphs, references
from gcsam_med.reporting.names import in_order, metric_name
from gcsam_med.reporting.page import (
    Column,
    PageExhibit,
    PageFigure,
    Part,
    Row,
    Section,
    Table,
    exhibit_jpeg,
)
from gcsam_med.reporting.report import Estimates, Report
from gcsam_med.reporting.style import inline_svg
from gcsam_med.reporting.text import count, estimate_text, interval, number

TRUTH_COLOUR, PREDICTION_COLOUR = "#2bb3e6", "#ff9f1c"
MAX_CASES_SHOWN = 1000


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


Figures = Mapping[str, PageFigure]


def _pick(figures: Figures, *keys: str) -> list[PageFigure]:
    return [figures[key] for key in keys if key in figures]


def _results(report: Report, figures: Figures) -> list[Part]:
    parts = [Part(table=_metrics_table(report, report.metrics, "All cases", report.main_metric))]
    keys = ("dice", "size_dice", "bland_altman", "roc", "pr", "confusion", "scores")
    parts.append(Part(figures=_pick(figures, *keys)))
    named = {name: values for name, values in report.per_class.items() if values}
    # Of two classes the table above says all there is.
    if len(named) > (2 if report.task == "classification" else 0):
        parts.append(Part("By class", table=_by_class_table(report, named)))
    return parts


def _metrics_table(report: Report, estimates: Estimates, caption: str, main: str = "") -> Table:
    rows = []
    for key in in_order(list(estimates)):
        name, estimate = metric_name(key, report.task), estimates[key]
        unit = _unit(report, name.unit)
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


def _unit(report: Report, unit: str) -> str:
    measured = str(report.policy.get("distance_unit", "px"))
    if unit == "distance":
        return f" ({measured})"
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
        *(Column(f"{name} ({report.material.classes.get(name, 0)})", whole=True) for name in named),
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


def _operating(report: Report, figures: Figures) -> list[Part]:
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
    return [Part(paragraphs=[text], table=table), Part(figures=_pick(figures, "threshold"))]


def _calibration(report: Report, figures: Figures) -> list[Part]:
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
    return [Part(paragraphs=[text], table=table), Part(figures=_pick(figures, "calibration", "decision"))]


def _subgroups(report: Report, figures: Figures) -> list[Part]:
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
        Part(paragraphs=[text], figures=_pick(figures, "subgroups")),
        Part(table=Table(caption, columns, rows)),
    ]


def _postprocessing(report: Report, figures: Figures) -> list[Part]:
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


def _gallery(report: Report, figures: Figures) -> list[Part]:
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


def _cases(report: Report, figures: Figures) -> list[Part]:
    del figures
    table = report.cases
    shown = [
        c
        for c in table.columns
        if c not in ("hd", "assd", "specificity", "area_unit", "distance_unit", "correct")
    ]
    rows = [
        Row([number(v) if isinstance(v, float) else str(v) for v in values])
        for values in zip(
            *(table[c].astype(object).where(table[c].notna(), None).tolist() for c in shown), strict=True
        )
    ][:MAX_CASES_SHOWN]
    numeric = [table[c].dtype.kind in "fi" for c in shown]
    columns = [Column(c.replace("_", " "), numeric=n) for c, n in zip(shown, numeric, strict=True)]
    rows = [Row(["–" if cell == "None" else cell for cell in row.cells]) for row in rows]
    more = f" (the first {MAX_CASES_SHOWN:,})" if len(table) > MAX_CASES_SHOWN else ""
    return [
        Part(
            paragraphs=["Every case with all its figures is in cases.csv beside this report."],
            table=Table(f"Cases{more}", columns, rows),
            folded=f"Show {count(min(len(table), MAX_CASES_SHOWN), 'case')}{more}",
        )
    ]


def _data(report: Report, figures: Figures) -> list[Part]:
    del figures
    from gcsam_med.reporting.audit import audit_parts

    material = report.material
    names = [n for n in next(iter(material.splits.values()), {}) if n != "cases"]
    rows = [
        Row([split, *(f"{values.get(n, 0):,}" for n in ("cases", *names))])
        for split, values in material.splits.items()
        if isinstance(values, Mapping)
    ]
    columns = [Column("Split"), Column("Cases", numeric=True), *(Column(n, numeric=True) for n in names)]
    rows = [Row([r.cells[0], f"{_sum(material.splits[r.cells[0]]):,}", *r.cells[2:]]) for r in rows]
    facts = [
        ("Data set", f"{material.title} ({material.name})"),
        ("Modality", material.modality),
        ("Split kept together", _kept(material.group_kind)),
        ("Synthetic", "yes" if material.synthetic else "no"),
        ("Licence", material.licence or "not stated"),
        ("Cite", material.citation or "not stated"),
        ("Content (SHA-256)", material.sha256[:16]),
    ]
    return [
        Part(facts=facts),
        Part(table=Table("Cases by split and class", columns, rows)),
        *audit_parts(report.audit),
    ]


def _sum(values: Mapping[str, int]) -> int:
    return int(values["cases"]) if "cases" in values else sum(int(v) for v in values.values())


def _kept(kind: str) -> str:
    return {
        "patient": "all images of a patient",
        "near-duplicate": "near-duplicate images (patients are not known)",
        "image": "nothing: split by image",
    }[kind]


def _training(report: Report, figures: Figures) -> list[Part]:
    subject = report.subject
    facts = [
        (
            "Network",
            f"{subject.model}, {subject.parameters:,} parameters, {subject.size} x {subject.size} pixels",
        ),
        ("Optimizer", subject.optimizer),
        ("Weights kept", f"epoch {subject.epoch}, best on validation"),
        ("Trained on", subject.trained_on),
        ("Weights (SHA-256)", subject.weights_sha256[:16]),
        ("gcsam-med", subject.tool_version),
    ]
    flat = _flatten(report.environment)
    settings = Table(
        "Every setting; config.yaml replays the run",
        [Column("Setting"), Column("Value")],
        [Row([key, "not set" if value is None else str(value)]) for key, value in report.config.items()],
    )
    machine = Table(
        "Where it was trained", [Column("What"), Column("Version or value")], [Row([k, v]) for k, v in flat]
    )
    looked = Table(
        "Where it was evaluated",
        [Column("What"), Column("Version or value")],
        [Row([k, str(v)]) for k, v in report.evaluated_with.items()],
    )
    return [
        Part(facts=facts, figures=_pick(figures, "training")),
        Part(table=settings, folded="Show all settings") if report.config else Part(),
        Part(table=machine, folded="Show the training environment") if flat else Part(),
        Part(table=looked, folded="Show the evaluation environment") if report.evaluated_with else Part(),
    ]


def _flatten(values: Mapping[str, object], prefix: str = "") -> list[tuple[str, str]]:
    flat: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat += _flatten(value, f"{prefix}{key}: ")
        elif key != "schema":
            flat.append((f"{prefix}{key}", "–" if value is None else str(value)))
    return flat


def _policies(report: Report, figures: Figures) -> list[Part]:
    del figures
    rows = [
        Row([key.replace("_", " "), f"{value:.4g}" if isinstance(value, float) else str(value)])
        for key, value in report.policy.items()
        if value is not None
    ]
    meanings = [
        Row([metric_name(key, report.task).title, metric_name(key, report.task).meaning])
        for key in in_order(list(report.metrics))
    ]
    return [
        Part(table=Table("Policies", [Column("Matter"), Column("Policy")], rows)),
        Part(table=Table("What each figure means", [Column("Figure"), Column("Meaning")], meanings)),
    ]


def _ledger(report: Report, figures: Figures) -> list[Part]:
    del figures
    if len(report.ledger) < 2:
        return []
    rows = [
        Row(
            [
                str(e.get("time", "–")),
                str(e.get("run", "–")),
                str(e.get("weights_sha256", ""))[:12],
                str(e.get("n_cases", "–")),
            ]
        )
        for e in report.ledger
    ]
    columns = [Column("Time (UTC)"), Column("Run"), Column("Weights"), Column("Cases", numeric=True)]
    text = "Every look at a test set is a chance to choose by it, knowingly or not. These were taken so far."
    table = Table("Evaluations of this split, this one last", columns, rows)
    return [Part(paragraphs=[text], table=table, folded=f"Show {count(len(rows), 'evaluation')}")]


def _methods(report: Report, figures: Figures) -> list[Part]:
    del figures
    return [
        Part(
            paragraphs=["Ready to paste; check it against what you did before and around this software."],
            quote=methods_paragraphs(report),
        ),
        Part("References", items=references(report)),
    ]


def _checklist(report: Report, figures: Figures) -> list[Part]:
    del figures
    text = (
        "Topics of CLAIM 2024 and TRIPOD+AI in this software's own words, with their item numbers, filled "
        "in from the run. 'For the author' marks what only a person can answer. The journals' own forms "
        "are the reference."
    )
    return [Part(paragraphs=[text], table=checklist_table(report))]


# In the order of the page.
SECTIONS: dict[str, tuple[str, Callable[[Report, Figures], list[Part]]]] = {
    "results": ("Results", _results),
    "threshold": ("Operating point", _operating),
    "calibration": ("Calibration and usefulness", _calibration),
    "subgroups": ("Subgroups", _subgroups),
    "gallery": ("Failures and successes", _gallery),
    "postprocessing": ("Post-processing", _postprocessing),
    "cases": ("Cases", _cases),
    "data": ("Data", _data),
    "training": ("Training and environment", _training),
    "policies": ("How the figures were taken", _policies),
    "ledger": ("Looks at this split", _ledger),
    "methods": ("Methods paragraph", _methods),
    "checklist": ("Reporting checklist", _checklist),
}


def summary_facts(report: Report) -> list[tuple[str, str]]:
    """Return the summary box's facts: model, data, numbers, threshold, and two or three more figures."""
    material, subject = report.material, report.subject
    unit = ("patient", "patients") if material.group_kind == "patient" else ("group", "groups")
    groups = count(material.n_groups, *unit)
    facts = [
        ("Model", f"{subject.model} trained with {subject.optimizer} on {subject.trained_on}"),
        ("Data", f"{material.title}, {material.split} split" + (" (external)" if material.external else "")),
        ("Cases", f"{count(material.n_cases, 'image')} of {groups}"),
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
            facts.append((name.title + _unit(report, name.unit), estimate_text(estimate)))
    return facts
