"""Which model meets which cases: opening a run, finding its data, and choosing the rows that take part."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gcsam_med.config import RunConfig
from gcsam_med.datasets.prepared import SPLITS, PreparedDataset, Split, open_prepared
from gcsam_med.devices import pick_device
from gcsam_med.errors import InputError
from gcsam_med.runs import RunFolder, TrainedModel, load_model


@dataclass(frozen=True)
class Selection:
    """The rows of a split that take part, and why the others do not."""

    rows: np.ndarray  #: ndarray of int64, shape (n,): Rows of the manifest.
    excluded: dict[str, int] = field(default_factory=dict)  #: Number of cases left out, by reason.


@dataclass(frozen=True)
class Examination:
    """A model and the cases it is examined on."""

    run: RunFolder  #: Where it lies.
    config: RunConfig  #: How it was trained.
    model: TrainedModel  #: The network, in eval mode.
    dataset: PreparedDataset  #: The cases.
    split: Split  #: {"train", "val", "test"}: Which part of them.
    selection: Selection  #: Rows that take part.
    #: The data set it was trained on (the same object unless external), where it is still as it was.
    home: PreparedDataset | None
    home_note: str  #: Why `home` is None.
    #: Names in the order of figures: with two classes the second is the positive one.
    classes: tuple[str, ...]
    order: tuple[int, ...]  #: Column of the network's output for each of `classes`.

    @property
    def external(self) -> bool:
        """Whether the data are others than those it was trained on."""
        return self.dataset is not self.home

    @property
    def folder_name(self) -> str:
        """Name under ``RUN/evaluation``."""
        return f"{self.dataset.info.name}-{self.split}" if self.external else self.split

    def labels(self, dataset: PreparedDataset, rows: np.ndarray) -> np.ndarray:
        """Class numbers in the order of `classes`, shape (n,)."""
        names = dataset.manifest["label"].to_numpy()[rows]
        return np.array([self.classes.index(name) for name in names], dtype=np.int64)

    def groups(self, rows: np.ndarray) -> np.ndarray:
        """Group of each case, shape (n,), str."""
        return self.dataset.manifest["group_id"].to_numpy(dtype=str)[rows]


def open_examination(
    run_root: Path,
    split: str,
    *,
    dataset: str | None = None,
    data_root: Path | None = None,
    device: str = "auto",
) -> Examination:
    """Open a run and the data it is to be examined on.

    Parameters
    ----------
    run_root : Path
        ``runs/NAME``.
    split : str
        ``train``, ``val`` or ``test``.
    dataset : str, optional
        Another data set, for external validation.
    data_root : Path, optional
        Folder of prepared data sets. Default: the one the run was trained from.
    device : str
        See `pick_device`.

    Returns
    -------
    Examination
        Ready to run.

    Raises
    ------
    InputError
        If the run, the data set or the split is not there or does not fit the model, or if the run's own data
        set has been prepared anew since (its test cases may have been trained on).
    CheckpointError
        If the model is damaged.
    """
    if split not in SPLITS:
        raise InputError(f"Unknown split '{split}'.", f"Known: {', '.join(SPLITS)}.")
    run = RunFolder.open(run_root)
    config = run.config()
    model = load_model(run.model, pick_device(device))
    root = Path(data_root) if data_root is not None else config.data_root
    home, home_note = _home(root, config.data_root, model)
    if dataset is None or (home is not None and dataset == home.info.name):
        if home is None:
            raise InputError(
                home_note,
                "Say where prepared data are with --data-root, or name other data with --dataset (external).",
            )
        data = home
    else:
        data = open_prepared(root, dataset)
    _check_fit(model, data)
    chosen = select(data, data.rows(split, config.fold if data is home else None), model, config)
    if not len(chosen.rows):
        why = "; ".join(f"{n} {reason}" for reason, n in chosen.excluded.items()) or "it is empty"
        raise InputError(f"The {split} split of '{data.info.name}' has no case to evaluate: {why}.")
    order = class_order(model, data)
    classes = tuple(model.card.classes[i] for i in order)
    return Examination(run, config, model, data, split, chosen, home, home_note, classes, order)


def _home(root: Path, trained_from: Path, model: TrainedModel) -> tuple[PreparedDataset | None, str]:
    """Find the data set the model was trained on, unchanged."""
    card, note = model.card, ""
    for place in dict.fromkeys((root, trained_from)):
        try:
            found = open_prepared(place, card.dataset)
        except InputError as error:
            note = note or f"The run's own data set is not there: {error.message}"
            continue
        if found.info.content_sha256 == card.dataset_sha256:
            return found, ""
        note = (
            f"'{card.dataset}' was prepared anew since this run was trained: its content is another one, so "
            "its test cases may have been trained on."
        )
    return None, note


def _check_fit(model: TrainedModel, dataset: PreparedDataset) -> None:
    card, info = model.card, dataset.info
    if card.task == "segmentation" and not info.has_masks:
        raise InputError(f"'{info.name}' has no masks, so a segmentation cannot be evaluated on it.")
    if card.task == "classification" and not set(card.classes) & set(info.classes):
        raise InputError(
            f"The model knows the classes {', '.join(card.classes)}; '{info.name}' has "
            f"{', '.join(info.classes)}.",
            "At least one must be the same to the letter.",
        )
    if card.size != info.size:
        raise InputError(
            f"The model takes squares of {card.size} pixels; '{info.name}' holds squares of {info.size}.",
            f"Prepare it again with --size {card.size}, under another name.",
        )


def class_order(model: TrainedModel, dataset: PreparedDataset) -> tuple[int, ...]:
    """Return the columns of the network's output such that of two classes the second is the positive one.

    The positive class is the one that is not negative by the data set's own word; else the second.
    """
    names, negative = model.card.classes, dataset.info.negative_classes
    if len(names) == 2 and names[1] in negative and names[0] not in negative:
        return (1, 0)
    return tuple(range(len(names)))


def select(dataset: PreparedDataset, rows: np.ndarray, model: TrainedModel, config: RunConfig) -> Selection:
    """Choose the rows that take part.

    Segmentation takes cases with a mask, and cases of negative classes (they hold no lesion, and count in
    detection figures only). Classification takes cases whose label the model knows.
    """
    case = dataset.manifest.iloc[rows]
    label = case["label"].to_numpy(dtype=str)
    excluded: dict[str, int] = {}
    keep = np.ones(len(rows), dtype=bool)

    def leave_out(these: np.ndarray, reason: str) -> None:
        count = int((keep & these).sum())
        if count:
            excluded[reason] = count
            keep[these] = False

    if model.card.task == "segmentation":
        negative = np.isin(label, dataset.info.negative_classes)
        if config.classes is not None and dataset.info.name == model.card.dataset:
            leave_out(~np.isin(label, config.classes), "of a class the run leaves out")
        leave_out(~case["has_mask"].to_numpy(dtype=bool) & ~negative, "without a mask")
    else:
        leave_out(label == "", "without a label")
        leave_out(~np.isin(label, model.card.classes), "of a class the model does not know")
    return Selection(np.asarray(rows)[keep], excluded)
