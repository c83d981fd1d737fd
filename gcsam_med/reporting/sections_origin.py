"""Sections on where the figures come from: cases, data, training, policies, methods, checklist."""

from __future__ import annotations

from collections.abc import Mapping

from gcsam_med.reporting.audit import audit_parts
from gcsam_med.reporting.checklist import checklist_table
from gcsam_med.reporting.methods import methods_paragraphs, references
from gcsam_med.reporting.names import in_order, metric_name
from gcsam_med.reporting.page import Column, Part, Row, Table
from gcsam_med.reporting.report import Report
from gcsam_med.reporting.sections_found import Figures, pick
from gcsam_med.reporting.text import count, number

MAX_CASES_SHOWN = 1000


def cases_section(report: Report, figures: Figures) -> list[Part]:
    """Every case."""
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


def data_section(report: Report, figures: Figures) -> list[Part]:
    """The data set, its splits and its audit."""
    del figures
    material = report.data
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


def training_section(report: Report, figures: Figures) -> list[Part]:
    """Network, settings and machines."""
    subject = report.model
    facts = [
        (
            "Network",
            f"{subject.network}, {subject.parameters:,} parameters, {subject.size} x {subject.size} pixels",
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
        Part(facts=facts, figures=pick(figures, "training")),
        Part(table=settings, folded="Show all settings") if report.config else Part(),
        Part(table=machine, folded="Show the training environment") if flat else Part(),
        Part(table=looked, folded="Show the evaluation environment") if report.evaluated_with else Part(),
    ]


def sharpness_section(report: Report, figures: Figures) -> list[Part]:
    """How flat the minimum is, where `gcsam-med sharpness` was run."""
    measured = report.sharpness
    if not measured:
        return []
    sample, hessian, worst = measured["sample"], measured["hessian"], measured["worst_loss"]
    facts = [
        (
            "Sample",
            f"{sample['cases']} cases of {sample['split']}, {sample['loss']} loss {measured['loss']:.4f}",
        ),
        ("Largest eigenvalue", f"{hessian['largest'][0]:.3g} (within {hessian['largest_errors'][0]:.1g})"),
        ("Trace", f"{hessian['trace']:.3g} (standard error {hessian['trace_standard_error']:.1g})"),
        (f"Rise of the loss within {worst['rho']:g}", f"{worst['increase']:.4g}"),
    ]
    return [Part(facts=facts, figures=pick(figures, "sharpness_line", "sharpness_surface"))]


def _flatten(values: Mapping[str, object], prefix: str = "") -> list[tuple[str, str]]:
    flat: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat += _flatten(value, f"{prefix}{key}: ")
        elif key != "schema":
            flat.append((f"{prefix}{key}", "–" if value is None else str(value)))
    return flat


def policies_section(report: Report, figures: Figures) -> list[Part]:
    """How each figure was taken, and what it means."""
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


def ledger_section(report: Report, figures: Figures) -> list[Part]:
    """How often the split was looked at."""
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


def methods_section(report: Report, figures: Figures) -> list[Part]:
    """The methods paragraph and its references."""
    del figures
    return [
        Part(
            paragraphs=["Ready to paste; check it against what you did before and around this software."],
            quote=methods_paragraphs(report),
        ),
        Part("References", items=references(report)),
    ]


def checklist_section(report: Report, figures: Figures) -> list[Part]:
    """What reporting guidelines ask for."""
    del figures
    text = (
        "Topics of CLAIM 2024 and TRIPOD+AI in this software's own words, with their item numbers, filled "
        "in from the run. 'For the author' marks what only a person can answer. The journals' own forms "
        "are the reference."
    )
    return [Part(paragraphs=[text], table=checklist_table(report))]
