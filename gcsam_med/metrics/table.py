"""All metrics, one row each: what a metric is called, what it means, how it is taken and where it is shown.

To add a metric, write its function and its row. Measuring of cases, ``cases.csv``, intervals,
``metrics.json``, the report, the comparison and the documentation take it up from the row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gcsam_med.errors import InputError, unknown_name
from gcsam_med.metrics import classification as calls
from gcsam_med.metrics import segmentation as masks
from gcsam_med.metrics.calibration import calibration_error_estimate, calibration_intercept, calibration_slope
from gcsam_med.metrics.roc import (
    auc_of_weights,
    average_precision_of_weights,
    delong_auc,
    sensitivity_at_90_specificity,
)

Place = Literal["cases", "console", "summary", "subgroups", "card", "transfer", "calibration"]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A row of the table of metrics."""

    title: str  #: Name for people, as in a table.
    meaning: str  #: One sentence.
    undefined: str  #: What is given for empty masks, or where the metric is not defined; one sentence.
    #: What `function` takes and gives, and how the interval is made.
    #:
    #: - ``"mean"``: from a `segmentation.MaskPair` to a number, or None for a case that does not count; the
    #:   mean over `images`, by cluster bootstrap.
    #: - ``"share"``: from a `segmentation.MaskPair` to a list of flags; the share of true ones, by Wilson.
    #: - ``"counts"``: from `classification.Counts` to a value; Wilson if it is a `classification.Share`, else
    #:   cluster bootstrap.
    #: - ``"ranks"``: from (positive [N], score [N]) to a function of case weights [B, N]; cluster bootstrap.
    #: - ``"losses"``: from (labels [N], probabilities [N, C]) to the loss of each case; cluster bootstrap
    #:   of the mean.
    #: - ``"estimate"``: from `classification.CalledCases` to an `Estimate`, or None where it was not asked
    #:   for.
    kind: Literal["mean", "share", "counts", "ranks", "losses", "estimate"]
    function: Callable[..., Any]
    better: Literal["higher", "lower", ""] = "higher"  #: Which direction is better; empty: neither.
    #: ``"share"`` is 0 to 1, ``"tolerance"`` a share at a distance, ``"relative"`` one of the true value;
    #: ``"diagonal"`` one of the image's diagonal;
    #: ``""`` a number without a unit; distances and areas are in mm where the
    #: spacing is known, else in pixels.
    unit: Literal["share", "tolerance", "distance", "diagonal", "area", "count", "relative", ""] = "share"
    #: Where it is shown beside ``metrics.json`` and the report's table of all metrics: as a column of
    #: ``cases.csv``, on the console, in the summary box, by subgroup, in the header of a model card, where
    #: the operating point's transfer is told, beside the reliability diagram.
    shown: tuple[Place, ...] = ()
    on_request: bool = False  #: Taken only if it is asked for by name.
    #: How it is taken, where that is not the only way; an entry of ``policy`` in ``metrics.json``.
    policy: str = ""
    images: Literal["lesion", "normal", "all"] = "lesion"  #: Segmentation: images that count.
    #: Classification, kind counts: from a confusion matrix [..., C, C] of more than two classes to a value.
    #: Default: the mean over classes, each against the rest.
    several: Callable[[Any], Any] | None = None
    #: Classification, kind ranks: from (positive, score, groups) to an `Estimate`, instead of the bootstrap.
    interval: Callable[..., Any] | None = None
    #: Classification: it depends on the share of each class, so resamples must let that share vary.
    depends_on_prevalence: bool = False
    overall: Literal["two classes", "any"] = "any"  #: Classification: for how many classes it is given.
    of_positive: bool = False  #: Classification: of two classes, it is of the positive one and names it.
    by_class: bool = True  #: Classification, kinds counts and ranks: also given for each class.

    def heading(self, policy: Mapping[str, Any], *, of_one_class: bool = False) -> str:
        """Return title and unit, class or averaging, such as ``HD95 (mm)`` or ``Sensitivity (COVID)``.

        Parameters
        ----------
        policy : mapping
            ``policy`` of ``metrics.json``: ``distance_unit``, ``nsd_tolerance``, ``positive_class`` and
            ``averaging``.
        of_one_class : bool
            Whether it heads values of single classes, which are averages of nothing.
        """
        unit = str(policy.get("distance_unit", "px"))
        text = {
            "distance": unit,
            "area": f"{unit}²",
            "diagonal": "of the diagonal",
            "tolerance": f"within {policy.get('nsd_tolerance', 0):g} {unit}",
        }.get(self.unit)
        if self.of_positive:
            text = policy.get("positive_class")
        averaged = self.kind in ("counts", "ranks") and self.several is None
        if averaged and not of_one_class and str(policy.get("averaging", "")).startswith("macro"):
            text = "macro, one-vs-rest"
        if not text:
            return self.title
        own, bracket, short = self.title.partition(" (")  # Precision (PPV)
        return f"{own} ({short.removesuffix(')')}; {text})" if bracket else f"{self.title} ({text})"


