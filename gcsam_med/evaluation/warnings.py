"""What a reader must know before using a number, the weightiest first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gcsam_med.evaluation.findings import Findings
from gcsam_med.evaluation.provenance import audit
from gcsam_med.evaluation.setup import Examination
from gcsam_med.reporting.report import Notice
from gcsam_med.reporting.text import count

FEW_GROUPS = 30
FEW_OF_A_CLASS = 10


_NOT_LOGGED = Notice(
    "not-logged",
    "Not counted in the evaluation log",
    "The run folder is read-only, so this evaluation is not counted among those of this split.",
)


def notices(
    exam: Examination, findings: Findings, looks: Sequence[dict[str, Any]], logged: bool = True
) -> tuple[Notice, ...]:
    """Collect everything that limits what the figures mean.

    Parameters
    ----------
    exam : Examination
        Model and data.
    findings : Findings
        Figures.
    looks : sequence of dict
        Evaluations of this split so far, without this one.
    logged : bool
        Whether this evaluation could be written into the evaluation log.

    Returns
    -------
    tuple of Notice
        The weightiest first; the one on clinical use is always there and comes last.
    """
    found = [
        *_synthetic(exam),
        *_unfinished(exam),
        *_leak(exam),
        *_split(exam),
        *_conflicts(exam),
        *_size(exam, findings),
        *_missed(findings),
        *_ledger(exam, looks),
        *([] if logged else [_NOT_LOGGED]),
        *_operating(findings),
        *_external(exam),
        *_excluded(exam),
    ]
    found.append(
        Notice(
            "research-only",
            "Not for clinical use",
            "This is research software. No figure here says that the model is safe or useful for patients.",
            stamp=True,
        )
    )
    return tuple(found)


def _synthetic(exam: Examination) -> list[Notice]:
    data, model = exam.dataset.info.synthetic, exam.model.card.synthetic
    if not (data or model):
        return []
    what = "trained and examined on" if data and model else ("examined on" if data else "trained on")
    return [
        Notice(
            "synthetic",
            "Synthetic images",
            f"The model was {what} generated images. The figures show that the software works and say "
            "nothing about real images.",
            stamp=True,
        )
    ]


def _unfinished(exam: Examination) -> list[Notice]:
    if exam.calibration is not None:
        return []
    return [
        Notice(
            "unfinished",
            "Unfinished run",
            f"Training has not ended: these are the weights of epoch {exam.model.card.epoch}, the best so "
            f"far of {exam.config.epochs}. No threshold or temperature was chosen. Nothing here should be "
            "published.",
            stamp=True,
        )
    ]


def _leak(exam: Examination) -> list[Notice]:
    """Cases, or groups, that the model was trained on."""
    if exam.split == "train" and not exam.external:
        return [
            Notice(
                "training-cases",
                "Training cases",
                "These are the cases the model was trained on: the figures say how well it remembers, not "
                "how well it generalises.",
                stamp=True,
            )
        ]
    if exam.home is None:
        return [
            Notice(
                "overlap-unknown",
                "Overlap with training not checked",
                f"Whether examined images were trained on could not be checked. {exam.home_note}",
                stamp=True,
            )
        ]
    trained = exam.home.manifest.iloc[exam.home.rows("train", exam.config.fold)]
    examined = exam.dataset.manifest.iloc[exam.selection.rows]
    same = 0
    for column in ("source_sha256", "pixel_sha256"):
        if column in trained and column in examined:
            same = max(same, int(examined[column].isin(trained[column]).sum()))
    found = []
    if same:
        found.append(
            Notice(
                "trained-on",
                f"{same} images were trained on",
                f"{count(same, 'examined image is', 'examined images are')} the same as a training image. "
                "The figures are too good.",
                stamp=True,
            )
        )
    shared = 0 if exam.external else int(examined["group_id"].isin(trained["group_id"]).sum())
    if shared and exam.dataset.info.group_kind != "image":
        found.append(
            Notice(
                "shared-groups",
                "Groups on both sides",
                f"{count(shared, 'examined case belongs', 'examined cases belong')} to a group with training "
                "cases. The figures are too good.",
                stamp=True,
            )
        )
    return found


def _split(exam: Examination) -> list[Notice]:
    if exam.external:
        return []
    if exam.dataset.info.group_kind == "image":
        return [
            Notice(
                "image-level-split",
                "Split by image",
                "Images of one patient, or near-duplicates, may lie on both sides of the split. The figures "
                "are likely too good; split by group before publishing.",
                stamp=True,
            )
        ]
    if exam.dataset.info.group_kind == "near-duplicate":
        return [
            Notice(
                "no-patients",
                "Patients are not known",
                "The data set does not say which images are of one patient. The split keeps near-duplicate "
                "images together; unlike images of one patient may still lie on both sides.",
            )
        ]
    return []


def _conflicts(exam: Examination) -> list[Notice]:
    """Near-identical images with different labels, as the data set's audit found them."""
    summary = audit(exam).get("summary")
    n = summary.get("label_conflicts", 0) if isinstance(summary, dict) else 0
    if not isinstance(n, int) or n < 1:
        return []
    return [
        Notice(
            "label-conflicts",
            "One picture, two labels",
            f"The audit found {count(n, 'pair')} of nearly identical images with different labels in the "
            "data set. No model can be right about both.",
        )
    ]


