"""CIFAR in all three forms gives the same pictures, and nothing in a file is ever run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from torchvision.datasets import CIFAR10, CIFAR100
from torchvision.datasets.utils import calculate_md5 as md5_of

from gcsam_med.datasets import DATASETS, Listing
from gcsam_med.datasets.cifar import PICTURE_BYTES
from gcsam_med.errors import InputError
from tests.datasets import layouts


def pixels(listing: Listing, number: int) -> bytes:
    case = listing.cases[number]
    data = (listing.root / case.image).read_bytes()
    assert case.raw is not None
    return data[case.raw.offset : case.raw.offset + PICTURE_BYTES]


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


def python_version(monkeypatch: pytest.MonkeyPatch, root: Path, kind: type, key: str) -> None:
    """Write a small Python version, and make its MD5 sums the ones that torchvision expects."""
    folder = root / kind.base_folder
    folder.mkdir()
    names = [f"class {i}" for i in range(10)]
    meta = folder / kind.meta["filename"]
    meta.write_bytes(layouts.python2_names(names, kind.meta["key"]))
    monkeypatch.setattr(kind, "meta", kind.meta | {"md5": md5_of(meta)})
    seed = 0
    for attribute in ("train_list", "test_list"):
        listed = []
        for batch, _ in getattr(kind, attribute):
            pictures, labels = layouts.cifar_pictures(20, 10, seed=seed)
            (folder / batch).write_bytes(layouts.python2_batch(pictures, labels.tolist(), key))
            listed.append([batch, md5_of(folder / batch)])
            seed += 1
        monkeypatch.setattr(kind, attribute, listed)


def test_python_version_holds_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six batches as Python 2 wrote them, opcode by opcode."""
    python_version(monkeypatch, tmp_path, CIFAR10, "labels")
    listing = DATASETS["cifar10"].list_cases(tmp_path)
    assert listing.classes == tuple(f"class {i}" for i in range(10))
    assert Counter(c.split for c in listing.cases) == {"train": 100, "test": 20}
    pictures, labels = layouts.cifar_pictures(20, 10, seed=5)
    for i in (0, 3, 19):
        assert pixels(listing, 100 + i) == pictures[i].tobytes()
        assert listing.cases[100 + i].label == listing.classes[labels[i]]


def test_python_version_of_cifar100(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fine_labels."""
    python_version(monkeypatch, tmp_path, CIFAR100, "fine_labels")
    listing = DATASETS["cifar100"].list_cases(tmp_path / "cifar-100-python")
    assert Counter(c.split for c in listing.cases) == {"train": 20, "test": 20}


def test_nothing_in_a_foreign_file_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that calls os.mkdir when it is loaded: its MD5 sum is not the published one."""
    python_version(monkeypatch, tmp_path, CIFAR10, "labels")
    victim = tmp_path / "made"
    call = b"\x80\x02cos\nmkdir\nU" + bytes([len(str(victim))]) + str(victim).encode() + b"\x85R."
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").write_bytes(call)
    with pytest.raises(InputError, match="as it was published"):
        DATASETS["cifar10"].list_cases(tmp_path)
    assert not victim.exists()


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
