"""One answer from one or several models, and how far they differ."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gcsam_med.errors import CheckpointError, InputError
from gcsam_med.metrics.calibration import apply_temperature
from gcsam_med.runs import ModelCard, RunFolder, TrainedModel, open_model
from gcsam_med.runs.calibration import MAKE_AGAIN, CalibrationFile, positive_class
from gcsam_med.runs.references import (
    FEATURE_FILE,
    FeatureReference,
    IntensityReference,
    load_features,
    load_intensities,
)

if TYPE_CHECKING:
    import torch

    from gcsam_med.networks.hooks import FeatureTap, MonteCarloDropout


@dataclass(frozen=True)
class Answer:
    """What the models say about a batch, or (from `of`, without the first dimension) about one image."""

    #: Mean over models, passes and flips. Segmentation: (B, size, size); classification: (B, classes).
    probability: np.ndarray
    #: Mutual information between answer and model, in nats: (B, size, size) or (B,); None with a single
    #: answer.
    disagreement: np.ndarray | None = None
    #: Classification: mean over models of their calibrated probabilities, (B, classes); None unless
    #: every model has a temperature.
    calibrated: np.ndarray | None = None
    #: Distance of the network's feature vector from those of the training images, over the limit, (B,): mean
    #: over the models that have a reference; None if none has.
    feature_distance: np.ndarray | None = None

    def of(self, place: int) -> Answer:
        """Return the answer about one image."""
        parts = (self.probability, self.disagreement, self.calibrated, self.feature_distance)
        return Answer(*(None if part is None else part[place] for part in parts))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Ensemble:
    """Models that answer the same question."""

    models: tuple[TrainedModel, ...]  #: At least one; same task, classes and size.
    points: tuple[CalibrationFile | None, ...]  #: What was fitted for each on validation.
    flip: bool = False  #: Also ask about the mirrored image.
    reference: IntensityReference | None = None  #: What the first model's training images look like.
    #: Feature vectors of each model's training images; empty: none is known.
    views: tuple[View | None, ...] = ()
    samples: tuple[MonteCarloDropout, ...] = ()  #: For Monte Carlo dropout, one a model; empty: without.
    passes: int = 0  #: Samples a model.

    @property
    def card(self) -> ModelCard:
        """The first model's card; the others agree in what matters."""
        return self.models[0].card

    @property
    def device(self) -> torch.device:
        """Where the models are."""
        return self.models[0].device

    @property
    def threshold(self) -> tuple[float, str]:
        """The threshold where none was given, and where it comes from."""
        chosen = [point.threshold for point in self.points if point is not None and point.chosen]
        if len(chosen) == len(self.models):
            several = "" if len(chosen) == 1 else f", mean of {len(chosen)} models"
            return float(np.mean(chosen)), f"chosen on validation{several}"
        return self.card.threshold, "default, not chosen on validation"

    @property
    def positive(self) -> int | None:
        """Column of the positive class (two classes); None otherwise."""
        positive = positive_class(self.card, self.points[0])
        if positive is None or self.card.task == "segmentation":
            return None
        return self.card.classes.index(positive)

    def __call__(self, images: np.ndarray) -> Answer:
        """Ask every model about letterboxed images: uint8, (B, size, size) or (B, size, size, 3).

        Raises
        ------
        InputError
            If a network answers with NaN or infinity.
        """
        import torch

        asked = [self._ask(number, images) for number in range(len(self.models))]
        answers = [answer for own, _ in asked for answer in own]
        known = [distance for _, distance in asked if distance is not None]
        distances = np.mean(known, axis=0) if known else None
        stack = torch.stack(answers)
        mean = stack.mean(dim=0)
        probability = (mean[:, 0] if self.card.task == "segmentation" else mean).cpu().numpy()
        if not np.isfinite(probability).all():
            raise InputError(
                "The network's output is NaN or infinite: training has diverged.", "Train it again."
            )
        calibrated = self._calibrated([torch.stack(own).mean(dim=0) for own, _ in asked])
        if len(answers) == 1:
            return Answer(probability, None, calibrated, distances)
        task = self.card.task
        mutual = (_entropy(mean, task) - _entropy(stack, task).mean(dim=0)).clamp_(min=0)
        return Answer(probability, mutual.cpu().numpy(), calibrated, distances)

    def _ask(self, number: int, images: np.ndarray) -> tuple[list[torch.Tensor], np.ndarray | None]:
        """One model's answers, and the distance of its feature vectors from those of its training images."""
        model, view = self.models[number], self.views[number] if self.views else None
        batch = model.tensor(images)
        distance = None
        if self.passes and view is not None:
            # The training images' vectors were taken without dropout.
            model.probabilities(batch)
            distance = view.distance()
        answers = []
        for sample in range(max(self.passes, 1)):
            with self.samples[number].sample(sample) if self.passes else nullcontext():
                answers.append(model.probabilities(batch))
                if not self.passes and view is not None:
                    distance = view.distance()
                if self.flip:
                    mirrored = model.probabilities(batch.flip(-1))
                    answers.append(mirrored.flip(-1) if self.card.task == "segmentation" else mirrored)
        return answers, distance

    def _calibrated(self, means: list[torch.Tensor]) -> np.ndarray | None:
        """Mean of the models' probabilities, each calibrated by its own temperature."""
        temperatures = [point.temperature for point in self.points if point is not None and point.temperature]
        if self.card.task == "segmentation" or len(temperatures) < len(self.models):
            return None
        own = [
            apply_temperature(mean.cpu().numpy().astype(np.float64), temperature)
            for mean, temperature in zip(means, temperatures, strict=True)
        ]
        average: np.ndarray = np.mean(own, axis=0)
        return average