def _size(exam: Examination, findings: Findings) -> list[Notice]:
    groups = len(set(exam.groups(findings.rows).tolist()))
    found = []
    if groups < FEW_GROUPS:
        found.append(
            Notice(
                "few-cases",
                "Few cases",
                f"The figures rest on {count(len(findings.rows), 'case')} in {count(groups, 'group')}. "
                "Read the intervals, not the figures.",
            )
        )
    labels = findings.cases["label"].to_numpy(dtype=str)
    rare = [
        f"{name} ({n})"
        for name in findings.per_class
        if 0 < (n := int((labels == name).sum())) < FEW_OF_A_CLASS
    ]
    absent = [
        name for name in exam.classes if exam.model.card.task == "classification" and name not in labels
    ]
    if rare and groups >= FEW_GROUPS:
        found.append(
            Notice(
                "rare-classes", "Few cases of a class", f"Fewer than {FEW_OF_A_CLASS} of: {', '.join(rare)}."
            )
        )
    if absent:
        found.append(
            Notice(
                "absent-classes",
                "Classes without a case",
                f"No case of: {', '.join(absent)}. Figures that need them are not defined.",
            )
        )
    return found


def _missed(findings: Findings) -> list[Notice]:
    missed = findings.metrics.get("missed_cases")
    if missed is None or not missed.value:
        return []
    n = round(missed.value * missed.n)
    return [
        Notice(
            "missed",
            f"{count(n, 'lesion image was', 'lesion images were')} missed",
            f"On {n} of {count(missed.n, 'lesion image')} nothing was marked. They score Dice 0 and are in "
            "every mean.",
        )
    ]


def _ledger(exam: Examination, looks: Sequence[dict[str, Any]]) -> list[Notice]:
    if exam.split != "test" or not looks:
        return []
    models = len({entry.get("weights_sha256") for entry in looks} | {exam.model.card.weights_sha256})
    times = len(looks) + 1
    return [
        Notice(
            "test-set-reused",
            f"Test set used {times} times",
            f"This test split has been evaluated {times} times with {count(models, 'model')} from this "
            "folder of runs. If any choice was made after looking, the figures are optimistic.",
            stamp=models > 1,
        )
    ]


def _operating(findings: Findings) -> list[Notice]:
    operating = findings.operating
    if operating.chosen_on == "default" and operating.rule.startswith("0.5"):
        return [
            Notice(
                "default-threshold",
                "Threshold not chosen on validation",
                f"0.5 is used, because {operating.reason[:1].lower()}{operating.reason[1:].rstrip('.')}.",
            )
        ]
    return []


def _external(exam: Examination) -> list[Notice]:
    if not exam.external:
        return []
    return [
        Notice(
            "external",
            "External data",
            f"The model was trained on '{exam.model.card.dataset}' and examined on "
            f"'{exam.dataset.info.name}'. Other devices, patients and ways to outline lesions are part of "
            "what the figures show.",
        )
    ]


def _excluded(exam: Examination) -> list[Notice]:
    excluded = exam.selection.excluded
    if not excluded:
        return []
    n = sum(excluded.values())
    reasons = "; ".join(f"{k} {reason}" for reason, k in excluded.items())
    share = n / (n + len(exam.selection.rows))
    return [
        Notice(
            "excluded",
            f"{count(n, 'case')} left out",
            f"{reasons}. That is {share:.0%} of the split.",
        )
    ]
