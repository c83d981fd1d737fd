"""What an evaluation found, as plain data: everything a report shows, and nothing that needs a network.

Pictures and tables are made from these objects only, so a report can be written anew, or in another form,
without running the network again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gcsam_med.metrics.intervals import Estimate
from gcsam_med.metrics.table import main_metric

if TYPE_CHECKING:
    import pandas as pd

Estimates = Mapping[str, Estimate]


@dataclass(frozen=True)
class ModelFacts:
    """The evaluated model."""

    run: str  #: Name of the run folder.
    #: network, optimizer: Names in the tables of networks and optimizers.
    network: str
    optimizer: str
    epoch: int  #: Epoch (from 1) whose weights were kept.
    size: int  #: Side of the network's input in pixels.
    parameters: int  #: Number of trained values.
    trained_on: str  #: Name of the data set it was trained on.
    synthetic: bool  #: Whether it was trained on generated images.
    #: trained: Images that trained and validated it, and those of these splits that took no part, by reason;
    #: empty where its data set is not at hand, or several models are pooled.
    trained: Mapping[str, int]
    chosen_by: str  #: What chose the epoch on validation: ``dice``, ``auc`` or ``loss``; empty: not known.
    #: weights_sha256, tool_version: Identity of the weights, and the version of gcsam-med that trained them.
    weights_sha256: str
    tool_version: str


@dataclass(frozen=True)
class DataFacts:
    """The data it was evaluated on."""

    #: name, title: Name under ``prepared/`` and name for people.
    name: str
    title: str
    split: str  #: ``train``, ``val``, ``test``, or ``folds`` for all test folds pooled.
    external: bool  #: Whether it is another data set than the one trained on.
    modality: str  #: ``ultrasound``, ``xray`` or ``photo``.
    #: n_cases, n_groups: Cases that take part, and the groups they belong to.
    n_cases: int
    n_groups: int
    group_kind: str  #: What a group is: ``patient``, ``near-duplicate`` or ``image``.
    classes: Mapping[str, int]  #: Cases of each class, in the order of the classes.
    excluded: Mapping[str, int]  #: Cases of the split that do not take part, by reason.
    synthetic: bool  #: Whether the images are generated.
    splits: Mapping[str, Any]  #: Cases by split and class of the whole data set, as the run divided it.
    split_from: str  #: ``drawn``, ``source``, ``file`` or empty: where the split comes from.
    split_seed: int  #: Seed of a drawn split.
    mask_target: str  #: What masks outline.
    #: licence, citation, sha256: From ``dataset.json``.
    licence: str
    citation: str
    sha256: str
    centre: str = ""  #: The centre that took no part in training, where all its cases are evaluated.
    sealed: bool = False  #: Whether a protocol fixed the cases.
    test_fold: int | None = None  #: The fold that was the run's test set, where it was not the test split.

    @property
    def part(self) -> str:
        """What was evaluated, after "the": ``test split``, ``pooled test folds``."""
        if self.sealed:
            return "sealed cases"
        if self.centre:
            return f"left-out centre {self.centre}"
        if self.test_fold is not None and self.split == "test":
            return f"test fold {self.test_fold}"
        return "pooled test folds" if self.split == "folds" else f"{self.split} split"


@dataclass(frozen=True)
class FoldFacts:
    """One of the models whose test folds are pooled."""

    run: str  #: Name of the run folder.
    test: str  #: What it was tested on: ``test split`` or ``fold 3``.
    epoch: int  #: Epoch whose weights were kept.
    n_cases: int  #: Cases that it answers.
    threshold: float | None  #: Its own; None for more than two classes.
    main: Estimate  #: The report's main metric on its cases.


@dataclass(frozen=True)
class Notice:
    """Something the reader must know before using a number."""

    key: str  #: Short name, e.g. ``"synthetic"``.
    title: str  #: A few words.
    text: str  #: One or two sentences: what is so, and what it does to the numbers.
    stamp: bool = False  #: Whether it is shown as a stamp at the head of the report.


RESEARCH_ONLY = Notice(
    "research-only",
    "Not for clinical use",
    "This is research software. No metric here says that the model is safe or useful for patients.",
    stamp=True,
)
# By the kind of group that the split keeps together.
SPLIT_NOTICES = {
    "image": Notice(
        "image-level-split",
        "Split by image",
        "Images of one patient, or near-duplicates, may lie on both sides of the split and count as "
        "independent cases. The metrics are likely too good and the intervals too narrow; split by group "
        "before publishing.",
        stamp=True,
    ),
    "near-duplicate": Notice(
        "no-patients",
        "Patients are not known",
        "The data set does not say which images are of one patient. The split keeps near-duplicate images "
        "together; unlike images of one patient may still lie on both sides and count as independent cases.",
    ),
}


@dataclass(frozen=True)
class Operating:
    """The threshold from which a case (or a pixel) is called positive."""

    threshold: float  #: On the probability of the positive class (or of foreground).
    rule: str  #: How it was chosen, in words.
    chosen_on: Literal["validation", "default", "given"]  #: ``validation``, ``default`` or ``given``.
    n: int  #: Cases it was chosen on.
    reason: str = ""  #: Why it was not chosen on validation, if it was not.
    #: ``{"validation" | "test" | "test at 0.5": {metric: value}}``: what the threshold gives where it was
    #: chosen and where it is used.
    transfer: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)


@dataclass(frozen=True)
class Calibration:
    """Probabilities against frequencies, as the network gives them and recalibrated on validation."""

    temperature: float | None  #: Fitted on validation; None where there was none to fit it on.
    reason: str  #: Why there is no temperature.
    #: before, after, logistic: Brier score, log-loss, ECE, slope and intercept on the evaluated split: as the
    #: network gives the probabilities, after temperature scaling, after logistic recalibration; empty where
    #: that was not fitted.
    before: Estimates
    after: Estimates
    logistic: Estimates
    logistic_fit: tuple[float, float] | None  #: Intercept and slope of the logistic recalibration.
    #: curve_before, curve_after: Columns ``predicted, observed, low, high, n``: one row for each bin of the
    #: reliability diagram.
    curve_before: pd.DataFrame
    curve_after: pd.DataFrame | None


@dataclass(frozen=True)
class Subgroup:
    """Metrics of a part of the cases."""

    #: column, value: Column of the manifest and its value in this part.
    column: str
    value: str
    #: n, n_groups: Cases and groups.
    n: int
    n_groups: int
    small: bool  #: So few groups that its metrics may mislead.
    estimates: Estimates  #: The main metrics.


@dataclass(frozen=True)
class ReaderFacts:
    """A reader's ratings beside the model, on the cases that are rated."""

    column: str  #: Of the manifest.
    levels: tuple[str, ...]  #: The ratings, the least suspicious first.
    #: n, n_groups, left_out: Rated cases and their groups; cases without a rating.
    n: int
    n_groups: int
    left_out: int
    call_from: str | None  #: The least rating that is a call for the finding, where the scale says so.
    cuts: tuple[tuple[str, Estimate, Estimate], ...]  #: Sensitivity and specificity from each rating on.
    #: auc_model, auc_reader, difference, p_value: On the same cases; model minus reader.
    auc_model: Estimate
    auc_reader: Estimate
    difference: Estimate
    p_value: float | None
    agreement: Estimates  #: Weighted kappa with other readers, by column, and with the model's calls.


