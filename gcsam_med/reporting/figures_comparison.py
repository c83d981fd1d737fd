"""The figures of a comparison: each run, each difference, gain against cost, and sharpness."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from gcsam_med.metrics.table import METRICS
from gcsam_med.reporting.comparison import CentreStudy, Comparison, OverCentres, StudySizes
from gcsam_med.reporting.figures import loss_lines, plain_ticks
from gcsam_med.reporting.style import COLOURS, LINES, MARKERS, SERIES, Drawn, label, look, new_figure
from gcsam_med.reporting.text import arm_name, estimate_text, number, pair_name, readable_arm

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_study_sizes(sizes: StudySizes, metric: str, unit: str) -> Drawn:
    """Draw the power by the number of groups, a curve for each number of seeds."""
    with look():
        figure, axes = new_figure(5.6, 3.6)
        for i, (n_seeds, points) in enumerate(sizes.curves.items()):
            axes.plot(
                *zip(*points, strict=True),
                color=COLOURS[SERIES[i % len(SERIES)]],
                linestyle=LINES[i % len(LINES)],
                marker=MARKERS[i % len(MARKERS)],
                markersize=3.5,
                label=f"{n_seeds} seeds",
            )
        axes.axhline(sizes.power, color=COLOURS["muted"], linewidth=0.9)
        axes.axvline(sizes.n_groups, color=COLOURS["muted"], linestyle=":", linewidth=1.2)
        axes.set(
            xscale="log", ylim=(0, 1.02), xlabel=f"{unit.capitalize()}s in the test split", ylabel="Power"
        )
        plain_ticks(axes.xaxis)
        axes.legend(loc="lower right")
    caption = (
        f"Chance to show a difference of {sizes.margin:g} in {metric}, or to rule it out where there is "
        f"none. Horizontal: the power wanted; dotted: the {sizes.n_groups} {unit}s of the pilot."
    )
    words = " ".join(
        f"{row.n_seeds} seeds: {'no number' if (n := row.needed['not worse']) is None else n} {unit}s."
        for row in sizes.rows
    )
    return Drawn.of(figure, "power", f"Power by number of {unit}s", caption, words)


def draw_comparison(comparison: Comparison) -> list[Drawn]:
    """Draw every figure that the comparison has the data for."""
    name = _title(comparison)
    drawn = [
        Drawn.of(
            _runs(comparison),
            "arms",
            f"{name} of every run",
            "A dot is a run; the bar is the mean over seeds with its 95 % interval, which covers variation "
            "between seeds and between cases.",
            " ".join(f"{arm_name(comparison, a)}: {estimate_text(a.main)}." for a in comparison.arms),
        )
    ]
    if comparison.pairs:
        drawn.append(
            Drawn.of(
                _differences(comparison),
                "differences",
                f"Differences in {name}",
                "Second arm minus first, on the same cases. Intervals are not corrected for the number of "
                "pairs, the verdicts are."
                + ("" if comparison.margin is None else " Dotted lines: the margin."),
                " ".join(
                    f"{readable_arm(p.second)} minus {readable_arm(p.first)}: {estimate_text(p.difference)}."
                    for p in comparison.pairs
                ),
            )
        )
    if len(comparison.arms) > 1:
        drawn.append(
            Drawn.of(
                _cost(comparison),
                "cost",
                f"{name} against cost",
                "Gradient computations per run, in units of the cheapest arm; bars are 95 % intervals.",
                " ".join(
                    f"{arm_name(comparison, a)}: {a.cost.passes:,.0f} gradient computations."
                    for a in comparison.arms
                ),
            )
        )
    if any(arm.sharpness for arm in comparison.arms):
        drawn.append(
            Drawn.of(
                _sharpness(comparison),
                "sharpness",
                "Sharpness of the minima",
                "Largest eigenvalue of the Hessian of the training loss; a dot is a run. Lower is flatter.",
                " ".join(
                    f"{arm_name(comparison, a)}: mean {number(a.sharpness['largest_eigenvalue'].mean)}."
                    for a in comparison.arms
                    if a.sharpness
                ),
            )
        )
    lines = [arm.lines[0] for arm in comparison.arms if arm.lines]
    if len(lines) > 1:
        drawn.append(
            Drawn.of(
                loss_lines(lines[: len(SERIES)]),
                "landscape",
                "Loss around the weights",
                "Along a filter-normalized random direction (Li et al. 2018), the first run of each arm.",
                "Loss on a line through the weights of one run of each arm.",
            )
        )
    return drawn


def draw_centres(study: CentreStudy) -> list[Drawn]:
    """Draw each arm and each pair of arms over the centres, with mean and prediction interval."""
    name = METRICS[study.task][study.main_metric].title
    return [
        Drawn.of(
            _forest(study, rows, xlabel, zero=key == "pairs"),
            key,
            f"{xlabel} by centre",
            "Diamonds are centres with their 95 % intervals; squares are means over centres, with their "
            "intervals thick and the prediction interval of a new centre dashed.",
            " ".join(f"{row.name}: {estimate_text(row.mean)}." for row in rows),
        )
        for key, rows, xlabel in (("arms", study.arms, name), ("pairs", study.pairs, f"Difference in {name}"))
        if rows
    ]


def _forest(study: CentreStudy, rows: Sequence[OverCentres], xlabel: str, *, zero: bool) -> Figure:
    names = [f"{row.name}, {what}" for row in rows for what in (*row.values, "over centres")]
    with look():
        figure, axes = new_figure(6.0, 1.0 + 0.3 * len(names))
        axes.set_yticks(range(len(names)), [label(name, 44) for name in names])
        axes.set(ylim=(len(names) - 0.4, -0.6), xlabel=xlabel)
        axes.grid(visible=False, axis="y")
        if zero:
            axes.axvline(0, color=COLOURS["series-2"], linestyle="--", linewidth=1)
        if study.synthetic:
            figure.text(0.99, 0.01, "synthetic images", ha="right", va="bottom", color=COLOURS["muted"])
        at = 0
        for row in rows:
            for estimate in row.values.values():
                _interval(figure, estimate.ci95, estimate.value, at)
                at += 1
            if row.prediction is not None:
                axes.plot(row.prediction, (at, at), "--", color=COLOURS["muted"], linewidth=1.2)
            if row.mean.ci95 is not None and row.mean.value is not None:
                axes.plot(row.mean.ci95, (at, at), "-", color=COLOURS["series-2"], linewidth=4)
                axes.plot([row.mean.value], [at], "s", color=COLOURS["series-2"], markersize=6)
            at += 1
    return figure


def _title(comparison: Comparison) -> str:
    return METRICS[comparison.task][comparison.main_metric].title


def _rows(comparison: Comparison, xlabel: str, names: Sequence[str]) -> Figure:
    figure, axes = new_figure(6.0, 1.0 + 0.42 * len(names))
    axes.set_yticks(range(len(names)), [label(name, 40) for name in names])
    axes.set(ylim=(len(names) - 0.4, -0.6), xlabel=xlabel)
    axes.grid(visible=False, axis="y")
    if comparison.synthetic:
        figure.text(0.99, 0.01, "synthetic images", ha="right", va="bottom", color=COLOURS["muted"])
    return figure


def _runs(comparison: Comparison) -> Figure:
    with look():
        names = [arm_name(comparison, arm) for arm in comparison.arms]
        figure = _rows(comparison, _title(comparison), names)
        axes = figure.axes[0]
        for i, arm in enumerate(comparison.arms):
            _interval(figure, arm.main.ci95, arm.main.value, i + 0.14)
            values = np.array(arm.metrics[comparison.main_metric].values)
            axes.plot(
                values, np.full(len(values), i - 0.14), "o", color=COLOURS["muted"], markersize=4, alpha=0.75
            )
    return figure


def _differences(comparison: Comparison) -> Figure:
    with look():
        names = [pair_name(comparison, p) for p in comparison.pairs]
        figure = _rows(comparison, f"Difference in {_title(comparison)}", names)
        figure.axes[0].axvline(0, color=COLOURS["series-2"], linestyle="--", linewidth=1)
        for end in () if comparison.margin is None else (-comparison.margin, comparison.margin):
            figure.axes[0].axvline(end, color=COLOURS["muted"], linestyle=":", linewidth=1.2)
        for i, pair in enumerate(comparison.pairs):
            _interval(figure, pair.difference.ci95, pair.difference.value, i + 0.14)
            values = [value for _, value in pair.by_seed]
            figure.axes[0].plot(
                values, np.full(len(values), i - 0.14), "o", color=COLOURS["muted"], markersize=4, alpha=0.75
            )
    return figure


def _interval(figure: Figure, ci95: tuple[float, float] | None, value: float | None, y: float) -> None:
    axes = figure.axes[0]
    if ci95 is not None:
        axes.plot(ci95, (y, y), "-", color=COLOURS["series-1"], linewidth=2)
    if value is not None:
        axes.plot([value], [y], "D", color=COLOURS["series-1"], markersize=5)


def _cost(comparison: Comparison) -> Figure:
    with look():
        figure, axes = new_figure(5.2, 3.6)
        cheapest = min(arm.cost.passes for arm in comparison.arms) or 1.0
        crowded: dict[float, int] = {}
        for i, arm in enumerate(comparison.arms):
            if arm.main.value is None:
                continue
            at = arm.cost.passes / cheapest
            # Arms of equal cost would hide each other.
            place = crowded.setdefault(round(at, 2), 0)
            crowded[round(at, 2)] += 1
            at += 0.03 * place
            low, high = arm.main.ci95 or (arm.main.value, arm.main.value)
            colour = COLOURS[SERIES[i % len(SERIES)]]
            axes.plot([at, at], [low, high], "-", color=colour, linewidth=1.4)
            marker = MARKERS[i % len(MARKERS)]
            axes.plot([at], [arm.main.value], marker, color=colour, label=label(arm_name(comparison, arm)))
        axes.set(xlabel="Gradient computations, cheapest arm = 1", ylabel=_title(comparison))
        axes.margins(x=0.2)
        axes.legend(loc="best")
    return figure


def _sharpness(comparison: Comparison) -> Figure:
    with look():
        arms = [arm for arm in comparison.arms if arm.sharpness]
        figure = _rows(comparison, "Largest Hessian eigenvalue", [arm_name(comparison, arm) for arm in arms])
        for i, arm in enumerate(arms):
            values = np.array(arm.sharpness["largest_eigenvalue"].values)
            figure.axes[0].plot(
                values, np.full(len(values), i), "o", color=COLOURS["series-1"], markersize=4.5
            )
    return figure
