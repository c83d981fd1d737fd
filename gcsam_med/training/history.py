"""history.csv and its curves."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from gcsam_med.files import write_durably

Row = Mapping[str, float | int]


def write_history(path: Path, rows: Sequence[Row]) -> None:
    """Write one row an epoch; the file is whole at any time."""
    if not rows:
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()}
        )
    write_durably(path, text.getvalue().encode())


def draw_curves(path: Path, rows: Sequence[Row], metric: str) -> None:
    """Draw the losses and the validation metric by epoch as a PNG.

    Parameters
    ----------
    path : Path
        The picture.
    rows : sequence of mapping
        Rows of the history, at least one.
    metric : str
        Name of the metric that chooses the best epoch, e.g. ``"dice"``.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    epochs = [row["epoch"] for row in rows]
    values = [row[f"val_{metric}"] for row in rows]
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    left.plot(epochs, [row["train_loss"] for row in rows], color="#0072B2", label="training")
    left.plot(epochs, [row["val_loss"] for row in rows], color="#D55E00", label="validation")
    left.set(xlabel="epoch", ylabel="loss")
    left.legend(frameon=False)
    right.plot(epochs, values, color="#D55E00")
    best = max(range(len(values)), key=values.__getitem__)
    right.plot(epochs[best], values[best], "o", color="#D55E00")
    right.annotate(
        f"best {values[best]:.3f}", (epochs[best], values[best]), xytext=(4, -12), textcoords="offset points"
    )
    right.set(xlabel="epoch", ylabel=f"validation {metric}")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=120, format="png")
    write_durably(path, buffer.getvalue())