_NO_LESION = "An image without a lesion has none."
_MISSED_ZERO = f"{_NO_LESION} An empty prediction on a lesion scores 0."
_MISSED_DIAGONAL = f"{_NO_LESION} An empty prediction on a lesion scores the image diagonal."
_BOTH_CLASSES = "Not defined if a class is missing from the truth."
_ALWAYS = "Always defined."

SEGMENTATION: dict[str, Metric] = {
    "dice": Metric(
        title="Dice",
        meaning="Overlap of prediction and truth, mean over lesion images; a missed one is 0.",
        undefined=_MISSED_ZERO,
        kind="mean",
        function=masks.dice,
        shown=("cases", "console", "subgroups", "card"),
    ),
    "iou": Metric(
        title="IoU",
        meaning="Intersection over union, mean over lesion images.",
        undefined=_MISSED_ZERO,
        kind="mean",
        function=masks.iou,
        shown=("cases", "console", "card"),
    ),
    "hd95": Metric(
        title="HD95",
        meaning="95th percentile of the distances between outlines.",
        undefined=_MISSED_DIAGONAL,
        kind="mean",
        function=masks.hd95,
        better="lower",
        unit="distance",
        shown=("cases", "console", "summary", "subgroups", "card"),
        policy="larger of the two directed 95th percentiles of distances between outlines",
    ),
    "hd95_diagonal": Metric(
        title="Relative HD95",
        meaning="HD95 over the image's diagonal: comparable where images differ in scale.",
        undefined=f"{_NO_LESION} An empty prediction on a lesion scores 100 %.",
        kind="mean",
        function=masks.hd95_of_diagonal,
        better="lower",
        unit="diagonal",
    ),
    "nsd": Metric(
        title="NSD",
        meaning="Share of both outlines within the tolerance of each other.",
        undefined=_MISSED_ZERO,
        kind="mean",
        function=masks.nsd,
        unit="tolerance",
        shown=("cases", "console", "subgroups"),
    ),
    "hd": Metric(
        title="Hausdorff distance",
        meaning="Largest distance between outlines.",
        undefined=_MISSED_DIAGONAL,
        kind="mean",
        function=masks.hausdorff,
        better="lower",
        unit="distance",
        shown=("cases",),
    ),
    "assd": Metric(
        title="Surface distance",
        meaning="Average distance between outlines.",
        undefined=_MISSED_DIAGONAL,
        kind="mean",
        function=masks.assd,
        better="lower",
        unit="distance",
        shown=("cases",),
    ),
    "sensitivity": Metric(
        title="Pixel sensitivity",
        meaning="Share of lesion pixels marked, mean over lesion images.",
        undefined=_MISSED_ZERO,
        kind="mean",
        function=masks.pixel_sensitivity,
        shown=("cases",),
    ),
    "specificity": Metric(
        title="Pixel specificity",
        meaning="Share of other pixels left unmarked, mean over lesion images.",
        undefined="A lesion that fills the whole image has none.",
        kind="mean",
        function=masks.pixel_specificity,
        shown=("cases",),
    ),
    "precision": Metric(
        title="Pixel precision",
        meaning="Share of marked pixels that are lesion, mean over lesion images.",
        undefined=_MISSED_ZERO,
        kind="mean",
        function=masks.pixel_precision,
        shown=("cases",),
    ),
    "area_error": Metric(
        title="Area error",
        meaning="Mean of predicted minus true area over lesion images.",
        undefined="An empty prediction on a lesion is minus its area.",
        kind="mean",
        function=masks.area_error,
        better="",
        unit="area",
    ),
    "area_error_relative": Metric(
        title="Relative area error",
        meaning="Mean of the area error over the true area.",
        undefined=f"{_NO_LESION} An empty prediction on a lesion is -100 %.",
        kind="mean",
        function=masks.relative_area_error,
        better="",
        unit="relative",
    ),
    "missed_cases": Metric(
        title="Nothing marked",
        meaning="Share of lesion images on which nothing is marked.",
        undefined="Not defined without lesion images.",
        kind="share",
        function=masks.unmarked,
        better="lower",
        shown=("console", "summary", "subgroups"),
    ),
    "undetected_cases": Metric(
        title="No lesion found",
        meaning="Share of lesion images in which not one lesion is found (hit with IoU of at least 0.1).",
        undefined="Not defined without lesion images.",
        kind="share",
        function=masks.undetected,
        better="lower",
        shown=("console", "summary", "subgroups"),
    ),
    "lesion_sensitivity": Metric(
        title="Lesions found",
        meaning="Share of lesions hit by a predicted region (IoU of at least 0.1).",
        undefined="Not defined without lesions.",
        kind="share",
        function=masks.lesions_found,
        shown=("console", "summary", "subgroups"),
    ),
    "false_positives_per_image": Metric(
        title="False-positive regions per image",
        meaning="Predicted regions that hit no lesion, all images.",
        undefined=_ALWAYS,
        kind="mean",
        function=masks.false_positives,
        images="all",
        better="lower",
        unit="count",
    ),
    "false_positives_per_normal": Metric(
        title="False-positive regions per normal image",
        meaning="Predicted regions on images without a lesion.",
        undefined="Not defined without normal images.",
        kind="mean",
        function=masks.false_positives,
        images="normal",
        better="lower",
        unit="count",
        shown=("console", "summary"),
    ),
    "normal_specificity": Metric(
        title="Normals left unmarked",
        meaning="Share of normal images with an empty prediction.",
        undefined="Not defined without normal images.",
        kind="share",
        function=masks.unmarked,
        images="normal",
    ),
    "cldice": Metric(
        title="clDice",
        meaning="Agreement of the centrelines of tubes, mean over lesion images.",
        undefined=_MISSED_ZERO,
        kind="mean",
        function=masks.cldice,
        shown=("cases",),
        on_request=True,
    ),
}

