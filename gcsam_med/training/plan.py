"""From a configuration and a prepared data set to a plan in which nothing is left open."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from gcsam_med.config import RunConfig, Task
from gcsam_med.datasets.prepared import PreparedDataset, Split
from gcsam_med.datasets.selection import Selection, positive_class, training_cases
from gcsam_med.errors import ConfigError, InputError, unknown_name
from gcsam_med.losses import check_loss, default_loss
from gcsam_med.networks import NETWORKS, default_model, find_network, input_channels
from gcsam_med.optim import OPTIMIZERS, OPTIONS, check_taken
from gcsam_med.transforms.preprocessing import Preprocessing

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Plan:
    """What a run will do."""

    config: RunConfig  #: Complete: no field that the data decide is None.
    dataset: PreparedDataset  #: The images.
    classes: tuple[str, ...]  #: Names of the outputs; the mask's target alone for segmentation.
    #: train_rows, val_rows: Rows of the manifest.
    train_rows: np.ndarray
    val_rows: np.ndarray
    preprocessing: Preprocessing  #: From stored images to the network's input.
    warnings: tuple[str, ...]  #: What the user should know before reading any number.

    @property
    def task(self) -> Task:
        """The task, which a complete configuration names."""
        return self.config.task or "segmentation"

    @property
    def outputs(self) -> int:
        """Channels of the network's output."""
        return len(self.classes)

    @cached_property
    def metric(self) -> str:
        """What chooses the best epoch on validation: ``dice`` or ``auc``, or ``loss`` where it is undefined.

        Of ``loss`` lower is better. AUC needs two classes, Dice a lesion.
        """
        if self.task == "classification":
            return "auc" if len(set(self.labels(self.val_rows).tolist())) > 1 else "loss"
        return "dice" if holds_lesion(self.dataset, self.val_rows) else "loss"

    @property
    def starts_from_imagenet(self) -> bool:
        """Whether the network starts from torchvision's ImageNet weights, fetched or brought."""
        return self.config.pretrained or self.config.weights is not None

    def labels(self, rows: np.ndarray) -> np.ndarray:
        """Number of each row's class among `classes`, shape (n,), int64."""
        number = {name: i for i, name in enumerate(self.classes)}
        return np.array([number[x] for x in self.dataset.manifest["label"].to_numpy()[rows]], dtype=np.int64)

    def class_counts(self) -> np.ndarray:
        """Training cases of each class, shape (classes,), int64."""
        return np.bincount(self.labels(self.train_rows), minlength=self.outputs)


def holds_lesion(dataset: PreparedDataset, rows: np.ndarray) -> bool:
    """Whether a mask of these rows is not empty."""
    return any(dataset.masks([row]).any() for row in rows)


def make_plan(config: RunConfig, dataset: PreparedDataset) -> Plan:
    """Fill in what the data set decides and check that the run can work.

    Raises
    ------
    InputError
        If the task, the classes or the names do not fit the data set.
    """
    task = config.task or ("segmentation" if dataset.info.has_masks else "classification")
    if task == "segmentation" and not dataset.info.has_masks:
        raise InputError(
            f"'{dataset.info.name}' has no masks, so it cannot train segmentation.",
            "Use --task classification, or prepare it with masks.",
        )
    model = config.model or default_model(task)
    find_network(model, task)
    loss = config.loss or default_loss(task)
    check_loss(loss, task)
    if config.optimizer not in OPTIMIZERS:
        raise unknown_name("optimizer", config.optimizer, OPTIMIZERS)
    method = OPTIMIZERS[config.optimizer]
    # A rho that is common to the arms of a comparison is of no use to gradient centralization alone.
    without_rho = method.ascent is not None and not method.ascends
    classes = _classes(config, dataset, task)
    channels = dataset.info.channels if config.weights is None else input_channels(model, config.weights)
    imagenet = config.pretrained or (config.weights is not None and channels == 3)
    complete = config.model_copy(
        update={
            "task": task,
            "model": model,
            # Segmentation learns from lesions, but images without one belong to its evaluation.
            "classes": classes if task == "classification" else config.classes,
            "loss": loss,
            "lr": config.lr or (NETWORKS[model].pretrained_lr if imagenet else NETWORKS[model].lr),
            "rho": method.rho if config.rho is None or without_rho else config.rho,
        }
    )
    _check_ascent_options(complete)
    taking_part = training_cases(dataset, task, complete.classes, config.folds)
    train_rows, val_rows = (selection.rows for selection in taking_part.values())
    _check_not_empty(dataset, {"train": train_rows, "val": val_rows}, classes)
    return Plan(
        config=complete,
        dataset=dataset,
        classes=(dataset.info.mask_target,) if task == "segmentation" else tuple(classes),
        train_rows=train_rows,
        val_rows=val_rows,
        preprocessing=(
            Preprocessing(dataset.info.size, 3, IMAGENET_MEAN, IMAGENET_STD)
            if imagenet
            else _fitted(dataset, train_rows, channels)
        ),
        warnings=(
            *_warnings(dataset),
            *_shared(dataset, config),
            *_left_out(taking_part),
            *_absent(dataset, val_rows, classes, task),
        ),
    )


