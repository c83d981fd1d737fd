"""CIFAR in all three forms gives the same pictures, and nothing in a file is ever run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from gcsam_med.datasets import DATASETS, Listing
from gcsam_med.datasets.cifar import PICTURE_BYTES
from gcsam_med.datasets.cifar_python import read_batch, read_names
from gcsam_med.errors import InputError
from tests.datasets import layouts


def pixels(listing: Listing, number: int) -> bytes:
    case = listing.cases[number]
    data = (listing.root / case.image).read_bytes()
    assert case.offset is not None
    return data[case.offset : case.offset + PICTURE_BYTES]


def test_binary_version(tmp_path: Path) -> None:
    """Labels, splits and bytes as written."""
    layouts.cifar10_binary(tmp_path)
    listing = DATASETS["cifar10"].list_cases(tmp_path)
    assert Counter(c.split for c in listing.cases) == {"train": 100, "test": 20}
    pictures, labels = layouts.cifar_pictures(20, 10, seed=1)
    for i in (0, 7, 19):
        assert pixels(listing, 20 + i) == pictures[i].tobytes()
        assert listing.cases[20 + i].label == listing.classes[labels[i]]
    assert listing.cases[20].name == "data_batch_2-00000"


def test_hundred_classes_with_superclasses(tmp_path: Path) -> None:
    """Two label bytes: coarse, then fine."""
    listing = DATASETS["cifar100"].list_cases(layouts.cifar100_binary(tmp_path))
    assert listing.classes == ("apple", "bear", "can")
    assert [c.label for c in listing.cases[:3]] == ["apple", "bear", "can"]
    assert [c.attributes["superclass"] for c in listing.cases[:3]] == ["fruit", "carnivores", "fruit"]
    pictures, _ = layouts.cifar_pictures(60, 3, seed=1)
    assert pixels(listing, 60 + 5) == pictures[5].tobytes()


def test_python_version_holds_the_same(tmp_path: Path) -> None:
    """As Python 2 wrote it, opcode by opcode."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    names = [f"class {i}" for i in range(10)]
    (folder / "batches.meta").write_bytes(layouts.python2_names(names))
    for b, batch in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        pictures, labels = layouts.cifar_pictures(20, 10, seed=b)
        (folder / batch).write_bytes(layouts.python2_batch(pictures, labels.tolist()))
    listing = DATASETS["cifar10"].list_cases(tmp_path)
    assert listing.classes == tuple(names)
    pictures, labels = layouts.cifar_pictures(20, 10, seed=5)
    for i in (0, 3, 19):
        assert pixels(listing, 100 + i) == pictures[i].tobytes()
        assert listing.cases[100 + i].label == names[labels[i]]


def test_python_version_of_cifar100(tmp_path: Path) -> None:
    """fine_labels."""
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    (folder / "meta").write_bytes(layouts.python2_names(["x", "y"], "fine_label_names"))
    for s, split in enumerate(("train", "test")):
        pictures, labels = layouts.cifar_pictures(10, 2, seed=s)
        (folder / split).write_bytes(layouts.python2_batch(pictures, labels.tolist(), "fine_labels"))
    listing = DATASETS["cifar100"].list_cases(tmp_path)
    assert Counter(c.split for c in listing.cases) == {"train": 10, "test": 10}


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    """A batch that would call os.mkdir if it were loaded the usual way."""
    victim = tmp_path / "made"
    call = b"\x80\x02cos\nmkdir\nU" + bytes([len(str(victim))]) + str(victim).encode() + b"\x85R."
    pictures, labels = layouts.cifar_pictures(4, 2)
    good = layouts.python2_batch(pictures, labels.tolist())
    inside = good[:4] + call[2:-1] + b"0" + good[4:]  # called, dropped, then the batch goes on
    path = tmp_path / "batch"
    path.write_bytes(call)
    with pytest.raises(InputError, match="not a batch file"):
        read_batch(path, "labels", PICTURE_BYTES)
    path.write_bytes(inside)
    with pytest.raises(InputError, match="not a batch file"):
        read_batch(path, "labels", PICTURE_BYTES)
    assert not victim.exists()


@pytest.mark.parametrize("seed", range(8))
def test_damaged_batches_are_refused(seed: int, tmp_path: Path) -> None:
    """Cut off, or with bytes changed in the part that is not pictures."""
    pictures, labels = layouts.cifar_pictures(4, 2)
    good = layouts.python2_batch(pictures, labels.tolist())
    rng = np.random.default_rng(seed)
    path = tmp_path / "batch"
    path.write_bytes(good[: int(rng.integers(1, len(good)))])
    with pytest.raises(InputError):
        read_batch(path, "labels", PICTURE_BYTES)
    path.write_bytes(rng.bytes(500))
    with pytest.raises(InputError):
        read_names(path, "label_names")


def test_binary_batches_of_odd_size_or_class_are_refused(tmp_path: Path) -> None:
    """A cut batch, a missing batch, a class without a name."""
    folder = layouts.cifar10_binary(tmp_path)
    path = folder / "data_batch_3.bin"
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    with pytest.raises(InputError, match="records of 3073 bytes"):
        DATASETS["cifar10"].list_cases(folder)
    path.write_bytes(b"\x0b" + whole[1:])
    with pytest.raises(InputError, match="class 11"):
        DATASETS["cifar10"].list_cases(folder)
    path.unlink()
    with pytest.raises(InputError, match="lacks data_batch_3"):
        DATASETS["cifar10"].list_cases(folder)


def test_class_folders_of_pictures(tmp_path: Path) -> None:
    """train/CLASS and test/CLASS; names are readable."""
    for split in ("train", "test"):
        layouts.class_folders(tmp_path / split, ("cat", "dog"), 3)
    listing = DATASETS["cifar10"].list_cases(tmp_path)
    assert listing.classes == ("cat", "dog")
    assert listing.cases[0].name.endswith("cat/img0")
    assert Counter(c.split for c in listing.cases) == {"train": 6, "test": 6}