@dataclass(frozen=True)
class View:
    """Feature vectors of a network's training images, and a hook that takes those of others."""

    features: FeatureReference
    tap: FeatureTap

    def distance(self) -> np.ndarray:
        """Return the distance of each image of this thread's last forward pass, over the limit, (B,)."""
        return self.features.distance(self.tap.take().cpu().numpy()) / self.features.limit


def _entropy(p: torch.Tensor, task: str) -> torch.Tensor:
    """Entropy in nats: of each pixel (..., H, W), or of each case (..., )."""
    import torch

    if task == "segmentation":
        return (torch.special.entr(p) + torch.special.entr(1 - p)).squeeze(-3)
    return torch.special.entr(p).sum(dim=-1)


def find_runs(paths: Sequence[Path]) -> list[Path]:
    """Put the runs of a folder, such as the folds of a cross-validation, in the folder's place.

    A path that is neither a run nor a folder of runs stays; opening it says what is wrong with it.
    """
    found = []
    for path in paths:
        inside = [] if (path / "config.yaml").is_file() else sorted(path.glob("*/config.yaml"))
        found += [file.parent for file in inside] or [path]
    return found


def load_ensemble(
    runs: Sequence[Path], *, device: str = "auto", flip: bool = False, mc_dropout: int = 0
) -> Ensemble:
    """Load the models of run folders, or of folders of them; one run is an ensemble of one.

    With `flip` the mirrored image is predicted too; with `mc_dropout` above 0 that many samples of each
    network with dropout on replace the network itself.

    Raises
    ------
    InputError
        If they do not answer the same question, or have no dropout that was asked for.
    CheckpointError
        If a model is damaged.
    """
    from gcsam_med.networks.hooks import MonteCarloDropout

    runs = find_runs(runs)
    opened = [open_model(RunFolder.open(run), device) for run in runs]
    models = tuple(model for model, _, _ in opened)
    folders = [RunFolder(run).model for run in runs]
    first = models[0].card
    for run, model in zip(runs, models, strict=True):
        for what in ("task", "classes", "size", "modality"):
            mine, theirs = getattr(model.card, what), getattr(first, what)
            if mine != theirs:
                raise InputError(
                    f"The runs of an ensemble must agree in {what}: {runs[0]} has {theirs}, {run} has {mine}."
                )
    return Ensemble(
        models,
        points=tuple(point for _, _, point in opened),
        flip=flip,
        reference=load_intensities(folders[0], first.dataset_sha256),
        views=tuple(_view(f, m) for f, m in zip(folders, models, strict=True)),
        samples=tuple(MonteCarloDropout(model.network) for model in models) if mc_dropout else (),
        passes=mc_dropout,
    )


def _view(folder: Path, model: TrainedModel) -> View | None:
    from gcsam_med.networks.hooks import FeatureTap

    features = load_features(folder, model.card.weights_sha256)
    if features is None:
        return None
    try:
        return View(features, FeatureTap(model.network, features.place))
    except AttributeError as error:
        raise CheckpointError(
            f"{folder / FEATURE_FILE} names a layer that the network does not have.", MAKE_AGAIN
        ) from error