def _check_ascent_options(config: RunConfig) -> None:
    """Refuse what the method does not take or what is out of range; plain optimizers take none of it."""
    given = ascent_options(config)
    if OPTIMIZERS[config.optimizer].ascent is None:
        given = {}
    try:
        check_taken(config.optimizer, given)
    except ValueError as error:
        raise ConfigError(f"The configuration does not hold: {error}.") from error


def ascent_options(config: RunConfig) -> dict[str, Any]:
    """The options of an ascent that were given, rho aside; a method has its own values for the rest."""
    names = [name for name in OPTIONS if name != "rho" and name in RunConfig.model_fields]
    values = {name: getattr(config, name) for name in names}
    return {name: v for name, v in values.items() if v != RunConfig.model_fields[name].default}


def _classes(config: RunConfig, dataset: PreparedDataset, task: str) -> list[str]:
    known = dataset.info.classes
    if config.classes is not None:
        for name in config.classes:
            if name not in known:
                raise unknown_name(f"class of '{dataset.info.name}'", name, known)
        chosen = [name for name in known if name in config.classes]
    elif task == "segmentation":
        chosen = [name for name in known if name not in dataset.info.empty_mask_classes]
    else:
        chosen = list(known)
    if task == "classification" and len(chosen) < 2:
        raise InputError(
            f"Classification needs at least two classes; '{dataset.info.name}' offers {chosen or 'none'}.",
            "Prepare it with labels, or use --task segmentation.",
        )
    if task == "classification":
        positive_class(chosen, dataset.info)  # asked for before hours of training
    return chosen


def _check_not_empty(dataset: PreparedDataset, parts: dict[Split, np.ndarray], classes: list[str]) -> None:
    for name, rows in parts.items():
        if len(rows) == 0:
            raise InputError(
                f"The {name} split of '{dataset.info.name}' has no case"
                + (f" of {', '.join(classes)}." if classes else "."),
                "Prepare it with more images or another --seed, or choose other classes.",
            )


def _fitted(dataset: PreparedDataset, rows: np.ndarray, channels: int) -> Preprocessing:
    """Preprocessing with mean and standard deviation of the training images."""
    size = dataset.info.size
    plain = Preprocessing(size, channels, (0.0,) * channels, (1.0,) * channels)
    total, squares, count = np.zeros(channels), np.zeros(channels), 0
    for start in range(0, len(rows), 64):
        planes = plain.planes(dataset.images(rows[start : start + 64])).expand(-1, channels, -1, -1)
        pixels = planes.mul(255).round().to(torch.uint8).transpose(0, 1).reshape(channels, -1).numpy()
        # Sums by histogram: exact integers.
        for channel in range(channels):
            histogram = np.bincount(pixels[channel], minlength=256)
            total[channel] += histogram @ np.arange(256)
            squares[channel] += histogram @ np.arange(256) ** 2
        count += pixels.shape[1]
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    return Preprocessing(
        size,
        channels,
        tuple(round(float(m) / 255, 6) for m in mean),
        tuple(round(max(float(s), 1.0) / 255, 6) for s in std),
    )


def _shared(dataset: PreparedDataset, config: RunConfig) -> list[str]:
    """Say how many cases take no part because the centre that is left out shares their picture or patient."""
    if config.leave_out is None:
        return []
    parts: tuple[Split, ...] = ("train", "val", "test")
    missing = len(dataset) - sum(len(dataset.rows(split, *config.folds)) for split in parts)
    said = f"{missing} cases of other centres belong to groups of '{config.leave_out}' and take no part."
    return [said] if missing else []


def _left_out(taking_part: dict[Split, Selection]) -> list[str]:
    return [
        f"Of the {name} split {count} images {reason} take no part in training."
        for name, selection in taking_part.items()
        for reason, count in selection.excluded.items()
    ]


def _absent(dataset: PreparedDataset, val_rows: np.ndarray, classes: list[str], task: str) -> list[str]:
    """Say what validation cannot judge."""
    advice = "Prepare the data with another --seed, or train with --fold."
    if task == "segmentation":
        if holds_lesion(dataset, val_rows):
            return []
        return [
            f"Validation holds no image with a {dataset.info.mask_target}, so it has no Dice: the epoch with "
            f"the lowest validation loss is kept. {advice}"
        ]
    there = set(dataset.manifest["label"].to_numpy()[val_rows])
    absent = [name for name in classes if name not in there]
    if not absent:
        return []
    if len(classes) - len(absent) < 2:
        return [
            f"Validation holds no case of {', '.join(absent)}, so it has no AUC: the epoch with the lowest "
            f"validation loss is kept. {advice}"
        ]
    return [f"Validation holds no case of {', '.join(absent)}, so it cannot judge that class. {advice}"]


def _warnings(dataset: PreparedDataset) -> list[str]:
    found = []
    if dataset.info.synthetic:
        found.append("These images are synthetic: results say nothing about patients.")
    if dataset.info.group_kind == "image":
        found.append(
            "This data set is split by image, not by patient or near-duplicate group: "
            "results may be too good."
        )
    return found
