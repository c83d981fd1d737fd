"""Figures of a classification. Each takes a report and returns a matplotlib figure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from gcsam_med.reporting.report import Report
from gcsam_med.reporting.style import COLOURS, LINES, SERIES, label, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def _square(axes: Axes, x: str, y: str) -> None:
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel=x, ylabel=y)
    axes.set_aspect("equal")


def _by_class(axes: Axes, table: pd.DataFrame, x: str, y: str, *, step: bool = False) -> None:
    for k, (name, part) in enumerate(table.groupby("class", sort=False)):
        axes.plot(
            part[x],
            part[y],
            LINES[k % len(LINES)],
            color=COLOURS[SERIES[k % len(SERIES)]],
            label=label(str(name)),
            drawstyle="steps-post" if step else "default",
        )


def roc(report: Report) -> Figure:
    """Sensitivity against false positive rate, with the operating point."""
    figure, axes = new_figure(5.2, 4.4)
    axes.plot([0, 1], [0, 1], ":", color=COLOURS["muted"], linewidth=1, label="chance")
    _by_class(axes, report.curves["roc"], "false_positive_rate", "sensitivity")
    if len(report.data.classes) == 2:
        sens, spec = report.metrics["sensitivity"].value, report.metrics["specificity"].value
        if sens is not None and spec is not None:
            at = f"operating point {report.operating.threshold:.3g}"
            axes.plot(1 - spec, sens, "D", color=COLOURS["series-2"], markersize=6, label=at)
    _square(axes, "1 - specificity", "Sensitivity")
    axes.legend(loc="lower right")
    return figure


def precision_recall(report: Report) -> Figure:
    """Precision against sensitivity."""
    figure, axes = new_figure(5.2, 4.4)
    table = report.curves["pr"]
    _by_class(axes, table, "recall", "precision", step=True)
    if len(report.data.classes) == 2:
        positives = list(report.data.classes.values())[1]
        share = positives / max(report.data.n_cases, 1)
        axes.axhline(share, linestyle=":", color=COLOURS["muted"], linewidth=1, label=f"chance ({share:.2f})")
    _square(axes, "Sensitivity (recall)", "Precision (PPV)")
    axes.legend(loc="lower left")
    return figure


def reliability(report: Report) -> Figure:
    """Observed frequency against predicted probability, before and after temperature scaling."""
    calibration = report.calibration
    assert calibration is not None  # noqa: S101  (the table of figures asks first)
    figure, axes = new_figure(5.2, 4.4)
    axes.plot([0, 1], [0, 1], ":", color=COLOURS["muted"], linewidth=1, label="perfect")
    curves = [("as the network gives them", calibration.curve_before)]
    if calibration.curve_after is not None:
        curves.append((f"after temperature {calibration.temperature:.2f}", calibration.curve_after))
    for k, (name, curve) in enumerate(curves):
        spread = [curve["observed"] - curve["low"], curve["high"] - curve["observed"]]
        axes.errorbar(
            curve["predicted"],
            curve["observed"],
            yerr=np.clip(spread, 0, None),
            fmt=("o-", "s--")[k],
            color=COLOURS[SERIES[k]],
            markersize=4,
            elinewidth=0.8,
            label=name,
        )
    _square(axes, "Predicted probability", "Observed frequency")
    axes.legend(loc="upper left")
    return figure


def decision(report: Report) -> Figure:
    """Net benefit of acting on the model against acting on all or on none."""
    table = report.curves["decision"]
    figure, axes = new_figure(5.2, 3.6)
    axes.plot(table["threshold"], table["model"], "-", color=COLOURS["series-1"], label="model")
    axes.plot(table["threshold"], table["treat_all"], "--", color=COLOURS["series-2"], label="act on all")
    axes.axhline(0, linestyle=":", color=COLOURS["muted"], label="act on none")
    top = max(float(table["model"].max()), float(table["treat_all"].max()), 0.05)
    axes.set(xlim=(0, 1), ylim=(-0.1 * top - 0.02, 1.1 * top), xlabel="Threshold probability")
    axes.set_ylabel("Net benefit")
    axes.legend(loc="upper right")
    return figure


def confusion(report: Report) -> Figure:
    """Cases by truth and call, with the share of each row."""
    matrix = np.asarray(report.confusion)
    names = [label(name, 16) for name in report.data.classes]
    n = len(names)
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    figure, axes = new_figure(5.2, 1.2 + 0.8 * n)
    axes.grid(visible=False)
    for i in range(n):
        for j in range(n):
            # The number says how many; the depth of the tint only helps the eye, so it stays pale.
            axes.add_patch(
                _cell(j, i, COLOURS["fill-1" if i == j else "fill-2"], alpha=float(0.15 + 0.85 * share[i, j]))
            )
            axes.text(j, i, f"{matrix[i, j]}\n{share[i, j]:.0%}", ha="center", va="center")
    axes.set(xlim=(-0.5, n - 0.5), ylim=(n - 0.5, -0.5), xlabel="Called", ylabel="Truth")
    axes.set_xticks(range(n), names, rotation=30 if n > 3 else 0, ha="right" if n > 3 else "center")
    axes.set_yticks(range(n), names)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure


def _cell(x: int, y: int, colour: str, alpha: float):  # type: ignore[no-untyped-def]
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.48, y - 0.48), 0.96, 0.96, facecolor=colour, alpha=alpha, edgecolor="none")


def scores(report: Report) -> Figure:
    """Probability of the positive class, by true class."""
    positive = list(report.data.classes)[1]
    figure, axes = new_figure(5.2, 3.2)
    edges = np.linspace(0, 1, 21).tolist()
    for k, (name, part) in enumerate(report.cases.groupby("label", sort=False)):
        axes.hist(
            part[f"prob_{positive}"],
            edges,
            histtype="step",
            linestyle=LINES[k],
            color=COLOURS[SERIES[k]],
            linewidth=1.6,
            label=f"{label(str(name))} ({len(part)})",
        )
    axes.axvline(report.operating.threshold, color=COLOURS["muted"], linewidth=1, linestyle=":")
    axes.set(xlim=(0, 1), xlabel=f"Probability of {label(positive)}", ylabel="Cases")
    axes.legend()
    return figure
