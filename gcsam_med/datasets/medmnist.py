"""BreastMNIST and PneumoniaMNIST: ``breastmnist.npz`` with {train,val,test}_{images,labels}.

``prepare`` unpacks the .npz, an archive of arrays, and checks its MD5 sum; the given split is by image.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gcsam_med.datasets.case import Case, Listing, RawPixels, locate
from gcsam_med.errors import InputError
from gcsam_med.reading import faults, open_plain

SPLITS = ("train", "val", "test")
NOTE = "The given split is by image; no patients are known."


def list_breastmnist(source: Path) -> Listing:
    """List BreastMNIST's cases; its class 0 is malignant, 1 is benign or normal."""
    return _listing(source, "BreastMNIST", ("malignant", "benign or normal"))


def list_pneumoniamnist(source: Path) -> Listing:
    """List PneumoniaMNIST's cases; its class 1 is pneumonia."""
    return _listing(source, "PneumoniaMNIST", ("normal", "pneumonia"))


def _listing(source: Path, name: str, classes: Sequence[str]) -> Listing:
    if source.is_dir() and len(archives := sorted(source.glob("*.npz"))) > 0:
        raise InputError(f"{source} holds {archives[0].name}.", f"Name the file: --source {archives[0]}")
    root = locate(source, [[f"{split}_images.npy" for split in SPLITS]], f"{name}'s .npz")
    cases: list[Case] = []
    for split in SPLITS:
        images, labels = f"{split}_images.npy", _labels(root / f"{split}_labels.npy", len(classes))
        start, shape = _header(root / images)
        if shape[0] != len(labels) or len(shape) != 3:
            raise InputError(f"{images} should hold {len(labels)} grey images, but has the shape {shape}.")
        size = shape[1] * shape[2]
        for i, label in enumerate(labels):
            raw = RawPixels(start + i * size, (shape[1], shape[2]))
            cases.append(Case(f"{split}-{i:05d}", images, label=classes[label], split=split, raw=raw))
    return Listing(root, tuple(cases), tuple(sorted(classes)), notes=(NOTE,))


def _header(path: Path) -> tuple[int, tuple[int, ...]]:
    """Where the values of an array of bytes begin, and its shape."""
    with faults(path, "Download the .npz again."), open_plain(path) as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError("it is not an array of version 1.0")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        if fortran or dtype != np.uint8 or not shape:
            raise ValueError(f"it holds {dtype} {shape}, not bytes row by row")
        return file.tell(), shape


def _labels(path: Path, classes: int) -> list[int]:
    start, shape = _header(path)
    with faults(path, "Download the .npz again."), open_plain(path) as file:
        labels = list(file.read(start + shape[0])[start:])
        if len(labels) != shape[0] or max(labels, default=0) >= classes or shape[1:] not in ((), (1,)):
            raise ValueError(f"it does not hold one class below {classes} for each image")
    return labels
