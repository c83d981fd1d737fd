"""CIFAR-10 and CIFAR-100: the binary version, the Python version, or a folder of class folders.

Both versions hold 3 x 32 x 32 bytes a picture, red, green, blue. The Python version is a serialised Python
object, which could run anything when it is loaded: torchvision loads it only if its MD5 sum is that of the
published file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from gcsam_med.datasets import folder
from gcsam_med.datasets.case import Case, Listing, RawPixels, locate
from gcsam_med.errors import InputError
from gcsam_med.reading import read_plain

MOST_BYTES = 2**30
PICTURE_BYTES = 3 * 32 * 32
TRAIN_10 = tuple(f"data_batch_{i}" for i in range(1, 6))


def list_cifar10(source: Path) -> Listing:
    """List CIFAR-10 (``cifar-10-batches-bin``, ``cifar-10-batches-py`` or class folders)."""
    if root := _holding(source, "batches.meta.txt", "data_batch_1.bin"):
        batches = [("train", f"{name}.bin") for name in TRAIN_10] + [("test", "test_batch.bin")]
        return _from_binary(root, batches, _lines(root / "batches.meta.txt"), ())
    if root := _holding(source, "batches.meta", "data_batch_1"):
        return _from_python(root, "CIFAR10")
    return _from_folders(source)


def list_cifar100(source: Path) -> Listing:
    """List CIFAR-100 (``cifar-100-binary``, ``cifar-100-python`` or class folders)."""
    if root := _holding(source, "fine_label_names.txt", "train.bin"):
        fine, coarse = _lines(root / "fine_label_names.txt"), _lines(root / "coarse_label_names.txt")
        return _from_binary(root, [("train", "train.bin"), ("test", "test.bin")], fine, coarse)
    if root := _holding(source, "meta", "train"):
        return _from_python(root, "CIFAR100")
    return _from_folders(source)


def _holding(source: Path, names: str, batch: str) -> Path | None:
    try:
        root = locate(source, [(names, batch)], "CIFAR")
    except InputError:
        return None
    return root if (root / batch).is_file() else None  # class folders may also be called train


def _from_folders(source: Path) -> Listing:
    listing = folder.list_cases(source)
    cases = (replace(case, name=case.image.rsplit(".", 1)[0]) for case in listing.cases)
    return replace(listing, cases=tuple(cases))


def _from_binary(
    root: Path, batches: Sequence[tuple[str, str]], names: Sequence[str], coarse: Sequence[str]
) -> Listing:
    head = 2 if coarse else 1
    cases: list[Case] = []
    for split, batch in batches:
        path = root / batch
        if not path.is_file():
            raise InputError(f"CIFAR lacks {batch} in {root}.", "Unpack the whole archive again.")
        data, record = read_plain(path, MOST_BYTES), head + PICTURE_BYTES
        if not data or len(data) % record:
            raise InputError(f"{batch} should hold records of {record} bytes, but has {len(data)} bytes.")
        labels = data[head - 1 :: record]
        offsets = range(head, len(data), record)
        extra = [coarse[b] if b < len(coarse) else "" for b in data[0::record]] if coarse else None
        cases += _records(batch, split, labels, offsets, names, extra)
    return Listing(root=root, cases=tuple(cases), classes=tuple(names))


def _from_python(root: Path, version: str) -> Listing:
    from torchvision import datasets

    kind = getattr(datasets, version)
    cases: list[Case] = []
    try:
        if root.name != kind.base_folder:
            raise RuntimeError("torchvision finds the batches in a folder of this name only")
        for split in ("train", "test"):
            whole = kind(root.parent, train=split == "train")  # checks the MD5 sum of every file, then loads
            batches = [name for name, _ in (whole.train_list if split == "train" else whole.test_list)]
            size = len(whole) // len(batches)
            for number, batch in enumerate(batches):
                labels = whole.targets[number * size : (number + 1) * size]
                # Pictures lie in the file one after the other; where they begin, the first one's bytes tell.
                picture = whole.data[number * size].transpose(2, 0, 1).tobytes()
                start = read_plain(root / batch, MOST_BYTES).index(picture)
                offsets = range(start, start + size * PICTURE_BYTES, PICTURE_BYTES)
                cases += _records(batch, split, labels, offsets, whole.classes, None)
    except (RuntimeError, ValueError):
        raise InputError(
            f"{root} does not hold the whole Python version of {version} as it was published (in a folder "
            f"called {kind.base_folder}, MD5 sums checked).",
            "Unpack the archive again, or use the binary version.",
        ) from None
    return Listing(root=root, cases=tuple(cases), classes=tuple(whole.classes))


def _records(
    batch: str,
    split: str,
    labels: Sequence[int],
    offsets: Sequence[int],
    names: Sequence[str],
    coarse: Sequence[str] | None,
) -> Iterator[Case]:
    stem = batch.removesuffix(".bin")
    for i, (label, offset) in enumerate(zip(labels, offsets, strict=True)):
        if label >= len(names):
            raise InputError(f"{batch} record {i} has class {label}; there are {len(names)} classes.")
        attributes = {"superclass": coarse[i]} if coarse is not None else {}
        raw = RawPixels(offset, (3, 32, 32), planar=True)
        yield Case(f"{stem}-{i:05d}", batch, label=names[label], split=split, attributes=attributes, raw=raw)


def _lines(path: Path) -> list[str]:
    try:
        lines = read_plain(path, MOST_BYTES).decode("ascii").splitlines()
        return [line.strip() for line in lines if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path.name} cannot be read ({type(error).__name__}).") from None
