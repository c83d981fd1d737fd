"""A network with its first and last step inside, as a graph that needs no Python class of ours."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from gcsam_med.errors import GcsamMedError
from gcsam_med.runs import TrainedModel

TOLERANCE = 1e-4
"""Largest difference of a probability between the exported file and the model here."""


class Portable(nn.Module):
    """Standardizes, asks the network, and turns logits into probabilities.

    Parameters
    ----------
    model : TrainedModel
        Its network becomes a part of this module.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, model: TrainedModel) -> None:
        super().__init__()
        self.network = model.network
        self.segmentation = model.card.task == "segmentation"
        self.register_buffer("mean", torch.tensor(model.card.mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(model.card.std).view(1, -1, 1, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map (B, C, size, size) in 0..1 to probabilities (B, 1, size, size) or (B, classes)."""
        logits = self.network((image - self.mean) / self.std)
        return logits.sigmoid() if self.segmentation else logits.softmax(dim=1)


def trace(model: TrainedModel) -> torch.export.ExportedProgram:
    """Trace a model for batches of any size.

    Parameters
    ----------
    model : TrainedModel
        On the CPU, in eval mode.

    Returns
    -------
    torch.export.ExportedProgram
        One input, ``image``.
    """
    card = model.card
    example = torch.zeros(2, card.in_channels, card.size, card.size)
    with quietly(), torch.no_grad():
        batch = torch.export.Dim("batch", min=1)
        return torch.export.export(
            Portable(model).eval(), (example,), dynamic_shapes={"image": {0: batch}}, strict=False
        )


@contextmanager
def quietly() -> Iterator[None]:
    """Keep what the exporters warn of (their own deprecations) from the user."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def examples(model: TrainedModel) -> list[np.ndarray]:
    """Make inputs to compare on: batches of 1 and 3; noise, an edge and a ramp, float32 in 0..1.

    No image of a single grey: its variance is 0, so an instance norm divides rounding by the root of 1e-5,
    and ONNX then differs by up to 2e-4 (swin-unetr), for an input that shows nothing.
    """
    card = model.card
    rng = np.random.default_rng(0)
    shape = (card.in_channels, card.size, card.size)
    noise = rng.random((2, *shape), dtype=np.float32)
    step = np.zeros((1, *shape), dtype=np.float32)
    step[..., card.size // 3 :, : card.size // 2] = 1
    ramp = np.broadcast_to(np.linspace(0.3, 0.5, card.size, dtype=np.float32), (1, *shape))
    return [noise[:1], np.concatenate([noise[1:], step, ramp])]


def expected(model: TrainedModel, image: np.ndarray) -> np.ndarray:
    """What the model here says of an input of `examples`."""
    with torch.inference_mode():
        answer: np.ndarray = Portable(model).eval()(torch.from_numpy(image)).numpy()
    return answer


def check(name: str, found: list[np.ndarray], wanted: list[np.ndarray]) -> float:
    """Compare what the exported file says with what the model says.

    Returns
    -------
    float
        The largest difference.

    Raises
    ------
    GcsamMedError
        If it is above ``TOLERANCE``, or a shape differs.
    """
    for mine, theirs in zip(found, wanted, strict=True):
        if mine.shape != theirs.shape:
            raise GcsamMedError(
                f"The exported {name} gives {mine.shape} where the model gives {theirs.shape}."
            )
    worst = max(float(np.abs(a - b).max()) for a, b in zip(found, wanted, strict=True))
    if not worst <= TOLERANCE:
        raise GcsamMedError(
            f"The exported {name} differs from the model by {worst:.1e}; at most {TOLERANCE:.0e} passes.",
            "Nothing was written. Try another --format, and report it.",
        )
    return worst
