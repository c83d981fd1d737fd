"""The stream from inputs to rows: several lanes, each of which decodes, asks the network and writes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from gcsam_med.images import Frames, ImageFault
from gcsam_med.inference.decode import Ready, decode
from gcsam_med.inference.ensemble import Answer, Ensemble
from gcsam_med.inference.inputs import Input
from gcsam_med.inference.outputs import Drawing, classification_row, failed_row, segmentation_row
from gcsam_med.inference.pipeline import ahead, batches
from gcsam_med.inference.results import classify, segment

BATCH = 8
# More lanes would only cost memory: each holds a batch and the network's activations for it.
MOST_LANES = 4

Rows = list[dict[str, Any]]


class Stream:
    """Predicts inputs in order, with memory that does not grow with their number.

    A lane is a thread that takes a batch through everything: decode, ask, write. On a CPU the lanes share the
    cores between them, so that one decodes while the other multiplies, and nobody waits for a core: the same
    cores in one lane, with the network's own threads, wait for one another at the end of every layer.

    Parameters
    ----------
    ensemble : Ensemble
        Who is asked.
    threshold : float
        Foreground, or the positive class, from this probability on.
    drawing : Drawing
        What is written where, and what is done to masks.
    frames : {"first", "middle", "all"} or int
        Which frames of a file that holds several.
    batch_size : int or None
        Images a forward pass.
    """

    def __init__(
        self,
        ensemble: Ensemble,
        threshold: float,
        drawing: Drawing,
        *,
        frames: Frames = "first",
        batch_size: int | None = None,
    ) -> None:
        self.ensemble, self.threshold, self.drawing = ensemble, threshold, drawing
        self.frames, self.batch = frames, batch_size or BATCH

    def rows(self, items: Sequence[Input]) -> Iterator[tuple[str, Rows]]:
        """Yield each input's key and rows, in order."""
        with lanes(len(items), self.batch, device=self.ensemble.device.type) as (pool, count):
            # One batch more than there are lanes waits, so that none is idle while rows are noted.
            for done in ahead(pool, self._batch, batches(items, self.batch), depth=count + 1):
                yield from done

    def _batch(self, items: Sequence[Input]) -> list[tuple[str, Rows]]:
        """Take a batch through everything. Several frames a file make several forward passes."""
        rows: dict[str, Rows] = {item.key: [] for item in items}
        parts = ((item, part) for item in items for part in decode(item, self.ensemble, self.frames))
        for group in batches(parts, self.batch):
            squares = [part.square for _, part in group if isinstance(part, Ready)]
            answer = self.ensemble(np.stack(squares)) if squares else None
            place = 0
            for item, part in group:
                if isinstance(part, ImageFault):
                    rows[item.key].append(failed_row(item, part.reason, part.detail))
                elif answer is not None:
                    rows[item.key].append(self._finish(part, answer.of(place)))
                    place += 1
        return list(rows.items())

    def _finish(self, part: Ready, answer: Answer) -> dict[str, Any]:
        """Write what is written of one image and return its row."""
        card = self.ensemble.card
        if card.task == "segmentation":
            found = segment(part, answer, self.threshold, self.drawing.steps)
            return segmentation_row(part.item, found, self.drawing)
        called = classify(part, answer, card.classes, self.ensemble.positive, self.threshold)
        return classification_row(part.item, called)


@contextmanager
def lanes(n_inputs: int, batch: int, *, device: str) -> Iterator[tuple[ThreadPoolExecutor, int]]:
    """Open a pool of lanes, with the cores dealt out among them, and say how many; give the cores back."""
    import torch

    threads = torch.get_num_threads()
    # Apple's devices do not bear being asked by several threads at once.
    most = {"cpu": threads, "mps": 1}.get(device, os.cpu_count() or 1)
    count = min(MOST_LANES, most, max(1, -(-n_inputs // batch)))
    share = partial(torch.set_num_threads, max(1, threads // count)) if device == "cpu" else None
    try:
        with ThreadPoolExecutor(count, "lane", initializer=share) as pool:
            yield pool, count
    finally:
        if device == "cpu":
            torch.set_num_threads(threads)