CLASSIFICATION: dict[str, Metric] = {
    "accuracy": Metric(
        title="Accuracy",
        meaning="Share of cases called correctly.",
        undefined=_ALWAYS,
        kind="counts",
        function=calls.accuracy,
        several=calls.overall_accuracy,
        shown=("console", "summary", "subgroups", "card"),
    ),
    "balanced_accuracy": Metric(
        title="Balanced accuracy",
        meaning="Mean over classes of the share called correctly.",
        undefined=_BOTH_CLASSES,
        kind="counts",
        function=calls.balanced_accuracy,
        several=calls.mean_recall,
        shown=("console", "subgroups", "card", "transfer"),
    ),
    "sensitivity": Metric(
        title="Sensitivity",
        meaning="Share of positives that are called.",
        undefined="Not defined without positives.",
        kind="counts",
        function=calls.sensitivity,
        shown=("console", "summary", "subgroups", "transfer"),
        of_positive=True,
    ),
    "specificity": Metric(
        title="Specificity",
        meaning="Share of negatives that are not called.",
        undefined="Not defined without negatives.",
        kind="counts",
        function=calls.specificity,
        shown=("console", "summary", "subgroups", "transfer"),
        of_positive=True,
    ),
    "precision": Metric(
        title="Precision (PPV)",
        meaning="Share of positive calls that are right.",
        undefined="Not defined if no case is called positive.",
        kind="counts",
        function=calls.precision,
        of_positive=True,
        depends_on_prevalence=True,
    ),
    "npv": Metric(
        title="NPV",
        meaning="Share of negative calls that are right.",
        undefined="Not defined if no case is called negative.",
        kind="counts",
        function=calls.npv,
        of_positive=True,
        depends_on_prevalence=True,
    ),
    "f1": Metric(
        title="F1",
        meaning="Harmonic mean of sensitivity and precision.",
        undefined="Not defined if there are neither positives nor positive calls.",
        kind="counts",
        function=calls.f1,
        shown=("console", "card"),
        of_positive=True,
        depends_on_prevalence=True,
    ),
    "mcc": Metric(
        title="MCC",
        meaning="Correlation of truth and call, -1 to 1.",
        undefined=f"{_BOTH_CLASSES} 0 if all calls are the same.",
        kind="counts",
        function=calls.mcc,
        several=calls.multiclass_mcc,
        unit="",
        depends_on_prevalence=True,
    ),
    "auc": Metric(
        title="AUC",
        meaning="Chance that a positive case scores above a negative one.",
        undefined=_BOTH_CLASSES,
        kind="ranks",
        function=auc_of_weights,
        interval=delong_auc,
        shown=("console", "summary", "subgroups", "card"),
    ),
    "auprc": Metric(
        title="AUPRC",
        meaning="Average precision; chance level is the share of positives.",
        undefined=_BOTH_CLASSES,
        kind="ranks",
        function=average_precision_of_weights,
        shown=("console", "summary"),
        of_positive=True,
        depends_on_prevalence=True,
    ),
    "brier": Metric(
        title="Brier score",
        meaning="Mean squared error of the probabilities.",
        undefined=_ALWAYS,
        kind="losses",
        function=calls.squared_errors,
        better="lower",
        unit="",
        shown=("console", "calibration"),
        depends_on_prevalence=True,
    ),
    "log_loss": Metric(
        title="Log-loss",
        meaning="Mean negative log-likelihood, in nats.",
        undefined="Always defined: a probability of 0 counts as 2.2e-16.",
        kind="losses",
        function=calls.log_losses,
        better="lower",
        unit="",
        shown=("calibration",),
        depends_on_prevalence=True,
    ),
    "ece": Metric(
        title="ECE",
        meaning="Expected calibration error.",
        undefined=_ALWAYS,
        kind="estimate",
        function=calibration_error_estimate,
        better="lower",
        unit="",
        shown=("console", "summary", "calibration"),
        policy="10 bins of equal width",
        depends_on_prevalence=True,
    ),
    "calibration_slope": Metric(
        title="Calibration slope",
        meaning="Slope of the truth on the log-odds; 1 is right, below 1 probabilities are too extreme.",
        undefined=f"{_BOTH_CLASSES} Nor where the probabilities separate the classes completely.",
        kind="estimate",
        function=calibration_slope,
        better="",
        unit="",
        shown=("calibration",),
        overall="two classes",
        of_positive=True,
        depends_on_prevalence=True,
    ),
    "calibration_intercept": Metric(
        title="Calibration intercept",
        meaning="Log-odds by which the finding is more frequent than predicted; 0 is right.",
        undefined=_BOTH_CLASSES,
        kind="estimate",
        function=calibration_intercept,
        better="",
        unit="",
        shown=("calibration",),
        overall="two classes",
        of_positive=True,
        depends_on_prevalence=True,
    ),
    "sensitivity_at_90_specificity": Metric(
        title="Sensitivity at 90 % specificity",
        meaning="Read off the ROC curve of these cases, not a chosen operating point.",
        undefined=_BOTH_CLASSES,
        kind="ranks",
        function=sensitivity_at_90_specificity,
        overall="two classes",
        by_class=False,
        of_positive=True,
    ),
    "ppv_at_prevalence": Metric(
        title="PPV at the stated prevalence",
        meaning="By Bayes' theorem.",
        undefined="Given if a prevalence is stated; not defined if no case can be called positive.",
        kind="estimate",
        function=calls.ppv_estimate,
        overall="two classes",
        of_positive=True,
    ),
    "npv_at_prevalence": Metric(
        title="NPV at the stated prevalence",
        meaning="By Bayes' theorem.",
        undefined="Given if a prevalence is stated; not defined if no case can be called negative.",
        kind="estimate",
        function=calls.npv_estimate,
        overall="two classes",
        of_positive=True,
    ),
}

# In the order of the tables and of metrics.json.
METRICS: dict[str, dict[str, Metric]] = {"segmentation": SEGMENTATION, "classification": CLASSIFICATION}


def shown_in(place: Place, task: str) -> list[str]:
    """Return the names of the metrics that are shown in a place, in order."""
    return [name for name, row in METRICS[task].items() if place in row.shown]


def check_request(names: Iterable[str], task: str) -> None:
    """Check that metrics asked for by name are among those that are taken on request.

    Raises
    ------
    InputError
        If one is not; the nearest name is offered.
    """
    offered = [name for name, row in METRICS[task].items() if row.on_request]
    for name in names:
        if name in METRICS[task] and name not in offered:
            raise InputError(f"The metric '{name}' is always taken.", "Leave it out of --metrics.")
        if name not in offered:
            raise unknown_name(f"{task} metric on request", name, offered or ("none",))


def main_metric(task: str, n_classes: int) -> str:
    """Return the metric that a report opens with: Dice, AUC of two classes, or balanced accuracy of more."""
    if task == "segmentation":
        return "dice"
    return "auc" if n_classes == 2 else "balanced_accuracy"
