"""What a reader must know before using a number, the most serious first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gcsam_med.datasets.selection import select_cases
from gcsam_med.evaluation.context import EvaluationContext, TaskResult, read_audit, trained_on
from gcsam_med.reporting.report import RESEARCH_ONLY, SPLIT_NOTICES, Notice
from gcsam_med.reporting.text import count

FEW_GROUPS = 30
FEW_OF_A_CLASS = 10
MOST_SCALE = 1.2  # ratio of diagonals up to which pixels are taken as alike


def notices(
    context: EvaluationContext, result: TaskResult, former: Sequence[dict[str, Any]], logged: bool
) -> tuple[Notice, ...]:
    """Collect everything that limits what the metrics mean, the most serious first.

    `former` are the evaluations of this split so far, without this one; `logged` says whether this one could
    be written into the evaluation log. The notice on clinical use is always there and comes last.
    """
    kind = context.dataset.info.group_kind
    return (
        *_synthetic(context),
        *_unfinished(context),
        *{(n.key, n.text): n for model in context.models for n in _overlap(model)}.values(),
        *_pooled(context),
        *([] if context.external or kind not in SPLIT_NOTICES else [SPLIT_NOTICES[kind]]),
        *_conflicts(context),
        *_size(context, result),
        *_missed(result),
        *_evaluated_before(context, former, logged),
        *_threshold(result),
        *_scale(context, result),
        *_external(context),
        *_excluded(context),
        *_not_trained_on(context),
        RESEARCH_ONLY,
    )


def _synthetic(context: EvaluationContext) -> Iterator[Notice]:
    data, model = context.dataset.info.synthetic, context.model.card.synthetic
    if data or model:
        what = "trained and evaluated on" if data and model else ("evaluated on" if data else "trained on")
        yield Notice(
            "synthetic",
            "Synthetic images",
            f"The model was {what} generated images. The metrics show that the software works and say "
            "nothing about real images.",
            stamp=True,
        )


def _unfinished(context: EvaluationContext) -> Iterator[Notice]:
    if context.calibration is None:
        yield Notice(
            "unfinished",
            "Unfinished run",
            f"Training has not ended: these are the weights of epoch {context.model.card.epoch}, the best so "
            f"far of {context.config.epochs}. No threshold or temperature was chosen. Nothing here should be "
            "published.",
            stamp=True,
        )


def _pooled(context: EvaluationContext) -> Iterator[Notice]:
    if context.pooled:
        yield Notice(
            "folds",
            f"{len(context.pooled)} models, one for each test fold",
            "Every image was predicted once, by the model whose training did not see it. The models were "
            "trained on overlapping images: the intervals say how sure the metrics are for other cases, not "
            "for other trainings. The metrics describe the training procedure, not any one of these models.",
        )


def _overlap(context: EvaluationContext) -> Iterator[Notice]:
    """Cases, or groups, that the model was trained on, or that choices were made on."""
    if context.split == "train" and not context.external:
        yield Notice(
            "training-cases",
            "Training cases",
            "These are the cases the model was trained on: the metrics say how well it remembers, not how "
            "well it generalises.",
            stamp=True,
        )
        return
    if context.split == "val" and not context.external:
        if not context.calibration:
            chosen = "the epoch"
        elif context.model.card.task == "segmentation":
            chosen = "the epoch and the threshold"
        elif len(context.classes) > 2:
            chosen = "the epoch and the temperature"
        else:
            chosen = "the epoch, the threshold and the temperature"
        yield Notice(
            "validation-cases",
            "Validation cases",
            f"On these cases {chosen} of this model were chosen: the metrics are too good. Only the test "
            "split shows how well it generalises.",
            stamp=True,
        )
    if context.home is None:
        yield Notice(
            "overlap-unknown",
            "Overlap with training not checked",
            f"Whether evaluated images were trained on could not be checked. {context.home_note}",
            stamp=True,
        )
        return
    trained = context.home.manifest.iloc[context.home.rows("train", *context.config.folds)]
    evaluated = context.dataset.manifest.iloc[context.selection.rows]
    hashes = [c for c in ("source_sha256", "pixel_sha256") if c in trained and c in evaluated]
    same = max((int(evaluated[column].isin(trained[column]).sum()) for column in hashes), default=0)
    if same:
        yield Notice(
            "trained-on",
            f"{same} images were trained on",
            f"{count(same, 'evaluated image is', 'evaluated images are')} the same as a training image. "
            "The metrics are too good.",
            stamp=True,
        )
    shared = 0 if context.external else int(evaluated["group_id"].isin(trained["group_id"]).sum())
    if shared and context.dataset.info.group_kind != "image":
        yield Notice(
            "shared-groups",
            "Groups in training and evaluation",
            f"{count(shared, 'evaluated case belongs', 'evaluated cases belong')} to a group with training "
            "cases. The metrics are too good.",
            stamp=True,
        )


def _conflicts(context: EvaluationContext) -> Iterator[Notice]:
    """Near-identical images with different labels, as the data set's audit found them."""
    summary = read_audit(context).get("summary")
    n = summary.get("label_conflicts", 0) if isinstance(summary, dict) else 0
    if isinstance(n, int) and n > 0:
        yield Notice(
            "label-conflicts",
            "One picture, two labels",
            f"The audit found {count(n, 'pair')} of nearly identical images with different labels in the "
            "data set. No model can be right about both.",
        )


