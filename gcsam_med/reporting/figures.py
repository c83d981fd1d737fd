"""The table of figures: what each shows, when it can be drawn, and what it says in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gcsam_med.reporting import figures_classification as classification
from gcsam_med.reporting import figures_segmentation as segmentation
from gcsam_med.reporting import figures_sharpness as sharpness
from gcsam_med.reporting.names import metric_name
from gcsam_med.reporting.report import Report
from gcsam_med.reporting.style import COLOURS, LINES, SERIES, label, look, new_figure, to_png, to_svg

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def history(report: Report) -> Figure:
    """Losses and validation metrics, epoch by epoch."""
    table = report.history
    assert table is not None  # noqa: S101  (the table of figures asks first)
    figure, left = new_figure(7.0, 3.2)
    figure.delaxes(left)
    left, right = figure.subplots(1, 2)
    losses = [c for c in ("train_loss", "val_loss") if c in table]
    for axes, columns, title in ((left, losses, "Loss"), (right, _val_metrics(table), "On validation")):
        for k, column in enumerate(columns[:4]):
            name = column.removeprefix("val_") if axes is right else column.replace("_", " ")
            axes.plot(table["epoch"], table[column], LINES[k], color=COLOURS[SERIES[k]], label=name)
        axes.axvline(report.model.epoch, color=COLOURS["muted"], linestyle=":", linewidth=1)
        axes.set(xlabel="Epoch", title=title)
        if columns:
            axes.legend(loc="best")
    return figure


def _val_metrics(table: pd.DataFrame) -> list[str]:
    return [c for c in table.columns if c.startswith("val_") and c != "val_loss" and table[c].notna().any()]


def subgroups(report: Report) -> Figure:
    """The main figure of every subgroup with its interval, the overall figure as a line."""
    key = report.main_metric
    parts = [p for p in report.subgroups if p.estimates[key].value is not None]
    overall = report.metrics[key].value
    figure, axes = new_figure(5.2, 0.9 + 0.26 * len(parts))
    for i, part in enumerate(parts):
        estimate = part.estimates[key]
        colour = COLOURS["muted" if part.small else "series-1"]
        if estimate.ci95 is not None:
            axes.plot(estimate.ci95, (i, i), "-", color=colour, linewidth=1.4)
        if estimate.value is None:
            continue
        axes.plot(estimate.value, i, "o", color=colour, markersize=4.5, markerfacecolor=(
            COLOURS["paper"] if part.small else colour))  # fmt: skip
    if overall is not None:
        axes.axvline(overall, color=COLOURS["series-2"], linestyle="--", linewidth=1)
    axes.set_yticks(range(len(parts)), [f"{label(f'{p.column}: {p.value}', 40)}  (n={p.n})" for p in parts])
    axes.set(ylim=(len(parts) - 0.4, -0.6), xlabel=metric_name(key, report.task).title, xlim=(-0.02, 1.02))
    return figure


@dataclass(frozen=True)
class FigureSpec:
    """A figure of the report."""

    title: str  #: Heading.
    caption: str  #: How to read it; one or two sentences.
    draw: Callable[[Report], Figure]  #: Report to matplotlib figure.
    there: Callable[[Report], bool]  #: Whether the report holds what it needs.
    words: Callable[[Report], str]  #: What it shows, for those who cannot see it.


def _value(report: Report, key: str) -> str:
    from gcsam_med.reporting.text import estimate_text

    name = metric_name(key, report.task).title
    return f"{name} {estimate_text(report.metrics[key])}." if key in report.metrics else ""


def _has_lesions(report: Report) -> bool:
    return report.task == "segmentation" and bool(report.cases["dice"].notna().any())


def _confusion_words(report: Report) -> str:
    names = list(report.data.classes)
    rows = report.confusion.tolist() if report.confusion is not None else []
    return " ".join(
        f"Of {sum(row)} {name}: {', '.join(f'{n} called {x}' for n, x in zip(row, names, strict=True))}."
        for name, row in zip(names, rows, strict=True)
    )


# In the order of the report. The key is the file name under figures/.
FIGURES: dict[str, FigureSpec] = {
    "dice": FigureSpec(
        "Dice, case by case",
        "Each mark is a lesion image; the box holds the middle half, its line is the median.",
        segmentation.dice_distribution,
        _has_lesions,
        lambda r: f"Box plot of Dice by class. {_value(r, 'dice')}",
    ),
    "size_dice": FigureSpec(
        "Lesion size and Dice",
        "Small lesions lose more Dice for the same error of the outline.",
        segmentation.size_dice,
        _has_lesions,
        lambda r: "Scatter of Dice against the true area of each lesion image.",
    ),
    "bland_altman": FigureSpec(
        "Agreement of area (Bland-Altman)",
        "Each mark is a lesion image. The bias is the mean difference; 95 % of differences are expected "
        "between the limits of agreement if they are spread normally.",
        segmentation.bland_altman,
        _has_lesions,
        lambda r: f"Difference against mean of predicted and true area. {_value(r, 'area_error')}",
    ),
    "threshold": FigureSpec(
        "Threshold and Dice",
        "The threshold (dotted) was chosen on validation. The other curve shows how it transfers; it took no "
        "part in the choice.",
        segmentation.threshold_sweep,
        lambda r: r.task == "segmentation" and "sweep" in r.curves,
        lambda r: f"Mean Dice at every threshold; {r.operating.threshold:.2f} is used.",
    ),
    "roc": FigureSpec(
        "ROC curve",
        "With more than two classes, each class against the rest.",
        classification.roc,
        lambda r: "roc" in r.curves,
        lambda r: f"Receiver operating characteristic. {_value(r, 'auc')}",
    ),
    "pr": FigureSpec(
        "Precision-recall curve",
        "Unlike the ROC curve it depends on how frequent the positive class is in these data.",
        classification.precision_recall,
        lambda r: "pr" in r.curves,
        lambda r: f"Precision against recall. {_value(r, 'auprc')}",
    ),
    "confusion": FigureSpec(
        "Confusion matrix",
        "Numbers of cases and shares of each row (true class), at the operating point.",
        classification.confusion,
        lambda r: r.confusion is not None,
        _confusion_words,
    ),
    "scores": FigureSpec(
        "Probabilities by true class",
        "The dotted line is the operating point.",
        classification.scores,
        lambda r: r.task == "classification" and len(r.data.classes) == 2,
        lambda r: "Histogram of the probability of the positive class for each true class.",
    ),
    "calibration": FigureSpec(
        "Calibration",
        "On the diagonal a predicted 70 % comes true in 70 % of cases. Bins of equal width; bars are 95 % "
        "Wilson intervals.",
        classification.reliability,
        lambda r: r.calibration is not None,
        lambda r: f"Reliability diagram. {_value(r, 'ece')}",
    ),
    "decision": FigureSpec(
        "Decision curve",
        "Net benefit weighs true against false positives at the odds of the threshold probability. Where the "
        "model's line is not above both others, it is of no use for a decision at that threshold.",
        classification.decision,
        lambda r: "decision" in r.curves,
        lambda r: "Net benefit of the model, of acting on all and of acting on none, by threshold.",
    ),
    "subgroups": FigureSpec(
        "Subgroups",
        "Bars are 95 % intervals, the dashed line is the figure of all cases. Hollow grey marks rest on "
        "so few cases that they may mislead.",
        subgroups,
        lambda r: any(p.estimates[r.main_metric].value is not None for p in r.subgroups),
        lambda r: (
            f"{metric_name(r.main_metric, r.task).title} in {len(r.subgroups)} subgroups with intervals."
        ),
    ),
    "training": FigureSpec(
        "Training",
        "The dotted line is the epoch whose weights were kept, chosen on validation.",
        history,
        lambda r: r.history is not None and len(r.history) > 1,
        lambda r: f"Loss and validation metrics by epoch; epoch {r.model.epoch} was kept.",
    ),
    "sharpness_line": FigureSpec(
        "Loss along a line",
        "The loss on a line through the weights, along a random direction whose filters are as long as the "
        "network's (Li et al. 2018). The wider the valley, the flatter the minimum.",
        sharpness.line_of_report,
        lambda r: bool(r.sharpness.get("line")),
        sharpness.words,
    ),
    "sharpness_surface": FigureSpec(
        "Loss on a square",
        "The same along two directions; the cross is the trained network.",
        sharpness.surface_of_report,
        lambda r: bool(r.sharpness.get("surface")),
        sharpness.words,
    ),
}


@dataclass(frozen=True)
class Drawn:
    """A figure, drawn."""

    key: str  #: File name without ending.
    spec: FigureSpec  #: What it is.
    words: str  #: What it shows, in words.
    svg: str  #: An SVG document.
    png: bytes  #: The same as PNG, 200 dpi.


def draw_all(report: Report) -> list[Drawn]:
    """Draw every figure the report has the data for, in order."""
    drawn = []
    for key, spec in FIGURES.items():
        if spec.there(report):
            with look():
                figure = spec.draw(report)
            drawn.append(Drawn(key, spec, spec.words(report), to_svg(figure), to_png(figure)))
    return drawn
