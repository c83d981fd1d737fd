"""One answer from one or several models, and how far they differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gcsam_med.devices import pick_device
from gcsam_med.errors import InputError
from gcsam_med.runs import ModelCard, RunFolder, TrainedModel, load_model
from gcsam_med.runs.operating import OperatingFile, load_operating
from gcsam_med.runs.reference import Reference, load_reference

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Answer:
    """What the models say about a batch.

    Parameters
    ----------
    probability : ndarray of float32
        Mean over models (and flips). Segmentation: (B, size, size); classification: (B, classes).
    disagreement : ndarray of float32 or None
        Mutual information between answer and model, in nats, of the same shape (classification: (B,)); None
        with a single answer.
    """

    probability: np.ndarray
    disagreement: np.ndarray | None


@dataclass(frozen=True)
class Ensemble:
    """Models that answer the same question.

    Parameters
    ----------
    models : tuple of TrainedModel
        At least one; same task, classes and size.
    points : tuple of OperatingFile or None
        What evaluation chose for each on validation.
    flip : bool
        Also ask about the mirrored image.
    reference : Reference or None
        What the first model's training images look like.
    """

    models: tuple[TrainedModel, ...]
    points: tuple[OperatingFile | None, ...]
    flip: bool = False
    reference: Reference | None = None

    @property
    def card(self) -> ModelCard:
        """The first model's card; the others agree in what matters."""
        return self.models[0].card

    @property
    def threshold(self) -> tuple[float, str]:
        """The threshold where none was given, and where it comes from."""
        chosen = [point.threshold for point in self.points if point is not None]
        if len(chosen) == len(self.models):
            several = "" if len(chosen) == 1 else f", mean of {len(chosen)} models"
            return float(np.mean(chosen)), f"chosen on validation{several}"
        return self.card.threshold, "default (not chosen on validation: run `gcsam-med evaluate` first)"

    @property
    def positive(self) -> int | None:
        """Column of the positive class (two classes); None otherwise."""
        if self.card.task == "segmentation" or len(self.card.classes) != 2:
            return None
        point = self.points[0]
        if point is not None and point.positive_class in self.card.classes:
            return self.card.classes.index(point.positive_class)
        return 1

    def __call__(self, squares: np.ndarray) -> Answer:
        """Ask every model.

        Parameters
        ----------
        squares : ndarray of uint8, shape (B, size, size) or (B, size, size, 3)
            Stored squares.

        Returns
        -------
        Answer
            On the CPU.
        """
        answers = []
        for model in self.models:
            batch = model.tensor(squares)
            answers.append(model.probabilities(batch))
            if self.flip:
                mirrored = model.probabilities(batch.flip(-1))
                answers.append(mirrored.flip(-1) if self.card.task == "segmentation" else mirrored)
        if len(answers) == 1:
            return Answer(self._plain(answers[0]), None)
        import torch

        stack = torch.stack(answers)
        mean = stack.mean(dim=0)
        mutual = (_entropy(mean, self.card.task) - _entropy(stack, self.card.task).mean(dim=0)).clamp_(min=0)
        return Answer(self._plain(mean), mutual.cpu().numpy())

    def _plain(self, probability: torch.Tensor) -> np.ndarray:
        array: np.ndarray = probability.cpu().numpy()
        return array[:, 0] if self.card.task == "segmentation" else array


def _entropy(p: torch.Tensor, task: str) -> torch.Tensor:
    """Entropy in nats: of each pixel (..., H, W), or of each case (..., )."""
    import torch

    if task == "segmentation":
        return (torch.special.entr(p) + torch.special.entr(1 - p)).squeeze(-3)
    return torch.special.entr(p).sum(dim=-1)


def load_ensemble(runs: Sequence[Path], *, device: str = "auto", flip: bool = False) -> Ensemble:
    """Load the models of several runs.

    Parameters
    ----------
    runs : sequence of Path
        Run folders; one is an ensemble of one.
    device : str
        See `pick_device`.
    flip : bool
        Also ask about the mirrored image.

    Returns
    -------
    Ensemble
        Ready to answer.

    Raises
    ------
    InputError
        If they do not answer the same question.
    CheckpointError
        If a model is damaged.
    """
    target = pick_device(device)
    folders = [RunFolder.open(run).model for run in runs]
    models = tuple(load_model(folder, target) for folder in folders)
    first = models[0].card
    for run, model in zip(runs, models, strict=True):
        for what in ("task", "classes", "size", "modality"):
            mine, theirs = getattr(model.card, what), getattr(first, what)
            if mine != theirs:
                raise InputError(
                    f"The runs of an ensemble must agree in {what}: {runs[0]} has {theirs}, {run} has {mine}."
                )
    points = tuple(load_operating(f, m.card.weights_sha256) for f, m in zip(folders, models, strict=True))
    return Ensemble(models, points, flip, load_reference(folders[0], first.dataset_sha256))
