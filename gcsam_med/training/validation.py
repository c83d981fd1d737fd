"""Loss and metrics on the validation split, at the resolution the network was trained in.

This chooses the best epoch. The metrics to report are computed afterwards by `gcsam_med.evaluation`, at the
images' own resolution.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from gcsam_med.files import write_durably
from gcsam_med.metrics.roc import roc_auc
from gcsam_med.metrics.segmentation import dice_of_counts
from gcsam_med.reporting.drawing import PREDICTION, TRUTH, draw_outlines, to_rgb
from gcsam_med.training.batches import StoredCases
from gcsam_med.training.plan import Plan
from gcsam_med.training.process import gathered, share_buffers

DRAWN, TILE = 8, 160
"""Cases of ``val_predictions.png``, and the least side of each in pixels."""


@torch.inference_mode()
def validate(
    plan: Plan,
    network: nn.Module,
    loss: nn.Module,
    cases: StoredCases,
    autocast: Callable[[], AbstractContextManager[Any]],
    rank: int = 0,
    world: int = 1,
) -> dict[str, float]:
    """Measure loss and metrics on the validation split; each process takes its share of the cases.

    The network comes back in the mode it came in. The result holds ``val_loss`` and, for segmentation,
    ``val_dice`` and ``val_iou`` (means over cases with a lesion), for classification ``val_accuracy``,
    ``val_balanced_accuracy`` and ``val_auc`` (one against the rest, mean over classes; left out where it is
    not defined).
    """
    share_buffers(network, world)
    mine = plan.val_rows[rank::world]
    size = max(2 * plan.config.batch_size, 64 if cases.device.type == "cuda" else 0)
    parts: list[np.ndarray] = []
    for start in range(0, len(mine), size):
        _, logits, targets = _answers(network, cases, mine[start : start + size], autocast)
        parts.append(_per_case(plan, logits, targets, loss))
    table = np.concatenate(parts) if parts else np.empty((0, _columns(plan)))
    table = np.concatenate(gathered(table, world))
    return _segmentation(table) if plan.task == "segmentation" else _classification(table)


@torch.inference_mode()
def draw_predictions(
    path: Path,
    plan: Plan,
    network: nn.Module,
    cases: StoredCases,
    autocast: Callable[[], AbstractContextManager[Any]],
) -> None:
    """Draw a few validation cases, the same in every epoch, as ``val_predictions.png``.

    Segmentation: outlines of the mask (blue, dashed) and of the prediction (orange). Classification: the
    predicted class with its probability, green where it is right.
    """
    from PIL import Image, ImageDraw

    places = np.linspace(0, len(plan.val_rows) - 1, min(DRAWN, len(plan.val_rows))).round().astype(int)
    rows = plan.val_rows[places]
    stored, logits, targets = _answers(network, cases, rows, autocast)
    tiles = []
    for image, answer, target in zip(stored.cpu().numpy(), logits.cpu(), targets.cpu(), strict=True):
        factor = max(1, -(-TILE // len(image)))
        large = image.repeat(factor, axis=0).repeat(factor, axis=1)
        if plan.task == "segmentation":
            masks = [(m[0].numpy().repeat(factor, 0).repeat(factor, 1)) for m in (target > 0.5, answer >= 0)]
            lines = [(masks[0], TRUTH, True), (masks[1], PREDICTION, False)]
            tiles.append(draw_outlines(large, lines, width=1))
            continue
        tile = Image.fromarray(to_rgb(large))
        called = int(answer.argmax())
        text = f"{plan.classes[called]} {float(answer.softmax(0)[called]):.2f}"
        colour = "#00c060" if called == int(target) else "#ff5030"
        ImageDraw.Draw(tile).text((4, 4), text, fill=colour, stroke_width=1, stroke_fill="black")
        tiles.append(np.asarray(tile))
    columns = DRAWN // 2
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    sheet = np.concatenate([np.concatenate(tiles[i : i + columns], 1) for i in range(0, len(tiles), columns)])
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, format="PNG")
    write_durably(path, buffer.getvalue())


def _answers(
    network: nn.Module,
    cases: StoredCases,
    rows: np.ndarray,
    autocast: Callable[[], AbstractContextManager[Any]],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Stored images of some rows, the network's logits in evaluation mode, and the targets."""
    was_training = network.training
    network.eval()
    stored, inputs, targets = cases.for_network(rows)
    with autocast():
        logits = network(inputs)
    network.train(was_training)
    return stored, logits.float(), targets


def _per_case(plan: Plan, logits: torch.Tensor, targets: torch.Tensor, loss: nn.Module) -> np.ndarray:
    """Row a case: loss, then intersection, predicted and true pixels, or class and probabilities."""
    losses = torch.stack([loss(logits[i : i + 1], targets[i : i + 1]) for i in range(len(logits))])
    if plan.task == "segmentation":
        predicted, true = logits.flatten(1) >= 0, targets.flatten(1) > 0.5
        columns = [losses, (predicted & true).sum(1), predicted.sum(1), true.sum(1)]
    else:
        columns = [losses, targets, *logits.softmax(dim=1).T]
    return torch.stack([c.double().cpu() for c in columns], dim=1).numpy()


def _columns(plan: Plan) -> int:
    return 4 if plan.task == "segmentation" else 2 + plan.outputs


def _segmentation(table: np.ndarray) -> dict[str, float]:
    losses, both, predicted, true = table.T
    lesion = true > 0
    both, predicted, true = both[lesion], predicted[lesion], true[lesion]
    dice, iou = dice_of_counts(both, predicted, true), both / (predicted + true - both)
    return {
        "val_loss": float(losses.mean()),
        "val_dice": float(dice.mean()) if lesion.any() else 0.0,
        "val_iou": float(iou.mean()) if lesion.any() else 0.0,
    }


def _classification(table: np.ndarray) -> dict[str, float]:
    losses, labels, probabilities = table[:, 0], table[:, 1].astype(np.int64), table[:, 2:]
    predicted = probabilities.argmax(axis=1)
    recalls = [float((predicted[labels == c] == c).mean()) for c in np.unique(labels)]
    areas = [roc_auc(labels == c, probabilities[:, c]) for c in range(probabilities.shape[1])]
    defined = [area for area in areas if area is not None]
    return {
        "val_loss": float(losses.mean()),
        "val_accuracy": float((predicted == labels).mean()),
        "val_balanced_accuracy": float(np.mean(recalls)),
        **({"val_auc": float(np.mean(defined))} if defined else {}),
    }
