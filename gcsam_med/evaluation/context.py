"""What an evaluation works on (run, data, cases that take part), its options, and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gcsam_med.config import EvaluateOptions, RunConfig
from gcsam_med.datasets.prepared import AUDIT, SPLITS, PreparedDataset, Split, open_prepared
from gcsam_med.datasets.selection import Selection, class_order, positive_class, select_cases, training_cases
from gcsam_med.errors import CheckpointError, InputError
from gcsam_med.metrics.intervals import Estimate
from gcsam_med.metrics.operating_point import DEFAULT_THRESHOLD
from gcsam_med.reading import read_json_or_empty
from gcsam_med.reporting.report import Calibration, Estimates, Notice, Operating
from gcsam_med.runs import ModelCard, RunFolder, TrainedModel, load_card, open_model
from gcsam_med.runs.calibration import CalibrationFile
from gcsam_med.runs.folder import MACHINE_FIELDS

MAX_JSON_BYTES = 8 * 2**20
UNFINISHED = "training has not ended, so nothing was calibrated"


@dataclass(frozen=True)
class SealedCases:
    """The cases of an external set that a protocol fixed, whatever their split."""

    case_ids: frozenset[str]
    left_out: Mapping[str, int]  #: Cases that are not among them, by reason.
    notice: Notice  #: For the report.


@dataclass(frozen=True)
class EvaluationContext:
    """A model and the cases it is evaluated on."""

    run: RunFolder  #: Where it lies.
    config: RunConfig  #: How it was trained.
    model: TrainedModel  #: The network, in eval mode.
    calibration: CalibrationFile | None  #: Threshold and temperature of the model; None: run not finished.
    dataset: PreparedDataset  #: The cases.
    split: Split  #: {"train", "val", "test"}: which part of them.
    selection: Selection  #: Rows that take part.
    #: The data set it was trained on (the same object unless external), where it is still as it was.
    home: PreparedDataset | None
    home_note: str  #: Why `home` is None.
    #: Names in the order of the metrics: with two classes the second is the positive one.
    classes: tuple[str, ...]
    order: tuple[int, ...]  #: Column of the network's output for each of `classes`.

    #: The models of all test folds, each with its own cases, where they are pooled; else empty.
    pooled: tuple[EvaluationContext, ...] = ()
    sealed: SealedCases | None = None  #: What a protocol fixed, where it did.

    @property
    def models(self) -> tuple[EvaluationContext, ...]:
        """Each model with the cases that it answers."""
        return self.pooled or (self,)

    @property
    def part(self) -> str:
        """Name of the part that is evaluated: the split, or ``folds``."""
        return "folds" if self.pooled else self.split

    @property
    def has_threshold(self) -> bool:
        """Whether a threshold decides: that of a mask, or of two classes."""
        return self.model.card.task == "segmentation" or len(self.classes) == 2

    @property
    def external(self) -> bool:
        """Whether the data are others than those it was trained on."""
        return self.dataset is not self.home

    def labels(self, rows: np.ndarray) -> np.ndarray:
        """Class numbers in the order of `classes`, shape (n,)."""
        names = self.dataset.manifest["label"].to_numpy()[rows]
        return np.array([self.classes.index(name) for name in names], dtype=np.int64)

    def groups(self, rows: np.ndarray) -> np.ndarray:
        """Group of each case, shape (n,), str."""
        return self.dataset.manifest["group_id"].to_numpy(dtype=str)[rows]


def open_evaluation(
    run_root: Path,
    split: str,
    *,
    dataset: str | None = None,
    data_root: Path | None = None,
    device: str = "auto",
    unfinished: bool = False,
    deep_check: bool = False,
    sealed: SealedCases | None = None,
) -> EvaluationContext:
    """Open a run and the data it is to be evaluated on.

    Parameters
    ----------
    run_root, split
        ``runs/NAME``, and ``train``, ``val`` or ``test``.
    dataset : str, optional
        Another data set, for external validation.
    data_root : Path, optional
        Folder of prepared data sets. Default: the one the run was trained from.
    device : str
        See `pick_device`.
    unfinished : bool
        Accept a run whose training has not ended, without a calibration.
    deep_check : bool
        Compare all bytes of the data with the hashes of `prepare`.
    sealed : SealedCases, optional
        Take these cases instead of the split.

    Raises
    ------
    InputError
        If the run, the data set or the split is not there or does not fit the model, or if the run's own data
        set has been prepared anew since (its test cases may have been trained on), or if training has not
        ended and `unfinished` is not set.
    CheckpointError
        If the model is damaged.
    """
    if split not in SPLITS:
        raise InputError(f"Unknown split '{split}'.", f"Known: {', '.join(SPLITS)}.")
    run = RunFolder.open(run_root)
    if not run.finished and not unfinished:
        raise InputError(
            f"The run {run_root} is not finished: it has no {run.result_file.name}.",
            f"Finish it with: gcsam-med train --resume {run_root} - or add --unfinished.",
        )
    model, config, calibration = open_model(run, device)
    if run.finished and calibration is None:
        raise InputError(
            f"The model of {run_root} has no calibration (threshold and temperature) of its weights.",
            f"Make it with: gcsam-med calibrate {run_root}",
        )
    root = Path(data_root) if data_root is not None else config.data_root
    data, home, home_note = find_data(root, config.data_root, model.card, dataset, deep=deep_check)
    check_fit(model.card, data)
    segmentation = model.card.task == "segmentation"
    own = data.info.name == model.card.dataset
    chosen = select_cases(
        data,
        data.rows(split, *(config.folds if data is home else ())),
        model.card.task,
        (config.classes if own else None) if segmentation else model.card.classes,
    )
    if sealed is not None:
        named = np.flatnonzero(data.manifest["case_id"].isin(sealed.case_ids))
        chosen = Selection(named, dict(sealed.left_out))
    if not len(chosen.rows):
        why = "; ".join(f"{n} {reason}" for reason, n in chosen.excluded.items()) or "it is empty"
        raise InputError(f"The {split} split of '{data.info.name}' has no case to evaluate: {why}.")
    fitted = calibration.positive_class if calibration is not None else ""
    positive = "" if segmentation else fitted or positive_class(model.card.classes, data.info)
    order = class_order(model.card.classes, positive)
    classes = tuple(model.card.classes[i] for i in order)
    return EvaluationContext(
        run, config, model, calibration, data, split, chosen, home, home_note, classes, order, sealed=sealed
    )


def trained_on(context: EvaluationContext) -> dict[Split, Selection]:
    """Say who of the training and the validation split trained the model; empty without its data set."""
    home, config = context.home, context.config
    if home is None:
        return {}
    task = context.model.card.task
    classes = config.classes if task == "segmentation" else context.model.card.classes
    return training_cases(home, task, classes, config.folds)


def pool_folds(contexts: Sequence[EvaluationContext]) -> EvaluationContext:
    """Join the models of all test folds into one evaluation; each answers the cases of its own fold."""
    first = contexts[0]
    excluded: dict[str, int] = {}
    for context in contexts:
        for reason, n in context.selection.excluded.items():
            excluded[reason] = excluded.get(reason, 0) + n
    rows = np.sort(np.concatenate([context.selection.rows for context in contexts]))
    return replace(first, selection=Selection(rows, excluded), pooled=tuple(contexts))


def runs_of_all_folds(run_root: Path) -> list[Path]:
    """Find the runs that differ from a run beside them in the test fold only, one for each fold.

    The run of the test split comes first, then those of folds 0, 1, ...

    Raises
    ------
    InputError
        If a fold has no run, or several.
    """
    run = RunFolder.open(run_root)
    card = load_card(run.model)
    config, sha256 = run.config_of(card), card.dataset_sha256
    folds = open_prepared(config.data_root, config.dataset).info.folds
    alike = _without_folds(config)
    found: dict[int | None, list[Path]] = {fold: [] for fold in (None, *range(folds))}
    for path in sorted(run.root.resolve().parent.glob(f"*/{run.config_file.name}")):
        other = RunFolder(path.parent)
        with suppress(InputError, CheckpointError):
            theirs = other.config()
            same = _without_folds(theirs) == alike and load_card(other.model).dataset_sha256 == sha256
            if same and other.finished:
                found.setdefault(theirs.test_fold, []).append(other.root)
    again = [str(path) for paths in found.values() if len(paths) > 1 for path in paths]
    if again:
        raise InputError(
            f"Several runs of one test fold lie beside {run_root}: {', '.join(again)}.",
            "Move all but one of each fold away.",
        )
    missing = ["the test split" if fold is None else f"fold {fold}" for fold, p in found.items() if not p]
    if missing:
        raise InputError(
            f"No finished run of the same settings beside {run_root} was tested on {', '.join(missing)}.",
            "Train what is missing with: gcsam-med train --folds all and the settings of this run.",
        )
    return [paths[0] for paths in found.values()]


def _without_folds(config: RunConfig) -> dict[str, Any]:
    return config.model_dump(exclude={"fold", "test_fold", *MACHINE_FIELDS})


def find_data(
    root: Path, trained_from: Path, card: ModelCard, dataset: str | None, *, deep: bool = False
) -> tuple[PreparedDataset, PreparedDataset | None, str]:
    """Find the data to evaluate a model on, and what it was trained on, unchanged; or why that is not there.

    InputError if the data are not there, or the model's own (without `dataset`) are others now.
    """
    home, note = None, ""
    for place in dict.fromkeys((root, trained_from)):
        try:
            found = open_prepared(place, card.dataset, deep=deep)
        except InputError as error:
            note = note or f"The run's own data set cannot be used: {error.message}"
            continue
        if found.info.content_sha256 == card.dataset_sha256:
            home, note = found, ""
            break
        note = (
            f"'{card.dataset}' was prepared anew since this run was trained: its content is another one, so "
            "its test cases may have been trained on."
        )
    if dataset is not None and (home is None or dataset != home.info.name):
        return open_prepared(root, dataset, deep=deep), home, note
    if home is None:
        raise InputError(
            note,
            "Say where prepared data are with --data-root, or name other data with --dataset (external).",
        )
    return home, home, ""


def check_fit(card: ModelCard, dataset: PreparedDataset) -> None:
    """Raise an `InputError` if a model cannot be evaluated on a data set."""
    info = dataset.info
    if card.task == "segmentation" and not info.has_masks:
        raise InputError(f"'{info.name}' has no masks, so a segmentation cannot be evaluated on it.")
    if card.task == "classification" and not set(card.classes) & set(info.classes):
        raise InputError(
            f"The model knows the classes {', '.join(card.classes)}; '{info.name}' has "
            f"{', '.join(info.classes)}.",
            "At least one class name must be the same, in spelling and case.",
        )
    if card.size != info.size:
        raise InputError(
            f"The model takes images of {card.size}x{card.size} pixels; those of '{info.name}' have "
            f"{info.size}x{info.size}.",
            f"Prepare it again with --size {card.size}, under another name.",
        )


@dataclass(frozen=True)
class TaskResult:
    """The task's part of a `Report` (fields of the same names), and what the common part needs."""

    metrics: dict[str, Estimate]
    per_class: dict[str, dict[str, Estimate]]
    cases: pd.DataFrame
    rows: np.ndarray  #: ndarray of int64, shape (n,): Rows of the data set, in the order of `cases`.
    policy: dict[str, Any]
    operating: Operating
    curves: dict[str, pd.DataFrame]
    #: Main metrics of the cases where a bool array (n,) is true.
    estimate_part: Callable[[np.ndarray], dict[str, Estimate]]
    confusion: np.ndarray | None = None
    calibration: Calibration | None = None
    postprocessing: Mapping[str, Estimates] = field(default_factory=dict)
    #: Further subgroups that are not in the manifest, one value for each case; empty text means none.
    extra_columns: Mapping[str, np.ndarray] = field(default_factory=dict)