@dataclass(frozen=True)
class Exhibit:
    """A case worth looking at."""

    kind: str  #: ``worst``, ``best``, ``missed``, ``false positive``, ``confident error`` ...
    #: case_id, label: Which case.
    case_id: str
    label: str
    caption: str  #: What is to be seen, with its metrics.
    image: np.ndarray  #: ndarray of uint8, shape (H, W, 3): The image with its outlines.
    alt: str  #: The same in words.
    heat: bool = False  #: Whether a map of what raised the score of the class stands beside the image.


@dataclass(frozen=True)
class Report:
    """Everything an evaluation found."""

    #: {"segmentation", "classification"}: What the model does.
    task: Literal["segmentation", "classification"]
    model: ModelFacts  #: The model.
    data: DataFacts  #: The data.
    metrics: Estimates  #: Named as in ``metrics.json``.
    per_class: Mapping[str, Estimates]  #: The same for each class.
    cases: pd.DataFrame  #: One row for each case, columns as in ``cases.csv``.
    #: How each metric was computed: resolution, unit, tolerance, empty masks, threshold, intervals.
    policy: Mapping[str, Any]
    operating: Operating  #: The threshold.
    notices: tuple[Notice, ...] = ()  #: The most serious first.
    #: ``roc``, ``pr``, ``decision`` (classification), ``sweep`` (segmentation).
    curves: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    confusion: np.ndarray | None = None  #: Classification: rows truth, columns call.
    calibration: Calibration | None = None  #: Classification.
    subgroups: tuple[Subgroup, ...] = ()  #: By columns of the manifest.
    readers: tuple[ReaderFacts, ...] = ()  #: Classification: readers beside the model.
    gallery: tuple[Exhibit, ...] = ()  #: Failures and successes.
    folds: tuple[FoldFacts, ...] = ()  #: The models, where the test folds of several are pooled.
    #: Segmentation: what each option of `predict` would do to the main metrics.
    postprocessing: Mapping[str, Estimates] = field(default_factory=dict)
    history: pd.DataFrame | None = None  #: The training, a row for each epoch.
    #: environment, config, audit: Where and how it was trained, and what was found in the data.
    environment: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    audit: Mapping[str, Any] = field(default_factory=dict)
    #: Content of ``sharpness.json``; empty where it was not measured.
    sharpness: Mapping[str, Any] = field(default_factory=dict)
    evaluations: tuple[Mapping[str, Any], ...] = ()  #: Evaluations of this split so far, this one last.
    created: str = ""  #: UTC time in ISO form.
    #: Versions, device and seed of the evaluation itself.
    evaluated_with: Mapping[str, Any] = field(default_factory=dict)

    @property
    def main_metric(self) -> str:
        """The metric the summary opens with: dice, auc (two classes) or balanced_accuracy."""
        return main_metric(self.task, len(self.data.classes))
