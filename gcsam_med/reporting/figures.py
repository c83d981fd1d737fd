"""The figures of a report: what each shows, when it can be drawn, and what it says in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gcsam_med.metrics.table import METRICS
from gcsam_med.reporting.report import Report
from gcsam_med.reporting.style import COLOURS, LINES, MARKERS, SERIES, Drawn, label, look, new_figure
from gcsam_med.reporting.text import estimate_text

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Measured = Mapping[str, Any]  # content of sharpness.json


def lesions(report: Report) -> pd.DataFrame:
    """Return the cases that hold a lesion."""
    return report.cases[report.cases["dice"].notna()]


def area_unit(report: Report) -> str:
    """Return the unit of areas, for an axis."""
    return "mm²" if str(report.cases["area_unit"].iloc[0]) == "mm2" else "pixels"


def dice_distribution(report: Report) -> Figure:
    """Dice of every lesion image, by class: box, and a dot for each case."""
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
    plain_ticks(axes.xaxis)
    axes.set(ylim=(-0.02, 1.02), xlabel=f"True area ({area_unit(report)}, log scale)", ylabel="Dice")
    axes.legend(loc="lower right")
    return figure


def plain_ticks(axis: Any) -> None:
    """Write 1, 2, 5, 10 ... on a logarithmic axis: formulas are not set, so powers would stand there raw."""
    from matplotlib.ticker import LogLocator, NullLocator

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 10 else f"{value:g}")
    axis.set_minor_locator(NullLocator())


PROPORTIONAL = 0.5  # correlation of difference and mean


def is_proportional(report: Report) -> bool:
    """Whether the error of the area grows with the area so clearly that ratios tell more than differences."""
    table = _areas(report, ratios=True)
    mean, difference = _mean_and_difference(table)
    spread = len(table) >= 10 and mean.std() > 0 and difference.std() > 0
    return bool(spread and abs(np.corrcoef(mean, difference)[0, 1]) >= PROPORTIONAL)


def _areas(report: Report, *, ratios: bool) -> pd.DataFrame:
    table = lesions(report)
    return table[table["area_predicted"] > 0] if ratios else table


def _mean_and_difference(table: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    predicted, truth = table["area_predicted"], table["area_truth"]
    return (predicted + truth) / 2, predicted - truth


def bland_altman(report: Report) -> Figure:
    """Difference (or, where errors grow with the area, ratio) against mean of predicted and true area."""
    ratios, unit = is_proportional(report), area_unit(report)
    table = _areas(report, ratios=ratios)
    mean, difference = _mean_and_difference(table)
    errors = difference.to_numpy(dtype=float)
    if ratios:
        errors = np.log(table["area_predicted"].to_numpy(float) / table["area_truth"].to_numpy(float))
    bias, spread = float(errors.mean()), float(errors.std(ddof=1)) if len(table) > 1 else 0.0
    # Logarithms are drawn as the ratios they stand for.
    back, digits = (np.exp, ".2f") if ratios else (float, ",.0f")
    low, high = back(bias - 1.96 * spread), back(bias + 1.96 * spread)
    figure, axes = new_figure(5.2, 3.6)
    axes.plot(
        mean, np.exp(errors) if ratios else errors, "o", color=COLOURS["series-1"], markersize=4, alpha=0.6,
        markeredgewidth=0,
    )  # fmt: skip
    axes.axhline(back(0.0), color=COLOURS["rule"], linewidth=1)
    axes.axhline(back(bias), color=COLOURS["series-2"], linewidth=1.4, label=f"bias {back(bias):{digits}}")
    for end, text in ((low, None), (high, f"limits of agreement {low:{digits}} to {high:{digits}}")):
        axes.axhline(end, color=COLOURS["series-2"], linestyle="--", linewidth=1.1, label=text)
    if ratios:
        axes.set_yscale("log")
        plain_ticks(axes.yaxis)
    ylabel = "Predicted over true area" if ratios else f"Predicted - true area ({unit})"
    axes.set(xlabel=f"Mean of predicted and true area ({unit})", ylabel=ylabel)
    axes.legend(loc="best")
    return figure


def _bland_altman_caption(report: Report) -> str:
    if not is_proportional(report):
        return (
            "Each mark is a lesion image. The bias is the mean difference; 95 % of differences are expected "
            "between the limits of agreement if they are spread normally."
        )
    missed = len(lesions(report)) - len(_areas(report, ratios=True))
    left = f" Images on which nothing was marked ({missed}) have no ratio and are left out." if missed else ""
    return (
        "Each mark is a lesion image. The error grows with the area, so ratios are shown on a logarithmic "
        "axis: the bias is their geometric mean, and 95 % are expected between the limits if their "
        f"logarithms are spread normally.{left}"
    )


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
            point = f"{report.operating.threshold:.3g}"
            at = f"operating point {'of each model' if report.folds else point}"
            axes.plot(1 - spec, sens, "D", color=COLOURS["series-2"], markersize=6, label=at)
    for k, reader in enumerate(report.readers, start=1):
        points = [
            (1 - spec.value, sens.value)
            for _, sens, spec in reader.cuts
            if sens.value is not None and spec.value is not None
        ]
        axes.plot(
            *zip((1, 1), *points, (0, 0), strict=True),
            LINES[k % len(LINES)],
            marker=MARKERS[k % len(MARKERS)],
            color=COLOURS[SERIES[(k + 1) % len(SERIES)]],
            linewidth=0.9,
            markersize=5,
            label=label(f"reader: {reader.column}"),
        )
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
    assert calibration is not None  # noqa: S101  (the table of figures checks first)
    figure, axes = new_figure(5.2, 4.4)
    axes.plot([0, 1], [0, 1], ":", color=COLOURS["muted"], linewidth=1, label="perfect")
    curves = [("as the network gives them", calibration.curve_before)]
    if calibration.curve_after is not None:
        curves.append(("after temperature scaling", calibration.curve_after))
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
    axes.fill_between(table["threshold"], table["low"], table["high"], color=COLOURS["fill-1"], linewidth=0)
    axes.plot(table["threshold"], table["model"], "-", color=COLOURS["series-1"], label="model (95 % CI)")
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
    axes.set(xlim=(-0.5, n - 0.5), ylim=(n - 0.5, -0.5), xlabel="Predicted", ylabel="Truth")
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
    if not report.folds:  # pooled models have a threshold each
        axes.axvline(report.operating.threshold, color=COLOURS["muted"], linewidth=1, linestyle=":")
    axes.set(xlim=(0, 1), xlabel=f"Probability of {label(positive)}", ylabel="Cases")
    axes.legend()
    return figure


def history(report: Report) -> Figure:
    """Losses and validation metrics, epoch by epoch."""
    table = report.history
    assert table is not None  # noqa: S101  (the table of figures checks first)
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
    """The main metric of every subgroup with its interval, the overall value as a line."""
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
    axes.set(ylim=(len(parts) - 0.4, -0.6), xlabel=METRICS[report.task][key].title, xlim=(-0.02, 1.02))
    return figure


def loss_lines(measured: Sequence[Measured]) -> Figure:
    """Draw the loss on a line through the weights, of several runs over each other.

    `measured` are contents of ``sharpness.json``; those without a line are left out.
    """
    figure, axes = new_figure(5.2, 3.6)
    for number, one in enumerate(m for m in measured if m.get("line")):
        axes.plot(
            one["line"]["positions"],
            _numbers(one["line"]["losses"]),
            LINES[number % len(LINES)],
            color=COLOURS[SERIES[number % len(SERIES)]],
            label=label(f"{one['run']} ({one['optimizer']})", 40),
        )
    axes.set(xlabel="Step along a random direction, in filter sizes", ylabel="Loss")
    axes.legend(loc="best")
    _stamp(figure, any(one.get("synthetic") for one in measured))
    return figure


def loss_surface(one: Measured) -> Figure:
    """Draw the loss on a square around the weights as contour lines, from a ``sharpness.json``."""
    figure, axes = new_figure(4.6, 3.8)
    positions, losses = np.array(one["surface"]["positions"]), _numbers(one["surface"]["losses"])
    filled = axes.contourf(positions, positions, losses.T, levels=20, cmap="viridis")
    axes.contour(positions, positions, losses.T, levels=20, colors="white", linewidths=0.4)
    axes.plot(0, 0, "+", color="white", markersize=12)
    figure.colorbar(filled, ax=axes, label="Loss")
    axes.set(xlabel="First direction, in filter sizes", ylabel="Second direction", aspect="equal")
    _stamp(figure, bool(one.get("synthetic")))
    return figure


def words(report: Report) -> str:
    """What was measured, in words."""
    measured = report.sharpness
    hessian, worst = measured["hessian"], measured["worst_loss"]
    return (
        f"Largest Hessian eigenvalue {hessian['largest'][0]:.3g}; the loss rises by {worst['increase']:.3g} "
        f"within {worst['rho']:g} of the weights."
    )


def _numbers(losses: Any) -> np.ndarray:
    """Losses with NaN for what was not finite, and so is None in JSON."""
    return np.array(losses, dtype=object).astype(float)


def _stamp(figure: Figure, synthetic: bool) -> None:
    if synthetic:
        figure.text(0.99, 0.01, "synthetic images", ha="right", va="bottom", color=COLOURS["muted"])


@dataclass(frozen=True)
class FigureSpec:
    """A figure of the report."""

    title: str  #: Heading.
    caption: str | Callable[[Report], str]  #: How to read it; one or two sentences.
    draw: Callable[[Report], Figure]  #: Report to matplotlib figure.
    there: Callable[[Report], bool]  #: Whether the report holds what it needs.
    words: Callable[[Report], str]  #: What it shows, for those who cannot see it.


def _value(report: Report, key: str) -> str:
    name = METRICS[report.task][key].title
    return f"{name} {estimate_text(report.metrics[key])}." if key in report.metrics else ""


def _has_lesions(report: Report) -> bool:
    return report.task == "segmentation" and bool(report.cases["dice"].notna().any())


def _threshold_caption(report: Report) -> str:
    chosen = {
        "validation": "was chosen on validation",
        "given": "was given by the user",
        "default": "was not chosen on validation",
    }[report.operating.chosen_on]
    both = len(report.curves["sweep"].columns) > 2
    transfer = " The other curve shows how it transfers; it took no part in the choice." if both else ""
    return f"The threshold (dotted) {chosen}.{transfer}"


def _confusion_words(report: Report) -> str:
    names = list(report.data.classes)
    rows = report.confusion.tolist() if report.confusion is not None else []
    return " ".join(
        f"Of {sum(row)} {name}: {', '.join(f'{n} predicted {x}' for n, x in zip(row, names, strict=True))}."
        for name, row in zip(names, rows, strict=True)
    )


def _decision_caption(report: Report) -> str:
    n, (_, positive) = sum(report.data.classes.values()), report.data.classes
    found = report.data.classes[positive]
    which = report.policy.get("decision_curve") or "probabilities as the network gives them"
    return (
        f"{n} cases, {found} {positive} (prevalence {100 * found / max(n, 1):.0f} %); {which}. Net benefit "
        "weighs true against false positives at the odds of the threshold probability; the band is its 95 % "
        "interval at each threshold. Where the model's line is not above both others, it is of no use for a "
        "decision at that threshold; at another prevalence the curves differ."
    )


# In the order of the report. The key is the file name under figures/.
FIGURES: dict[str, FigureSpec] = {
    "dice": FigureSpec(
        "Dice, case by case",
        "Each mark is a lesion image; the box holds the middle half, its line is the median.",
        dice_distribution,
        _has_lesions,
        lambda r: f"Box plot of Dice by class. {_value(r, 'dice')}",
    ),
    "size_dice": FigureSpec(
        "Lesion size and Dice",
        "Small lesions lose more Dice for the same error of the outline.",
        size_dice,
        _has_lesions,
        lambda r: "Scatter of Dice against the true area of each lesion image.",
    ),
    "bland_altman": FigureSpec(
        "Agreement of area (Bland-Altman)",
        _bland_altman_caption,
        bland_altman,
        _has_lesions,
        lambda r: f"Difference against mean of predicted and true area. {_value(r, 'area_error')}",
    ),
    "threshold": FigureSpec(
        "Threshold and Dice",
        _threshold_caption,
        threshold_sweep,
        lambda r: r.task == "segmentation" and "sweep" in r.curves,
        lambda r: f"Mean Dice at every threshold; {r.operating.threshold:.2f} is used.",
    ),
    "roc": FigureSpec(
        "ROC curve",
        "With more than two classes, each class against the rest.",
        roc,
        lambda r: "roc" in r.curves,
        lambda r: f"Receiver operating characteristic. {_value(r, 'auc')}",
    ),
    "pr": FigureSpec(
        "Precision-recall curve",
        "Unlike the ROC curve it depends on how frequent the positive class is in these data.",
        precision_recall,
        lambda r: "pr" in r.curves,
        lambda r: f"Precision against recall. {_value(r, 'auprc')}",
    ),
    "confusion": FigureSpec(
        "Confusion matrix",
        "Numbers of cases and shares of each row (true class), at the operating point.",
        confusion,
        lambda r: r.confusion is not None,
        _confusion_words,
    ),
    "scores": FigureSpec(
        "Probabilities by true class",
        "The dotted line is the operating point.",
        scores,
        lambda r: r.task == "classification" and len(r.data.classes) == 2,
        lambda r: "Histogram of the probability of the positive class for each true class.",
    ),
    "calibration": FigureSpec(
        "Calibration",
        "On the diagonal a predicted 70 % comes true in 70 % of cases. Bins of equal width; bars are 95 % "
        "Wilson intervals by group, left out where a bin holds one group only.",
        reliability,
        lambda r: r.calibration is not None,
        lambda r: f"Reliability diagram. {_value(r, 'ece')}",
    ),
    "decision": FigureSpec(
        "Decision curve",
        _decision_caption,
        decision,
        lambda r: "decision" in r.curves,
        lambda r: "Net benefit of the model, of acting on all and of acting on none, by threshold.",
    ),
    "subgroups": FigureSpec(
        "Subgroups",
        "Bars are 95 % intervals, the dashed line is the value of all cases. Hollow grey marks rest on "
        "so few cases that they may mislead.",
        subgroups,
        lambda r: any(p.estimates[r.main_metric].value is not None for p in r.subgroups),
        lambda r: f"{METRICS[r.task][r.main_metric].title} in {len(r.subgroups)} subgroups with intervals.",
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
        lambda r: loss_lines([r.sharpness]),
        lambda r: bool(r.sharpness.get("line")),
        words,
    ),
    "sharpness_surface": FigureSpec(
        "Loss over two directions",
        "The loss along two random directions through the weights; the cross is the trained network.",
        lambda r: loss_surface(r.sharpness),
        lambda r: bool(r.sharpness.get("surface")),
        words,
    ),
}


def draw_all(report: Report) -> list[Drawn]:
    """Draw every figure the report has the data for, in order."""
    drawn = []
    for key, spec in ((key, spec) for key, spec in FIGURES.items() if spec.there(report)):
        with look():
            figure = spec.draw(report)
        caption = spec.caption if isinstance(spec.caption, str) else spec.caption(report)
        drawn.append(Drawn.of(figure, key, spec.title, caption, spec.words(report)))
    return drawn
