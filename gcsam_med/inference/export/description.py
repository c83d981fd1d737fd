"""How an exported model is to be fed and read: every step in words and numbers, for people and programs."""

from __future__ import annotations

from typing import Any

from gcsam_med import __version__
from gcsam_med.inference.export.exported_run import Subject

DESCRIPTION = "description.json"
USE = "research only, not for clinical use"


def describe(subject: Subject, *, standardized: bool) -> dict[str, Any]:
    """Describe a model so that its masks can be made again without gcsam-med.

    Parameters
    ----------
    subject : Subject
        The run.
    standardized : bool
        Whether the file itself standardizes its input and gives probabilities (ONNX, torch.export), or is
        the bare network, from standardized values to logits.

    Returns
    -------
    dict
        JSON types only.
    """
    card, point = subject.card, subject.point
    segmentation = card.task == "segmentation"
    grey = "" if card.modality == "photo" or card.in_channels == 1 else " of the same grey"
    channels = ("one channel" if card.in_channels == 1 else "three channels") + grey
    activation = "sigmoid" if segmentation else "softmax over the classes"
    plane = f"{card.size} x {card.size}"
    return {
        "schema": 1,
        "tool": f"gcsam-med {__version__}",
        "use": USE,
        "synthetic": subject.synthetic,
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
            *_square(card.modality, plane),
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
            *(_mask(subject) if segmentation else _call(subject)),
        ],
        "threshold": subject.threshold,
        "threshold_from": subject.threshold_from,
        "positive_class": subject.positive,
        "temperature": None if point is None else point.temperature,
        "weights_sha256": card.weights_sha256,
        "dataset": card.dataset,
        "dataset_sha256": card.dataset_sha256,
        "optimizer": card.optimizer,
        "epoch": card.epoch,
    }


def _square(modality: str, plane: str) -> list[dict[str, Any]]:
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


def _mask(subject: Subject) -> list[dict[str, Any]]:
    return [
        {"step": "crop", "how": "Cut the padding off the probability map."},
        {
            "step": "restore",
            "how": "Resize the map, as 32-bit floats, to the image's height and width by Pillow's BILINEAR.",
            "filter": "Pillow BILINEAR",
        },
        {
            "step": "threshold",
            "how": f"A pixel is {subject.positive} from probability {subject.threshold:.6g} on.",
            "threshold": subject.threshold,
        },
    ]


def _call(subject: Subject) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = []
    temperature = None if subject.point is None else subject.point.temperature
    if temperature is not None:
        steps.append(
            {
                "step": "calibrate",
                "how": "For calibrated probabilities, raise each to the power of 1 / temperature and divide "
                "by their sum; the threshold is for the probabilities before that.",
                "temperature": temperature,
            }
        )
    if subject.positive is None:
        return [*steps, {"step": "call", "how": "The class with the largest probability is called."}]
    other = next(name for name in subject.card.classes if name != subject.positive)
    how = f"{subject.positive} is called from its probability {subject.threshold:.6g} on, {other} below that."
    return [*steps, {"step": "call", "how": how, "threshold": subject.threshold}]
