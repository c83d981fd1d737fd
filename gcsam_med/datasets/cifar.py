"""CIFAR-10 and CIFAR-100: the binary version, the Python version, or a folder of class folders.

Both versions hold 3 x 32 x 32 bytes a picture, red, green, blue. The Python version is a serialised Python
object; `gcsam_med.datasets.cifar_python` finds the bytes in it without running anything that it contains.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from gcsam_med.datasets import folder
from gcsam_med.datasets.case import Case, Listing, locate
from gcsam_med.datasets.cifar_python import read_batch, read_names
from gcsam_med.errors import InputError

PICTURE_BYTES = 3 * 32 * 32
TRAIN_10 = tuple(f"data_batch_{i}" for i in range(1, 6))


def list_cifar10(source: Path) -> Listing:
    """List CIFAR-10 (``cifar-10-batches-bin``, ``cifar-10-batches-py`` or class folders)."""
    batches = [("train", name) for name in TRAIN_10] + [("test", "test_batch")]
    kind = _kind(source, "batches.meta.txt", "data_batch_1.bin", "data_batch_1")
    if kind is None:
        return _from_folders(source)
    root, version = kind
    if version == "binary":
        names = _lines(root / "batches.meta.txt")
        return _from_binary(root, [(s, f"{b}.bin") for s, b in batches], names, ())
    names = read_names(root / "batches.meta", "label_names")
    return _from_python(root, batches, "labels", names)


def list_cifar100(source: Path) -> Listing:
    """List CIFAR-100 (``cifar-100-binary``, ``cifar-100-python`` or class folders)."""
    kind = _kind(source, "fine_label_names.txt", "train.bin", "train")
    if kind is None:
        return _from_folders(source)
    root, version = kind
    if version == "binary":
        fine, coarse = _lines(root / "fine_label_names.txt"), _lines(root / "coarse_label_names.txt")
        return _from_binary(root, [("train", "train.bin"), ("test", "test.bin")], fine, coarse)
    names = read_names(root / "meta", "fine_label_names")
    return _from_python(root, [("train", "train"), ("test", "test")], "fine_labels", names)


def _kind(source: Path, names_file: str, binary: str, python: str) -> tuple[Path, str] | None:
    meta = "batches.meta" if python.startswith("data") else "meta"
    try:
        root, index = locate(source, [(names_file, binary), (meta, python)], "CIFAR")
    except InputError:
        return None
    # Class folders may also be called train and test; batches are files.
    return (root, ("binary", "python")[index]) if (root / (binary, python)[index]).is_file() else None


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
        data, record = path.read_bytes(), head + PICTURE_BYTES
        if not data or len(data) % record:
            raise InputError(f"{batch} should hold records of {record} bytes, but has {len(data)} bytes.")
        labels = data[head - 1 :: record]
        offsets = range(head, len(data), record)
        extra = [coarse[b] if b < len(coarse) else "" for b in data[0::record]] if coarse else None
        cases += _records(batch, split, labels, offsets, names, extra)
    return Listing(root=root, cases=tuple(cases), classes=tuple(names))


def _from_python(root: Path, batches: Sequence[tuple[str, str]], key: str, names: Sequence[str]) -> Listing:
    cases: list[Case] = []
    for split, batch in batches:
        path = root / batch
        if not path.is_file():
            raise InputError(f"CIFAR lacks {batch} in {root}.", "Unpack the whole archive again.")
        labels, start = read_batch(path, key, PICTURE_BYTES)
        offsets = range(start, start + len(labels) * PICTURE_BYTES, PICTURE_BYTES)
        cases += _records(batch, split, labels, offsets, names, None)
    return Listing(root=root, cases=tuple(cases), classes=tuple(names))


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
        yield Case(
            f"{stem}-{i:05d}", batch, label=names[label], split=split, attributes=attributes, offset=offset
        )


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(encoding="ascii").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path.name} cannot be read ({type(error).__name__}).") from None
