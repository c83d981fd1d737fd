"""The network's answers for rows of a data set, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gcsam_med.datasets.prepared import PreparedDataset
from gcsam_med.errors import InputError
from gcsam_med.progress import Track, silent
from gcsam_med.runs import TrainedModel

BATCH = 16


def answers(
    model: TrainedModel,
    dataset: PreparedDataset,
    rows: np.ndarray,
    *,
    batch_size: int | None = None,
    track: Track = silent,
    what: str = "Evaluating",
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each row with the network's probabilities.

    Parameters
    ----------
    model : TrainedModel
        In eval mode.
    dataset : PreparedDataset
        Where the squares are.
    rows : ndarray of int, shape (n,)
        Which, in the order of the answers.
    batch_size : int, optional
        Cases a forward pass; changes only speed and memory.
    track : Track
        Shows progress, one step a case.
    what : str
        What the progress is called.

    Yields
    ------
    row : int
        The row.
    probability : ndarray of float32
        Segmentation: (size, size), of foreground. Classification: (classes,).

    Raises
    ------
    InputError
        If the network answers with NaN or infinity: it has diverged.
    """
    size = batch_size or BATCH

    def stream() -> Iterator[tuple[int, np.ndarray]]:
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            batch = model.probabilities(model.tensor(dataset.images(part))).cpu().numpy()
            if not np.isfinite(batch).all():
                raise InputError(
                    "The network answers with NaN or infinity: it has diverged, and no figure can be taken.",
                    "Train it again with a lower learning rate or in fp32.",
                )
            for row, probability in zip(part, batch, strict=True):
                yield int(row), probability[0] if model.card.task == "segmentation" else probability

    return track(stream(), what, total=len(rows))
