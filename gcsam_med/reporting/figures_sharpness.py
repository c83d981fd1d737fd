"""Pictures of the loss around the weights, from the content of ``sharpness.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

# Okabe and Ito's colours, told apart by all common kinds of colour vision.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def draw_lines(path: Path, measured: Sequence[Mapping[str, Any]]) -> None:
    """Draw the loss on a line through the weights, of several runs over each other, as a PNG.

    Parameters
    ----------
    path : Path
        The picture.
    measured : sequence of mapping
        Contents of ``sharpness.json``; those without a line are left out.
    """
    figure = _figure((6.4, 4.2))
    axes = figure.subplots()
    for number, one in enumerate(m for m in measured if m["line"]):
        losses = np.array([np.nan if v is None else v for v in one["line"]["losses"]], dtype=float)
        colour = _COLOURS[number % len(_COLOURS)]
        axes.plot(one["line"]["positions"], losses, color=colour, label=f"{one['run']} ({one['optimizer']})")
    axes.set(xlabel="step along one random direction, in filter sizes", ylabel="loss")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    _stamp(figure, any(one["synthetic"] for one in measured))
    figure.savefig(path, dpi=150, format="png")


def draw_surface(path: Path, one: Mapping[str, Any]) -> None:
    """Draw the loss on a square around the weights as contour lines, as a PNG.

    Parameters
    ----------
    path : Path
        The picture.
    one : mapping
        Content of ``sharpness.json``, with a surface.
    """
    figure = _figure((5.6, 4.8))
    axes = figure.subplots()
    positions = np.array(one["surface"]["positions"])
    losses = np.array([[np.nan if v is None else v for v in row] for row in one["surface"]["losses"]])
    filled = axes.contourf(positions, positions, losses.T, levels=20, cmap="viridis")
    axes.contour(positions, positions, losses.T, levels=20, colors="white", linewidths=0.4)
    axes.plot(0, 0, "+", color="white", markersize=12)
    figure.colorbar(filled, ax=axes, label="loss")
    axes.set(
        xlabel="first direction, in filter sizes",
        ylabel="second direction",
        aspect="equal",
        title=f"{one['run']} ({one['optimizer']})",
    )
    _stamp(figure, one["synthetic"])
    figure.savefig(path, dpi=150, format="png")


def _figure(size: tuple[float, float]) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _stamp(figure: Any, synthetic: bool) -> None:
    if synthetic:
        figure.text(0.99, 0.01, "synthetic images", ha="right", va="bottom", fontsize=8, color="0.4")
