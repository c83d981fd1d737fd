"""What CLAIM 2024 and TRIPOD+AI ask for, filled in from the run where a run can tell.

Topics are in our own words; the numbers are those of the items in Tejani et al., Radiology: AI 6(4), 2024
(CLAIM) and Collins et al., BMJ 385, 2024 (TRIPOD+AI).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gcsam_med.reporting.names import metric_name
from gcsam_med.reporting.page import Column, Row, Table
from gcsam_med.reporting.report import Report
from gcsam_med.reporting.text import count, estimate_text

FOR_THE_AUTHOR = "for the author"


@dataclass(frozen=True)
class Item:
    """A topic that a reader of a study looks for."""

    #: claim, tripod: Item numbers; empty where a list has none.
    claim: str
    tripod: str
    topic: str  #: What is asked.
    #: From the report to what the run tells; an empty text, or None, leaves it to the author.
    answer: Callable[[Report], str] | None = None


def _partition(r: Report) -> str:
    unit = {
        "patient": "by patient",
        "near-duplicate": "by group of near-duplicates; patients are not known",
        "image": "by image: partitions are not disjoint by patient",
    }[r.data.group_kind]
    return f"Train, validation and test, stratified by class, {unit}."


def _main(r: Report) -> str:
    return f"{metric_name(r.main_metric, r.task).title} {estimate_text(r.metrics[r.main_metric])}."


def _excluded(r: Report) -> str:
    excluded = "; ".join(f"{n} {why}" for why, n in r.data.excluded.items())
    return f"{count(r.data.n_cases, 'case')} examined; left out: {excluded or 'none'}."


def _splits(r: Report) -> str:
    parts = []
    for split, values in r.data.splits.items():
        if isinstance(values, dict):
            n = values.get("cases", sum(v for v in values.values() if isinstance(v, int)))
            parts.append(f"{split} {n:,}")
    return f"Cases: {', '.join(parts)}; patients screened and flow: {FOR_THE_AUTHOR}." if parts else ""


def _model(r: Report) -> str:
    s = r.model
    return f"{s.network}, {s.parameters:,} parameters, input {s.size} x {s.size}; defined in the software."


def _software(r: Report) -> str:
    packages = r.environment.get("packages")
    told = ", ".join(f"{k} {v}" for k, v in packages.items() if v) if isinstance(packages, dict) else ""
    return f"gcsam-med {r.model.tool_version}" + (f"; {told}." if told else ".")


def _start(r: Report) -> str:
    if not r.config:
        return ""
    if r.config.get("pretrained"):
        return "ImageNet weights of torchvision."
    return f"Random, seed {r.config.get('seed')}."


def _training(r: Report) -> str:
    if not r.config:
        return ""
    keys = ("optimizer", "base", "lr", "rho", "batch_size", "epochs", "schedule", "augment", "patience")
    return (
        "; ".join(f"{k} {r.config[k]}" for k in keys if r.config.get(k) is not None)
        + ". All settings are listed above."
    )


def _external(r: Report) -> str:
    return f"Yes, on {r.data.title}." if r.data.external else "None in this report."


def _explain(r: Report) -> str:
    if r.task == "classification" and r.gallery:
        return "Grad-CAM maps of chosen cases; they show where the network looked, not why."
    return "Outlines of chosen cases against the reference." if r.gallery else ""


def _imbalance(r: Report) -> str:
    if not r.config or r.task != "classification":
        return ""
    return "Loss weighted by inverse class frequency." if r.config.get("class_weights") else "Not handled."


def _fairness(r: Report) -> str:
    columns = list(dict.fromkeys(p.column for p in r.subgroups))
    return f"Figures by {', '.join(columns)}; what follows from them: for the author." if columns else ""


def _robust(r: Report) -> str:
    told = "Threshold sweep, effect of post-processing" if r.task == "segmentation" else "Temperature scaling"
    return f"{told}{' and subgroups' if r.subgroups else ''} in this report."


def _source(r: Report) -> str:
    return f"{r.data.title}. {r.data.citation}".strip()


def _eligible(r: Report) -> str:
    return f"Within the data set: {_excluded(r)} Patients: {FOR_THE_AUTHOR}."


def _preprocessing(r: Report) -> str:
    return f"Aspect ratio kept, padded to {r.model.size} x {r.model.size}; intensities standardised."


def _reference(r: Report) -> str:
    if r.task == "segmentation":
        return f"Outlines of: {r.data.mask_target}; by whom: {FOR_THE_AUTHOR}."
    return f"Labels of the data set; how they were made: {FOR_THE_AUTHOR}."


def _sample_size(r: Report) -> str:
    m = r.data
    return f"{count(m.n_cases, 'case')} in {count(m.n_groups, 'group')}; the reasoning: {FOR_THE_AUTHOR}."


def _selection(r: Report) -> str:
    return f"Epoch {r.model.epoch}, best on the validation split."


def _measures(r: Report) -> str:
    return "; ".join(metric_name(key, r.task).title for key in r.metrics) + "."


def _internal(r: Report) -> str:
    return "" if r.data.external else f"The {r.data.split} split. {_main(r)}"


def _partitions(r: Report) -> str:
    return f"{r.data.split}: {_main(r)} Other partitions: evaluate them with --split."


def _failures(r: Report) -> str:
    return f"{count(len(r.gallery), 'case')} shown; causes: {FOR_THE_AUTHOR}." if r.gallery else ""


def _predictors(r: Report) -> str:
    return f"One {r.data.modality} image of {r.model.size} x {r.model.size} pixels, nothing else."


def _output(r: Report) -> str:
    if r.task == "classification" and len(r.data.classes) > 2:
        return "Probability of each class; the likeliest is called."
    return f"Probability; threshold {r.operating.threshold:.3f}: {r.operating.rule}."


def _limits(r: Report) -> str:
    known = " ".join(f"{n.title}." for n in r.notices if n.key != "research-only")
    return f"{known} The rest: {FOR_THE_AUTHOR}.".strip()


def _availability(r: Report) -> str:
    licence = r.data.licence or "not stated"
    return f"Software: gcsam-med. Licence of the data: {licence}. Model: {FOR_THE_AUTHOR}."


ITEMS: tuple[Item, ...] = (
    Item("1", "1", "Title names the method and the kind of study"),
    Item("2", "2", "Structured abstract"),
    Item("3", "3", "Background, intended use and users"),
    Item("4", "4", "Objectives, and hypotheses"),
    Item("5", "5", "Prospective or retrospective; dates and sites of data collection"),
    Item("6", "4", "Goal of the study: development, evaluation, comparison"),
    Item("7", "5", "Sources of the data", _source),
    Item("8", "6", "Who was eligible", _eligible),
    Item("9", "7", "Preprocessing", _preprocessing),
    Item("10", "7", "Selection of subsets of the data", _excluded),
    Item("11", "17", "De-identification, ethical approval, consent"),
    Item("12", "11", "Missing data", _excluded),
    Item("13", "5", "How the images were acquired"),
    Item("14", "8", "What the reference standard is", _reference),
    Item("15", "8", "Why this reference standard"),
    Item("16", "8", "Who made the reference, and their experience"),
    Item("17", "8", "How the test set was annotated"),
    Item("18", "8", "Variability within and between annotators"),
    Item("19", "16", "How cases were assigned to partitions", _partition),
    Item("20", "16", "At which level partitions are disjoint", lambda r: r.data.group_kind),
    Item("21", "10", "Sample size and how it was arrived at", _sample_size),
    Item("22", "12, 22", "The model, in detail", _model),
    Item("23", "12", "Software and versions", _software),
    Item("24", "12", "How parameters were initialised", _start),
    Item("25", "12, 21", "How it was trained", _training),
    Item("26", "12", "How the final model was selected", _selection),
    Item("27", "12", "Ensembling", lambda r: "None."),
    Item("28", "12", "Measures of performance", _measures),
    Item("29", "12", "Uncertainty and significance", lambda r: "95 % intervals, method beside each figure."),
    Item("30", "12", "Robustness and sensitivity analysis", _robust),
    Item("31", "", "Explainability", _explain),
    Item("32", "16, 23", "Evaluation on internal data", _internal),
    Item("33", "16, 23", "Testing on external data", _external),
    Item("34", "18", "Registration of the study"),
    Item("35", "20", "Numbers of patients and cases, flow", _splits),
    Item("36", "20", "Demographic and clinical characteristics of each partition"),
    Item("37", "23", "Performance with uncertainty, on every partition", _partitions),
    Item("38", "23", "Estimates of performance and their precision", _main),
    Item("39", "23", "Analysis of failures", _failures),
    Item("", "9", "Predictors: what goes into the model", _predictors),
    Item("", "13", "Class imbalance", _imbalance),
    Item("", "14", "Fairness", _fairness),
    Item("", "15", "Output of the model and how its threshold was chosen", _output),
    Item("", "19", "Involvement of patients and the public"),
    Item("", "24", "Updating of the model", lambda r: "None."),
    Item("40", "26", "Limitations", _limits),
    Item("41", "25, 27", "Implications for practice, usability"),
    Item("42", "18", "Where the full protocol is"),
    Item("43", "18", "Availability of code, model and data", _availability),
    Item("44", "18", "Funding and interests"),
)


def checklist(report: Report) -> list[tuple[Item, str]]:
    """Return every item with its answer; an empty one is for the author."""
    return [(item, item.answer(report) if item.answer else "") for item in ITEMS]


def checklist_table(report: Report) -> Table:
    """Return the checklist as a table."""
    rows = [
        Row(
            [item.topic, item.claim or "–", item.tripod or "–", answer or FOR_THE_AUTHOR],
            "" if answer else "dim",
        )
        for item, answer in checklist(report)
    ]
    columns = [Column("Topic"), Column("CLAIM"), Column("TRIPOD+AI"), Column("What the run tells")]
    return Table("Reporting checklist", columns, rows)
