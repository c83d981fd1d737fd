"""The model card: a README with the header that the Hugging Face hub reads, filled from the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from gcsam_med import __version__
from gcsam_med.inference.export.description import describe
from gcsam_med.inference.export.exported_run import Subject
from gcsam_med.reporting.names import in_order, metric_name

TASKS = {"segmentation": "image-segmentation", "classification": "image-classification"}
KINDS = {"ultrasound": "ultrasound images", "xray": "X-ray images", "photo": "photographs"}
GROUPS = {
    "patient": "All images of one patient lie on one side of the split.",
    "near-duplicate": "Patients are not known. Near-duplicate images lie on one side of the split; unlike "
    "images of one patient may lie on both.",
    "image": "The split is by image: near-duplicates and images of one patient may lie on both sides, and "
    "figures on the test split are too good.",
}
METRICS_IN_HEADER = ("dice", "iou", "hd95", "auc", "balanced_accuracy", "accuracy", "f1")


def model_card(subject: Subject, library: str, usage: str, *, standardized: bool) -> str:
    """Write the card.

    Parameters
    ----------
    subject : Subject
        The run.
    library : str
        ``library_name`` of the hub.
    usage : str
        Markdown: what the files are and how they are read.
    standardized : bool
        See `describe`.

    Returns
    -------
    str
        Markdown with a YAML header. It names no folder of this machine.
    """
    card = subject.card
    told = describe(subject, standardized=standardized)
    stamp = [
        "> **Synthetic data.** Generated images had a part in this model or its figures. It shows how the "
        "tool works and says nothing about patients.\n"
    ] * subject.synthetic
    parts = [
        _header(subject, library),
        f"# {_title(subject)}\n",
        "> **Research only. Not for clinical use.** No figure here says that the model is safe or useful for "
        "patients.\n",
        *stamp,
        f"{card.model} for {card.task} of {KINDS[card.modality]}: {', '.join(card.classes)}. Trained with "
        f"{card.optimizer} on squares of {card.size} x {card.size} pixels; the weights are of epoch "
        f"{card.epoch}.\n",
        f"## Use\n\n{usage}\n",
        _steps("Before the model", told["preprocessing"]),
        _steps("After the model", told["postprocessing"]),
        f"Operating point: {subject.threshold:.6g} ({subject.threshold_from}).\n",
        _training(subject),
        _evaluation(subject),
        _limits(subject),
        _provenance(subject),
    ]
    return "\n".join(part for part in parts if part)


def _title(subject: Subject) -> str:
    return f"{subject.card.model} for {subject.card.task}, trained on {_dataset_title(subject)}"


def _dataset_title(subject: Subject) -> str:
    return (subject.dataset.title if subject.dataset is not None else "") or subject.card.dataset


def _header(subject: Subject, library: str) -> str:
    card = subject.card
    content: dict[str, Any] = {
        "library_name": library,
        "pipeline_tag": TASKS[card.task],
        "license": "unknown",
        "tags": ["medical", card.modality, card.model, card.optimizer, "gcsam-med", "research-only"]
        + ["synthetic"] * subject.synthetic,
    }
    results = [
        {
            "task": {"type": TASKS[card.task]},
            "dataset": {
                "type": str(found["dataset"]),
                "name": str(found["dataset"]),
                "split": found["split"],
            },
            "metrics": metrics,
        }
        for found in subject.evaluations.values()
        if (metrics := _header_metrics(found))
    ]
    if results:
        content["metrics"] = [key for key in METRICS_IN_HEADER if any(_has(key, r) for r in results)]
        content["model-index"] = [{"name": f"{card.dataset} {card.model}", "results": results}]
    return "---\n" + yaml.safe_dump(content, sort_keys=False, allow_unicode=True) + "---\n"


def _has(key: str, result: Mapping[str, Any]) -> bool:
    return any(metric["type"] == key for metric in result["metrics"])


def _header_metrics(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    figures = found.get("metrics", {})
    return [
        {
            "type": key,
            "value": round(float(figures[key]["value"]), 4),
            "name": f"{metric_name(key, found['task']).title} (95 % interval {_interval(figures[key])})",
        }
        for key in METRICS_IN_HEADER
        if figures.get(key, {}).get("value") is not None
    ]


def _interval(figure: Mapping[str, Any]) -> str:
    interval = figure.get("ci95")
    return "not known" if not interval else f"{interval[0]:.3f} to {interval[1]:.3f}"


def _steps(title: str, steps: list[dict[str, Any]]) -> str:
    lines = [f"{i}. {step['how']}" for i, step in enumerate(steps, 1)]
    return f"### {title}\n\n" + "\n".join(lines) + "\n"


def _training(subject: Subject) -> str:
    card, data = subject.card, subject.dataset
    if data is None:
        return (
            f"## Training data\n\n`{card.dataset}` (content sha256 `{card.dataset_sha256[:12]}`). The "
            "prepared data were not at hand when this card was written, so it tells no more of them.\n"
        )
    rows = []
    for split, counts in data.counts.items():
        classes = ", ".join(f"{n} {label}" for label, n in counts.items() if label != "cases")
        rows.append(f"| {split} | {counts.get('cases', sum(counts.values()))} | {classes} |")
    fold = subject.run.config().fold
    known = [
        f"{_dataset_title(subject)}: {data.n_cases} images, prepared as {data.size} x {data.size} pixels.",
        GROUPS[data.group_kind],
        ""
        if fold is None
        else f"Fold {fold} of the cases outside the test split was left out for validation.",
        f"Licence of the data: {data.licence.rstrip('.') or 'not given'}.",
        f"To cite: {data.citation}" if data.citation else "",
    ]
    table = "\n".join(["| split | images | by class |", "|---|---|---|", *rows])
    return "## Training data\n\n" + " ".join(filter(None, known)) + f"\n\n{table}\n"


def _evaluation(subject: Subject) -> str:
    if not subject.evaluations:
        return (
            "## Evaluation\n\n**This model has not been evaluated.** Nothing is known of how good it is. "
            "`gcsam-med evaluate RUN`, then export again.\n"
        )
    return "## Evaluation\n\n" + "\n".join(_one(found) for found in subject.evaluations.values())


def _one(found: Mapping[str, Any]) -> str:
    figures = found.get("metrics", {})
    external = ", external validation" if found.get("external") else ""
    rows = []
    for key in in_order(list(figures)):
        figure = figures[key]
        if figure.get("value") is None:
            continue
        name = metric_name(key, found["task"])
        unit = f" ({found.get('policy', {}).get('distance_unit', 'px')})" if name.unit == "distance" else ""
        rows.append(
            f"| {name.title}{unit} | {figure['value']:.3f} | {_interval(figure)} | {figure.get('n', '')} |"
        )
    head = (
        f"### {found['dataset']}, {found['split']} split{external}\n\n{found['n_cases']} cases in "
        f"{found['n_groups']} groups ({found['group_kind']}).\n\n"
    )
    return head + "\n".join(["| figure | value | 95 % interval | n |", "|---|---|---|---|", *rows]) + "\n"


def _limits(subject: Subject) -> str:
    lines = [
        "Figures hold for images like those they were taken on: other machines, hospitals and patients may "
        "give worse ones.",
        "The model answers for any image, also for one of another organ or kind.",
    ]
    if subject.point is None:
        lines.append("The threshold was not chosen on validation data.")
    if subject.evaluations and not any(found.get("external") for found in subject.evaluations.values()):
        lines.append("No external validation was made.")
    notices = {
        notice["key"]: f"{notice['title']}: {notice['text']}"
        for found in subject.evaluations.values()
        for notice in found.get("notices", [])
        if notice.get("key") != "research-only"
    }
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in [*lines, *notices.values()]) + "\n"


def _provenance(subject: Subject) -> str:
    card = subject.card
    return (
        "## Provenance\n\n"
        f"- Weights sha256: `{card.weights_sha256}`\n"
        f"- Data set `{card.dataset}`, content sha256: `{card.dataset_sha256}`\n"
        f"- Trained by gcsam-med {card.tool_version}, exported by gcsam-med {__version__}\n"
        "- Licence of the model: not chosen; before publishing choose one that the data allow\n"
    )