def _size(context: EvaluationContext, result: TaskResult) -> Iterator[Notice]:
    groups = len(set(context.groups(result.rows).tolist()))
    if groups < FEW_GROUPS:
        yield Notice(
            "few-cases",
            "Few cases",
            f"The metrics rest on {count(len(result.rows), 'case')} in {count(groups, 'group')}. "
            "Read the intervals, not the single numbers.",
        )
    labels = result.cases["label"].to_numpy(dtype=str)
    counts = {name: int((labels == name).sum()) for name in result.per_class}
    rare = [f"{name} ({n})" for name, n in counts.items() if 0 < n < FEW_OF_A_CLASS]
    if rare and groups >= FEW_GROUPS:
        text = f"Fewer than {FEW_OF_A_CLASS} of: {', '.join(rare)}."
        yield Notice("rare-classes", "Few cases of a class", text)
    absent = [name for name in context.classes if name not in labels]
    if absent and context.model.card.task == "classification":
        yield Notice(
            "absent-classes",
            "Classes without a case",
            f"No case of: {', '.join(absent)}. Metrics that need them are not defined.",
        )


def _missed(result: TaskResult) -> Iterator[Notice]:
    unfound, unmarked = (result.metrics.get(name) for name in ("undetected_cases", "missed_cases"))
    if unfound is None or unmarked is None or not unfound.value:
        return
    n, empty = round(unfound.value * unfound.n), round((unmarked.value or 0) * unmarked.n)
    yield Notice(
        "missed",
        f"{count(n, 'lesion image was', 'lesion images were')} missed",
        f"In {n} of {count(unfound.n, 'lesion image')} no lesion was found (overlap with IoU of at least "
        f"0.1); on {empty} of them nothing was marked. They are included in every mean.",
    )


def _evaluated_before(
    context: EvaluationContext, former: Sequence[dict[str, Any]], logged: bool
) -> Iterator[Notice]:
    if context.pooled and former:
        yield Notice(
            "test-set-reused",
            "Test folds used before",
            f"One of these test folds has been evaluated {len(former) + 1} times from this folder of runs. "
            "If any choice was made after seeing the results, the metrics are optimistic.",
        )
    elif context.split == "test" and former:
        weights = {entry.get("weights_sha256") for entry in former}
        models = len(weights | {context.model.card.weights_sha256})
        times = len(former) + 1
        yield Notice(
            "test-set-reused",
            f"Test set used {times} times",
            f"This test split has been evaluated {times} times with {count(models, 'model')} from this "
            "folder of runs. If any choice was made after seeing the results, the metrics are optimistic.",
            stamp=models > 1,
        )
    if not logged:
        yield Notice(
            "not-logged",
            "Not counted in the evaluation log",
            "The run folder is read-only, so this evaluation is not counted among those of this split.",
        )


def _threshold(result: TaskResult) -> Iterator[Notice]:
    operating = result.operating
    if operating.chosen_on == "default" and operating.rule.startswith("0.5"):
        yield Notice(
            "default-threshold",
            "Threshold not chosen on validation",
            f"0.5 is used, because {operating.reason[:1].lower()}{operating.reason[1:].rstrip('.')}.",
        )


def _scale(context: EvaluationContext, result: TaskResult) -> Iterator[Notice]:
    """Distances in pixels mean different lengths where images differ in size."""
    if result.policy.get("distance_unit") != "px":
        return
    cases = context.dataset.manifest.iloc[result.rows]
    diagonal = np.hypot(cases["height"].to_numpy(float), cases["width"].to_numpy(float))
    if diagonal.max() > MOST_SCALE * diagonal.min():
        yield Notice(
            "pixel-distances",
            "Distances in pixels",
            f"Pixel spacings are not known, and the images' diagonals lie between {diagonal.min():.0f} and "
            f"{diagonal.max():.0f} pixels, so a distance in pixels is not the same length in all of them. "
            "HD95 is also given in percent of the diagonal.",
        )


def _external(context: EvaluationContext) -> Iterator[Notice]:
    if context.external:
        yield Notice(
            "external",
            "External data",
            f"The model was trained on '{context.model.card.dataset}' and evaluated on "
            f"'{context.dataset.info.name}'. Other devices, patients and ways to outline lesions are part "
            "of what the metrics show.",
        )


def _excluded(context: EvaluationContext) -> Iterator[Notice]:
    excluded = context.selection.excluded
    if excluded:
        n = sum(excluded.values())
        reasons = "; ".join(f"{k} {reason}" for reason, k in excluded.items())
        share = n / (n + len(context.selection.rows))
        title = f"{count(n, 'case')} left out"
        yield Notice("excluded", title, f"{reasons}. That is {share:.0%} of the split.")


def _not_trained_on(context: EvaluationContext) -> Iterator[Notice]:
    """Training images that were left out of training: the table of splits counts them."""
    texts = []
    for split, selection in ({} if context.pooled else trained_on(context)).items():
        of = len(selection.rows) + sum(selection.excluded.values())
        texts += [f"{n} {reason} of {of} in {split}" for reason, n in selection.excluded.items()]
    if context.pooled and context.home is not None and context.model.card.task == "segmentation":
        rows = np.arange(len(context.home))
        left = select_cases(context.home, rows, "segmentation", context.config.classes, healthy=False)
        texts += [f"{n} {reason} of {len(rows)}" for reason, n in left.excluded.items()]
    if texts:
        yield Notice(
            "not-trained-on",
            "Images that took no part in training",
            f"{'; '.join(texts)}. They are counted in the splits of the data set, but the model did not see "
            "them.",
        )
