"""Figures of a segmentation. Each takes a report and returns a matplotlib figure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from gcsam_med.reporting.report import Report
from gcsam_med.reporting.style import COLOURS, MARKERS, SERIES, label, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def lesions(report: Report) -> pd.DataFrame:
    """Return the cases that hold a lesion."""
    return report.cases[report.cases["dice"].notna()]


def area_unit(report: Report) -> str:
    """Return the unit of areas, for an axis."""
    return "mm²" if str(report.cases["area_unit"].iloc[0]) == "mm2" else "pixels"


def dice_distribution(report: Report) -> Figure:
    """Dice of every lesion image, by class: box, and a dot a case."""
    table = lesions(report)
    parts = [
        (str(name) or "all", part["dice"].to_numpy()) for name, part in table.groupby("label", sort=True)
    ]
    figure, axes = new_figure(5.2, 0.9 + 0.75 * len(parts))
    rng = np.random.default_rng(0)  # only spreads the dots
    for k, (_, values) in enumerate(parts):
        colour = COLOURS[SERIES[k % len(SERIES)]]
        axes.boxplot(
            values,
            positions=[k],
            orientation="horizontal",
            widths=0.5,
            showfliers=False,
            medianprops={"color": COLOURS["ink"], "linewidth": 1.6},
            boxprops={"color": COLOURS["muted"]},
            whiskerprops={"color": COLOURS["muted"]},
            capprops={"color": COLOURS["muted"]},
        )
        axes.plot(
            values,
            k + rng.uniform(-0.2, 0.2, len(values)),
            MARKERS[k % len(MARKERS)],
            color=colour,
            markersize=3.2,
            alpha=0.65,
            markeredgewidth=0,
        )
    axes.set_yticks(range(len(parts)), [f"{label(name)} ({len(values)})" for name, values in parts])
    axes.set(xlim=(-0.02, 1.02), ylim=(len(parts) - 0.45, -0.55), xlabel="Dice")
    return figure


def size_dice(report: Report) -> Figure:
    """Dice against the lesion's area: small lesions are the hard ones."""
    from matplotlib.ticker import LogLocator, NullLocator

    table = lesions(report)
    figure, axes = new_figure(5.2, 3.6)
    for k, (name, part) in enumerate(table.groupby("label", sort=True)):
        axes.plot(
            part["area_truth"],
            part["dice"],
            MARKERS[k % len(MARKERS)],
            color=COLOURS[SERIES[k % len(SERIES)]],
            markersize=4,
            alpha=0.7,
            markeredgewidth=0,
            label=label(str(name)) or "all",
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(ylim=(-0.02, 1.02), xlabel=f"True area ({area_unit(report)}, log scale)", ylabel="Dice")
    axes.legend(loc="lower right")
    return figure


def bland_altman(report: Report) -> Figure:
    """Difference against mean of predicted and true area, with bias and limits of agreement."""
    table = lesions(report)
    mean = (table["area_predicted"] + table["area_truth"]) / 2
    difference = table["area_predicted"] - table["area_truth"]
    bias, spread = float(difference.mean()), float(difference.std(ddof=1)) if len(table) > 1 else 0.0
    figure, axes = new_figure(5.2, 3.6)
    axes.plot(mean, difference, "o", color=COLOURS["series-1"], markersize=4, alpha=0.6, markeredgewidth=0)
    axes.axhline(0, color=COLOURS["rule"], linewidth=1)
    axes.axhline(bias, color=COLOURS["series-2"], linewidth=1.4, label=f"bias {bias:,.0f}")
    for sign, text in ((-1, None), (1, f"limits of agreement {bias - 1.96 * spread:,.0f} to "
                                       f"{bias + 1.96 * spread:,.0f}")):  # fmt: skip
        axes.axhline(
            bias + sign * 1.96 * spread, color=COLOURS["series-2"], linestyle="--", linewidth=1.1, label=text
        )
    unit = area_unit(report)
    axes.set(xlabel=f"Mean of predicted and true area ({unit})", ylabel=f"Predicted - true area ({unit})")
    axes.legend(loc="best")
    return figure


def threshold_sweep(report: Report) -> Figure:
    """Mean Dice at every threshold, where it was chosen and where it is used."""
    table = report.curves["sweep"]
    figure, axes = new_figure(5.2, 3.2)
    names = [c for c in table.columns if c != "threshold"]
    for k, name in enumerate(names):
        axes.plot(
            table["threshold"], table[name], ("-", "--")[k % 2], color=COLOURS[SERIES[k]], label=str(name)
        )
    axes.axvline(report.operating.threshold, color=COLOURS["muted"], linestyle=":", linewidth=1)
    axes.set(xlim=(0, 1), xlabel="Threshold on the probability of foreground", ylabel="Mean Dice")
    axes.legend(loc="best")
    return figure
