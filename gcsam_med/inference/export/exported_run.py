"""What is exported: a run's model with all that the run knows about it, and how it is fed and read."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gcsam_med import __version__
from gcsam_med.config import RunConfig
from gcsam_med.datasets.prepared import DatasetInfo, PreparedDataset, prepared_root
from gcsam_med.datasets.selection import took_part, training_cases
from gcsam_med.errors import GcsamMedError, InputError
from gcsam_med.reporting.write import read_metrics
from gcsam_med.runs import ModelCard, RunFolder, TrainedModel, open_model
from gcsam_med.runs.calibration import CalibrationFile, positive_class

DESCRIPTION = "description.json"
USE = "research only, not for clinical use"


@dataclass(frozen=True)
class ExportedRun:
    """A trained run and what is known of it."""

    folder: RunFolder  #: Where it is.
    model: TrainedModel  #: On the CPU.
    point: CalibrationFile | None  #: What was fitted on validation.
    #: ``metrics.json`` by the name of its folder; only of these weights.
    evaluations: Mapping[str, dict[str, Any]]
    dataset: DatasetInfo | None  #: The training data, where they are still there and unchanged.
    #: Images of these data that trained and validated the model, and those left out, by reason.
    trained: Mapping[str, int]

    @property
    def card(self) -> ModelCard:
        """What the model says of itself."""
        return self.model.card

    @property
    def threshold(self) -> float:
        """The operating point, or 0.5 where none was chosen."""
        return self.card.threshold if self.point is None else self.point.threshold

    @property
    def threshold_from(self) -> str:
        """Where the threshold comes from, in words."""
        if self.point is None or not self.point.chosen:
            return "default, not chosen on validation"
        return f"chosen on {self.point.n} validation cases: {self.point.rule}"

    @property
    def positive(self) -> str | None:
        """The class the threshold is for; None for more than two classes."""
        return positive_class(self.card, self.point)

    @property
    def synthetic(self) -> bool:
        """Whether generated images had a part in training or in a metric."""
        return self.card.synthetic or any(found.get("synthetic") for found in self.evaluations.values())


def open_exported_run(root: Path) -> ExportedRun:
    """Open a run to export it.

    Raises
    ------
    InputError
        If it is no run or has no model.
    CheckpointError
        If the model is damaged.
    """
    run = RunFolder.open(root)
    model, config, point = open_model(run, "cpu")
    return ExportedRun(
        run,
        model,
        point,
        _evaluations(run, model.card.weights_sha256),
        *_dataset(config, model.card),
    )


def _evaluations(run: RunFolder, weights_sha256: str) -> dict[str, dict[str, Any]]:
    found = {}
    for path in sorted((run.root / "evaluation").glob("[!.]*/metrics.json")):
        with suppress(InputError):
            content = read_metrics(path, "")
            # Training may have gone on since: metrics of other weights are not this model's.
            # (The pooled report of several folds has a hash of its own.)
            if content["run"]["weights_sha256"] == weights_sha256:
                found[path.parent.name] = content
    return found


def _dataset(config: RunConfig, card: ModelCard) -> tuple[DatasetInfo | None, dict[str, int]]:
    """Facts about the training data, and who of them took part, where they are still as they were."""
    try:
        dataset = PreparedDataset(prepared_root(config.data_root, card.dataset))
        if dataset.info.content_sha256 != card.dataset_sha256:
            return None, {}
        classes = config.classes if card.task == "segmentation" else card.classes
        return dataset.info, took_part(training_cases(dataset, card.task, classes, config.folds))
    except (GcsamMedError, OSError):
        return None, {}


def describe(run: ExportedRun, *, standardized: bool) -> dict[str, Any]:
    """Describe a model, in JSON types, so that its masks can be made again without gcsam-med.

    `standardized` says whether the file itself standardizes its input and gives probabilities (ONNX,
    torch.export), or is the bare network, from standardized values to logits.
    """
    card, point = run.card, run.point
    segmentation = card.task == "segmentation"
    grey = "" if card.modality == "photo" or card.in_channels == 1 else " of the same grey"
    channels = ("one channel" if card.in_channels == 1 else "three channels") + grey
    activation = "sigmoid" if segmentation else "softmax over the classes"
    plane = f"{card.size} x {card.size}"
    return {
        "schema": 1,
        "tool": f"gcsam-med {__version__}",
        "use": USE,
        "synthetic": run.synthetic,
        "task": card.task,
        "model": card.model,
        "modality": card.modality,
        "classes": card.classes,
        "size": card.size,
        "in_channels": card.in_channels,
        "mean": card.mean,
        "std": card.std,
        "standardized_inside": standardized,
        "input": {
            "name": "image",
            "dtype": "float32",
            "shape": ["batch", card.in_channels, card.size, card.size],
            "range": [0, 1] if standardized else "standardized",
        },
        "output": {
            "name": "probability" if standardized else "logits",
            "dtype": "float32",
            "shape": ["batch", 1, card.size, card.size] if segmentation else ["batch", len(card.classes)],
            "activation": "applied" if standardized else activation,
        },
        "preprocessing": [
            *_letterbox(card.modality, plane),
            {"step": "scale", "how": "Divide by 255.", "divide_by": 255},
            {
                "step": "channels",
                "how": f"Order (batch, channel, row, column) with {channels}.",
                "channels": card.in_channels,
            },
            *([] if standardized else [_standardize(card.mean, card.std)]),
        ],
        "postprocessing": [
            *([] if standardized else [{"step": "activation", "how": f"Apply {activation}."}]),
            *(_mask_steps(run) if segmentation else _class_steps(run)),
        ],
        "threshold": run.threshold,
        "threshold_from": run.threshold_from,
        "positive_class": run.positive,
        "temperature": None if point is None else point.temperature,
        "weights_sha256": card.weights_sha256,
        "dataset": card.dataset,
        "dataset_sha256": card.dataset_sha256,
        "optimizer": card.optimizer,
        "epoch": card.epoch,
    }


def _letterbox(modality: str, plane: str) -> list[dict[str, Any]]:
    colour = "RGB" if modality == "photo" else "grey"
    luma = "" if modality == "photo" else " (colour by ITU-R BT.601 luma; transparency is dropped)"
    return [
        {
            "step": "decode",
            "how": f"Decode to 8-bit {colour}{luma}, upright by its EXIF orientation.",
            "mode": "RGB" if modality == "photo" else "L",
        },
        {
            "step": "resize",
            "how": "With scale = size / max(height, width), resize to round(height * scale) x "
            "round(width * scale), halves to even, at least 1; by Pillow's antialiased BILINEAR, in 8 bits.",
            "filter": "Pillow BILINEAR",
        },
        {
            "step": "pad",
            "how": f"Pad with 0 to {plane}, the image in the middle, an odd pixel below or to the right.",
            "value": 0,
        },
    ]


def _standardize(mean: list[float], std: list[float]) -> dict[str, Any]:
    how = "Subtract the mean and divide by the standard deviation of each channel."
    return {"step": "standardize", "how": how, "mean": mean, "std": std}


def _mask_steps(run: ExportedRun) -> list[dict[str, Any]]:
    return [
        {"step": "crop", "how": "Cut the padding off the probability map."},
        {
            "step": "restore",
            "how": "Resize the map, as 32-bit floats, to the image's height and width by Pillow's BILINEAR.",
            "filter": "Pillow BILINEAR",
        },
        {
            "step": "threshold",
            "how": f"A pixel is {run.positive} from probability {run.threshold:.6g} on.",
            "threshold": run.threshold,
        },
    ]


def _class_steps(run: ExportedRun) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = []
    temperature = None if run.point is None else run.point.temperature
    if temperature is not None:
        steps.append(
            {
                "step": "calibrate",
                "how": "For calibrated probabilities, raise each to the power of 1 / temperature and divide "
                "by their sum; the threshold is for the probabilities before that.",
                "temperature": temperature,
            }
        )
    if run.positive is None:
        return [*steps, {"step": "call", "how": "The class with the largest probability is predicted."}]
    other = next(name for name in run.card.classes if name != run.positive)
    how = f"{run.positive} is predicted from its probability {run.threshold:.6g} on, {other} below that."
    return [*steps, {"step": "call", "how": how, "threshold": run.threshold}]