def operating_point(context: EvaluationContext, options: EvaluateOptions) -> Operating:
    """Return the threshold: the one given, else the model's own, else 0.5 and why."""
    fitted = context.calibration
    if not context.has_threshold:
        return Operating(0.0, "the likeliest class is called", "default", 0, "more than two classes")
    if options.threshold is not None:
        return Operating(options.threshold, "given on the command line", "given", 0)
    if context.pooled:
        own = [operating_point(model, options) for model in context.pooled]
        ends = f"{min(one.threshold for one in own):.3f} to {max(one.threshold for one in own):.3f}"
        return Operating(
            float(np.mean([one.threshold for one in own])),
            f"each model's own, chosen on its own validation fold: {ends}",
            "validation" if all(one.chosen_on == "validation" for one in own) else "default",
            sum(one.n for one in own),
            next((one.reason for one in own if one.reason), ""),
        )
    if fitted is None:
        return Operating(DEFAULT_THRESHOLD, "0.5, not chosen", "default", 0, UNFINISHED)
    return Operating(
        fitted.threshold, fitted.rule, "validation" if fitted.chosen else "default", fitted.n, fitted.reason
    )


def read_audit(context: EvaluationContext) -> dict[str, Any]:
    """Read the data set's ``audit.json``; empty where there is none."""
    return read_json_or_empty(context.dataset.root / AUDIT)
