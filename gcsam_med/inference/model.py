"""A trained run, or several, as one object that predicts single images in memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from gcsam_med.config import PathLike, PredictOptions
from gcsam_med.errors import InputError
from gcsam_med.fields import chosen
from gcsam_med.images import Frames, Picture, read_bytes
from gcsam_med.images.picture import check_size, grey_if_grey
from gcsam_med.inference.ensemble import Answer, Ensemble, load_ensemble
from gcsam_med.inference.inputs import DecodedImage, Input, decode, prepare_picture, safe_name
from gcsam_med.inference.results import Classification, Segmentation, classify, segment
from gcsam_med.runs import ModelCard
from gcsam_med.runs.postprocessing import NONE, Postprocessing

Source = str | os.PathLike[str] | np.ndarray
BATCH = 8
A = TypeVar("A")


def load(*runs: PathLike, options: PredictOptions | None = None, **fields: Any) -> Model:
    """Load a trained run, to predict single images in memory.

    Parameters
    ----------
    *runs : str or path
        A run folder; several, or a folder of them, are an ensemble.
    options : PredictOptions, optional
        Device, operating point, test-time augmentation, dropout samples, post-processing; `fields` change it.
    **fields
        Fields of `PredictOptions`, such as ``device="cpu"`` or ``threshold=0.4``.

    Returns
    -------
    Model
        ``model.predict("a.png")`` answers about one image, ``model.predict_many(files)`` about many.

    Raises
    ------
    InputError
        If a folder is no finished run, or the runs do not answer the same question.
    CheckpointError
        If a model is damaged.
    EnvironmentFault
        If the device is not there.
    """
    if not runs:
        raise InputError("load needs a run folder.", 'For example: load("runs/busi-unet-gcsam-seed0")')
    options = chosen(PredictOptions, options, **fields)
    ensemble = load_ensemble(
        [Path(run) for run in runs],
        device=options.device,
        flip=options.tta == "flip",
        mc_dropout=options.mc_dropout,
    )
    steps = Postprocessing(options.largest_component, options.fill_holes, options.min_area)
    return Model(ensemble, options.threshold, steps)


class Model:
    """A trained run, or several as an ensemble; made by `gcsam_med.load`."""

    def __init__(
        self, ensemble: Ensemble, threshold: float | None = None, steps: Postprocessing = NONE
    ) -> None:
        self.ensemble, self.steps = ensemble, steps
        self.threshold, self.threshold_from = ensemble.threshold
        if threshold is not None:
            self.threshold, self.threshold_from = float(threshold), "given"

    @property
    def card(self) -> ModelCard:
        """What the (first) model is, and what it was trained on."""
        return self.ensemble.card

    def __repr__(self) -> str:
        card, n = self.card, len(self.ensemble.models)
        many = f"{n} models" if n > 1 else "model"
        return f"<{many}: {card.model} for {card.task}, trained on {card.dataset} with {card.optimizer}>"

    def predict(self, source: Source, *, frame: Frames = "first") -> Segmentation | Classification:
        """Predict one image.

        Parameters
        ----------
        source : str, path or ndarray of uint8, shape (H, W) or (H, W, 3)
            PNG, JPEG, TIFF, BMP or DICOM file, or its pixels.
        frame : {"first", "middle"} or int
            Which frame of a file that holds several.

        Returns
        -------
        Segmentation or Classification
            By the model's task.

        Raises
        ------
        InputError
            If the image cannot be used.
        """
        if frame == "all":
            raise InputError("predict takes one frame.", "Give first, middle, or a number from 0.")
        return next(self.predict_many([source], frame=frame))

    def predict_many(
        self, sources: Iterable[Source], *, frame: Frames = "first", batch_size: int = BATCH
    ) -> Iterator[Segmentation | Classification]:
        """Predict images one after the other, asking the network a batch at a time; see `predict`."""
        for group in batches(sources, batch_size):
            decoded = [self._decode(source, frame) for source in group]
            answer = self.ensemble(np.stack([part.letterboxed for part in decoded]))
            yield from (self.result(part, answer.of(place)) for place, part in enumerate(decoded))

    def _decode(self, source: Source, frame: Frames) -> DecodedImage:
        if isinstance(source, np.ndarray):
            return self.decoded(source)
        path = Path(source)
        item = Input(str(path), safe_name(path.stem), str(path), lambda: read_bytes(path))
        part = next(decode(item, self.ensemble, frame))
        if not isinstance(part, DecodedImage):
            raise part
        return part

    def decoded(self, pixels: np.ndarray) -> DecodedImage:
        """Letterbox the pixels of an image, uint8 (H, W) or (H, W, 3), as the network takes them."""
        item = Input("array", "array", "array", bytes)
        return prepare_picture(item, Picture(_checked(pixels), "array"), self.ensemble)

    def result(self, part: DecodedImage, answer: Answer) -> Segmentation | Classification:
        """Return the prediction of one image from the ensemble's answer about it."""
        if self.card.task == "segmentation":
            return segment(part, answer, self.threshold, self.steps)
        return classify(part, answer, self.card.classes, self.ensemble.positive, self.threshold)


def batches(items: Iterable[A], size: int) -> Iterator[list[A]]:
    """Yield lists of `size` items; the last may be shorter."""
    batch: list[A] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _checked(pixels: np.ndarray) -> np.ndarray:
    """Refuse an array that is no picture of 8-bit pixels."""
    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)):
        raise InputError(
            f"An image should be uint8 of shape (H, W) or (H, W, 3), but is {pixels.dtype} {pixels.shape}.",
            "Scale it to 0..255 and convert it, or give the file.",
        )
    check_size(pixels.shape[1], pixels.shape[0], "array")
    return grey_if_grey(pixels) if pixels.ndim == 3 else pixels
