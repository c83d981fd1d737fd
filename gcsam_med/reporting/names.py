"""What the figures are called and in which order they are shown."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MetricName:
    """A figure's name for people."""

    title: str  #: Name, as in a table.
    meaning: str  #: One sentence.
    better: str = "higher"  #: ``"higher"``, ``"lower"`` or ``""``.
    #: ``"share"`` (0 to 1), ``"tolerance"`` (a share at a distance), ``"distance"``, ``"area"``, ``"count"``
    #: or ``""``.
    unit: str = "share"


# In the order of the tables.
METRIC_NAMES: dict[str, MetricName] = {
    "dice": MetricName(
        "Dice", "Overlap of prediction and truth, mean over lesion images; a missed one is 0."
    ),
    "iou": MetricName("IoU", "Intersection over union, mean over lesion images."),
    "hd95": MetricName("HD95", "95th percentile of the distances between outlines.", "lower", "distance"),
    "hd": MetricName("Hausdorff distance", "Largest distance between outlines.", "lower", "distance"),
    "assd": MetricName("Surface distance", "Average distance between outlines.", "lower", "distance"),
    "nsd": MetricName(
        "NSD", "Share of both outlines within the tolerance of each other.", "higher", "tolerance"
    ),
    "lesion_sensitivity": MetricName("Lesions found", "Share of lesions hit by a predicted region."),
    "false_positives_per_image": MetricName(
        "False regions an image", "Predicted regions that hit no lesion, all images.", "lower", "count"
    ),
    "false_positives_per_normal": MetricName(
        "False regions a normal image", "The same on images without a lesion.", "lower", "count"
    ),
    "normal_specificity": MetricName(
        "Normals left unmarked", "Share of normal images with an empty prediction."
    ),
    "missed_cases": MetricName("Missed images", "Share of lesion images with an empty prediction.", "lower"),
    "accuracy": MetricName("Accuracy", "Share of cases called rightly."),
    "balanced_accuracy": MetricName("Balanced accuracy", "Mean over classes of the share called rightly."),
    "auc": MetricName("AUC", "Chance that a positive case scores above a negative one."),
    "auprc": MetricName("AUPRC", "Average precision; chance level is the share of positives."),
    "sensitivity": MetricName("Sensitivity", "Share of positives that are called."),
    "specificity": MetricName("Specificity", "Share of negatives that are not called."),
    "precision": MetricName("Precision (PPV)", "Share of positive calls that are right."),
    "npv": MetricName("NPV", "Share of negative calls that are right."),
    "f1": MetricName("F1", "Harmonic mean of sensitivity and precision."),
    "mcc": MetricName("MCC", "Correlation of truth and call, -1 to 1.", "higher", ""),
    "sensitivity_at_90_specificity": MetricName(
        "Sensitivity at 90 % specificity",
        "Read off the ROC curve of these cases, not a chosen operating point.",
    ),
    "ppv_at_prevalence": MetricName("PPV at the stated prevalence", "By Bayes' theorem."),
    "npv_at_prevalence": MetricName("NPV at the stated prevalence", "By Bayes' theorem."),
    "brier": MetricName("Brier score", "Mean squared error of the probabilities.", "lower", ""),
    "log_loss": MetricName("Log-loss", "Mean negative log-likelihood, in nats.", "lower", ""),
    "ece": MetricName("ECE", "Expected calibration error.", "lower", ""),
    "area_error": MetricName("Area error", "Mean of predicted minus true area.", "", "area"),
    "area_error_relative": MetricName("Relative area error", "The same, over the true area.", "", ""),
}

# Pixels are what is counted in a segmentation.
PIXEL_TITLES = {
    "sensitivity": MetricName("Pixel sensitivity", "Share of lesion pixels marked, mean over lesion images."),
    "specificity": MetricName("Pixel specificity", "Share of other pixels left unmarked, mean over images."),
    "precision": MetricName("Pixel precision", "Share of marked pixels that are lesion, mean over images."),
}


def metric_name(key: str, task: str = "classification") -> MetricName:
    """Return a figure's name for people; an unknown key names itself."""
    if task == "segmentation" and key in PIXEL_TITLES:
        return PIXEL_TITLES[key]
    return METRIC_NAMES.get(key, MetricName(key.replace("_", " ").capitalize(), "", "", ""))


def in_order(keys: list[str]) -> list[str]:
    """Sort keys of figures as tables show them; unknown ones last."""
    order = list(METRIC_NAMES)
    return sorted(keys, key=lambda key: order.index(key) if key in order else len(order))
