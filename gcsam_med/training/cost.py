"""What training costs: gradient computations, which are the same on any machine, and time on this one.

Times are those of a few steps on random images, so they can be told before any image was prepared.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np

from gcsam_med.config import RunConfig, Task
from gcsam_med.datasets.prepared import PreparedDataset
from gcsam_med.datasets.selection import select_cases
from gcsam_med.metrics.segmentation import MaskPair, dice
from gcsam_med.networks import NETWORKS
from gcsam_med.optim import OPTIMIZERS
from gcsam_med.transforms.letterbox import Letterbox

_WARM_UP, _TIMED = 2, 3
# A forward pass alone, in units of forward and backward.
FORWARD = 1 / 3
AN_HOUR = 3600.0
#: Sides of stored images that are tried, the larger first.
LARGE, SMALL = 256, 128
MOST_EPOCHS, LEAST_EPOCHS = 100, 30


def passes_per_step(config: RunConfig) -> float:
    """Forward and backward passes over the batch that a step makes on average; the method's row tells."""
    return OPTIMIZERS[config.optimizer].passes(config.every, config.ascent_fraction)


def seconds_per_pass(
    config: RunConfig, size: int, *, channels: int = 1, classes: int = 2, modality: str = "ultrasound"
) -> float:
    """Time a step without an ascent: random transforms, forward, backward and update of one batch.

    The median of a few steps, after some to warm up. `size` is the side of the images; `classes` matter to
    classification only.
    """
    import torch

    from gcsam_med.devices import pick_device, pick_precision
    from gcsam_med.losses import build_loss, default_loss
    from gcsam_med.networks import build_network, default_model
    from gcsam_med.training.build import AUTOCAST
    from gcsam_med.transforms.augmentation import training_transform

    task: Task = config.task or "segmentation"
    device = pick_device(config.device)
    precision = AUTOCAST[pick_precision(config.precision, device)]
    outlines = task == "segmentation"
    network = build_network(
        config.model or default_model(task),
        task=task,
        in_channels=channels,
        outputs=1 if outlines else classes,
        size=size,
        dropout=config.dropout,
    ).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(network.parameters())
    loss = build_loss(config.loss or default_loss(task)).to(device)
    augment = training_transform(modality, task, config.monai_transforms) if config.augment else None  # type: ignore[arg-type]
    images = torch.rand(config.batch_size, channels, size, size, device=device)
    masks = (images[:, :1] > 0.5).float() if outlines else None
    targets = torch.zeros(config.batch_size, dtype=torch.int64, device=device)

    times = []
    for step in range(_WARM_UP + _TIMED):
        started = time.monotonic()
        batch, drawn = images, masks
        if augment is not None:
            batch, drawn = augment(images, masks, 0, step, np.arange(config.batch_size))
        with torch.autocast(device.type, precision, enabled=precision is not None):
            logits = network(batch.contiguous(memory_format=torch.channels_last))
        value = loss(logits.float(), targets if drawn is None else drawn)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        value.item()  # waits for the device
        times.append(time.monotonic() - started)
    return float(np.median(times[_WARM_UP:]))


def training_seconds(config: RunConfig, pace: float, train_cases: int, val_cases: int) -> float:
    """Time of a whole run with validation, from the seconds of a pass; early stopping may make it less."""
    steps = math.ceil(train_cases / (config.batch_size * config.accumulate)) * config.accumulate
    validation = math.ceil(val_cases / config.batch_size)
    return config.epochs * pace * (steps * passes_per_step(config) + validation * FORWARD)


@dataclass(frozen=True)
class Advice:
    """What suits a machine and a data set."""

    values: dict[str, int | str]  #: size, batch_size, epochs, device and precision.
    reasons: dict[str, str]  #: Why, by the same names.
    seconds: float  #: How long training takes at most.


def advise(
    config: RunConfig,
    given: set[str],
    train_cases: int,
    val_cases: int,
    *,
    size: int | None = None,
    channels: int = 1,
    classes: int = 2,
    modality: str = "ultrasound",
) -> Advice:
    """Choose size, batch, epochs and precision by timing a few steps on this machine.

    `given` names the settings that the user chose, which stay; `size` is the side of the images where it is
    chosen already; the numbers of cases may be rough.
    """
    from gcsam_med.devices import pick_device, pick_precision

    device = pick_device(config.device)
    precision = pick_precision(config.precision, device)
    reasons = {
        "device": "a GPU is there" if device.type != "cpu" else "no GPU was found",
        "precision": "the GPU computes in it" if precision == "bf16" else "exact, and the safe choice here",
    }
    wanted = 8 if config.task == "segmentation" else 16
    batch = max(1, min(wanted, train_cases // 4))
    reasons["batch_size"] = "usual for this task" if batch == wanted else f"{train_cases} training cases only"
    chosen = {"batch_size": batch, "epochs": MOST_EPOCHS}
    config = config.model_copy(update={name: n for name, n in chosen.items() if name not in given})

    def timed(side: int) -> float:
        facts = {"channels": channels, "classes": classes, "modality": modality}
        pace = seconds_per_pass(config, side, **facts)  # type: ignore[arg-type]
        return training_seconds(config, pace, train_cases, val_cases)

    if size is not None:
        seconds, reasons["size"] = timed(size), "as it was prepared before"
    else:
        size, least = _fitting(config, LARGE), _fitting(config, SMALL)
        seconds, reasons["size"] = timed(size), "the usual size"
        if seconds > AN_HOUR and least < size and (quick := timed(least)) < seconds:
            reasons["size"] = f"at {LARGE} it would take {seconds / quick:.1f} times as long"
            size, seconds = least, quick
    reasons["epochs"] = f"at most; stops after {config.patience} without improvement"
    if "epochs" not in given and seconds > AN_HOUR:
        epochs = max(LEAST_EPOCHS, int(MOST_EPOCHS * AN_HOUR / seconds))
        config, seconds = config.model_copy(update={"epochs": epochs}), seconds * epochs / MOST_EPOCHS
        fits = seconds <= 1.01 * AN_HOUR
        reasons["epochs"] = "as many as fit in an hour" if fits else "fewer are seldom enough"
    reasons |= dict.fromkeys(given & reasons.keys(), "as you chose")
    values: dict[str, int | str] = {
        "device": str(device),
        "precision": precision,
        "size": size,
        "batch_size": config.batch_size,
        "epochs": config.epochs,
    }
    return Advice(values, reasons, seconds)


def _fitting(config: RunConfig, side: int) -> int:
    """The side that the network can take, at least `side`."""
    spec = NETWORKS[str(config.model)]
    return max(spec.smallest, -(-side // spec.multiple) * spec.multiple)


def dice_ceiling(dataset: PreparedDataset, size: int | None = None, most: int = 32) -> float | None:
    """Mean Dice that a perfect answer at `size` pixels (default: the data set's) reaches at the images' own.

    At most `most` training cases are looked at; None without masks.
    """
    if not dataset.info.has_masks:
        return None
    rows = select_cases(dataset, dataset.rows("train"), "segmentation", None, healthy=False).rows
    found = []
    for row in rows[:: math.ceil(len(rows) / most) or 1]:
        own, truth = dataset.geometry(row), dataset.original_mask(row)
        box = Letterbox(own.height, own.width, size or own.size)
        found.append(dice(MaskPair(box.restore(box.place_mask(truth)) >= 0.5, truth)))
    return float(np.mean([value for value in found if value is not None])) if found else None
