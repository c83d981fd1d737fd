"""The loss around the weights, drawn from the content of ``sharpness.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gcsam_med.reporting.report import Report
from gcsam_med.reporting.style import COLOURS, LINES, SERIES, label, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Measured = Mapping[str, Any]


def loss_lines(measured: Sequence[Measured]) -> Figure:
    """Draw the loss on a line through the weights, of several runs over each other.

    Parameters
    ----------
    measured : sequence of mapping
        Contents of ``sharpness.json``; those without a line are left out.

    Returns
    -------
    Figure
        Stamped if the images are synthetic.
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
    """Draw the loss on a square around the weights as contour lines.

    Parameters
    ----------
    one : mapping
        Content of ``sharpness.json``, with a surface.

    Returns
    -------
    Figure
        Stamped if the images are synthetic.
    """
    figure, axes = new_figure(4.6, 3.8)
    positions, losses = np.array(one["surface"]["positions"]), _numbers(one["surface"]["losses"])
    filled = axes.contourf(positions, positions, losses.T, levels=20, cmap="viridis")
    axes.contour(positions, positions, losses.T, levels=20, colors="white", linewidths=0.4)
    axes.plot(0, 0, "+", color="white", markersize=12)
    figure.colorbar(filled, ax=axes, label="Loss")
    axes.set(xlabel="First direction, in filter sizes", ylabel="Second direction", aspect="equal")
    _stamp(figure, bool(one.get("synthetic")))
    return figure


def line_of_report(report: Report) -> Figure:
    """The loss on a line through the weights of the report's run."""
    return loss_lines([report.sharpness])


def surface_of_report(report: Report) -> Figure:
    """The loss on a square around the weights of the report's run."""
    return loss_surface(report.sharpness)


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
