"""Chest X-rays whose findings stand in a table: NIH ChestX-ray14, RSNA pneumonia, SIIM pneumothorax.

- NIH: ``images*/00000013_005.png``, ``Data_Entry_2017_v2020.csv`` (Image Index, Finding Labels with ``|``,
  Patient ID, ...), ``train_val_list.txt``, ``test_list.txt``. ``--target Pneumothorax`` is that finding
  against all other images, ``--target 'Pneumothorax,No Finding'`` against those of one other label only,
  and without a target it is any finding against none.
- RSNA: ``stage_2_train_images/PATIENT.dcm``, ``stage_2_train_labels.csv`` (a row a box),
  ``stage_2_detailed_class_info.csv``; ``--target`` as above. Boxes become a column.
- SIIM: ``dicom-images-train/**/IMAGE.dcm``, ``train-rle.csv`` (ImageId, EncodedPixels as run lengths, -1
  for none).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from gcsam_med.datasets.case import Case, Listing, locate
from gcsam_med.datasets.table import read_table
from gcsam_med.errors import Fault, InputError, unknown_name
from gcsam_med.images import find_images
from gcsam_med.reading import faults as reading_faults
from gcsam_med.reading import read_plain

NOTHING, OPACITY = "No Finding", "Lung Opacity"
MOST_LIST_BYTES = 64 * 2**20
CLASSES_SIIM = ("no pneumothorax", "pneumothorax")
RSNA_COLUMNS = ("patientId", "x", "y", "width", "height", "Target")


def list_nih(source: Path, target: str = "") -> Listing:
    """List NIH ChestX-ray14; `target` is the finding, see the module's text."""
    root = locate(source, [("Data_Entry_2017_v2020.csv",), ("Data_Entry_2017.csv",)], "NIH ChestX-ray14")
    table = next(p for v in ("_v2020", "") if (p := root / f"Data_Entry_2017{v}.csv").is_file())
    rows = read_table(table, ("Image Index", "Finding Labels", "Patient ID")).to_dict("records")
    findings = [frozenset(filter(None, row["Finding Labels"].split("|"))) for row in rows]
    labels, classes = _by_target(findings, target, NOTHING)
    paths = {p.name: p.relative_to(root).as_posix() for p in find_images(root)}
    test, train = (_lines(root / f"{name}_list.txt") for name in ("test", "train_val"))
    cases: list[Case] = []
    faults: list[Fault] = []
    unused: list[Fault] = []
    missing = 0
    for row, label in zip(rows, labels, strict=True):
        name = row["Image Index"]
        image = paths.pop(name, "")
        if not image:
            missing += 1
        elif not label:
            unused.append(Fault(image, "other-finding", f"it is neither {classes[0]} nor {classes[1]}."))
        elif train and name not in test and name not in train:
            faults.append(Fault(image, "no-split", "neither test_list.txt nor train_val_list.txt has it."))
        else:
            known = {
                "age": row.get("Patient Age", ""),
                "sex": row.get("Patient Gender", row.get("Patient Sex", "")),
                "view": row.get("View Position", ""),
                "findings": row["Finding Labels"],
            }
            split = "test" if name in test else ""
            patient = row["Patient ID"]
            cases.append(Case(Path(name).stem, image, (), label, patient, split, attributes=known))
    if missing:
        faults.append(
            Fault(table.name, "missing", f"{missing} of {len(rows)} images it lists are not there.")
        )
    faults += [Fault(path, "not-listed", f"{table.name} does not list it.") for path in paths.values()]
    notes = () if test else ("test_list.txt is not there, so a test set is drawn by patient.",)
    return _listing(root, cases, classes, faults, notes, unused)


def list_rsna(source: Path, target: str = "") -> Listing:
    """List the RSNA pneumonia challenge's training images; `target` is the finding."""
    root = locate(source, [("stage_2_train_labels.csv", "stage_2_train_images")], "RSNA pneumonia")
    boxes: dict[str, list[str]] = defaultdict(list)
    for row in read_table(root / "stage_2_train_labels.csv", RSNA_COLUMNS).to_dict("records"):
        own = boxes[row["patientId"]]
        if row["Target"] == "1":
            own.append(" ".join(f"{float(row[c]):g}" for c in RSNA_COLUMNS[1:5]))
    detailed = root / "stage_2_detailed_class_info.csv"
    rows = read_table(detailed, ("patientId", "class")).to_dict("records") if detailed.is_file() else []
    finding = {row["patientId"]: row["class"] for row in rows}
    kinds = [finding.get(p, OPACITY if boxes[p] else f"no {OPACITY}") for p in boxes]
    labels, classes = _by_target([frozenset({kind}) for kind in kinds], target or OPACITY, "Normal")
    cases: list[Case] = []
    faults: list[Fault] = []
    unused: list[Fault] = []
    paths = {p.stem: p.relative_to(root).as_posix() for p in find_images(root / "stage_2_train_images")}
    for patient, kind, label in zip(boxes, kinds, labels, strict=True):
        image = paths.pop(patient, "")
        if not image:
            said = "stage_2_train_labels.csv lists it."
            faults.append(Fault(f"stage_2_train_images/{patient}.dcm", "missing", said))
        elif not label:
            unused.append(Fault(image, "other-finding", f"it is neither {classes[0]} nor {classes[1]}."))
        elif (kind == OPACITY) != bool(boxes[patient]):
            faults.append(
                Fault(image, "tables-differ", f"of class '{kind}', with {len(boxes[patient])} boxes.")
            )
        else:
            known = {"finding": kind, "boxes": ";".join(boxes[patient])}
            cases.append(Case(patient, image, (), label, patient, attributes=known))
    said = "stage_2_train_labels.csv does not list it."
    faults += [Fault(path, "not-listed", said) for path in paths.values()]
    return _listing(root, cases, classes, faults, (), unused)


def list_siim(source: Path) -> Listing:
    """List the SIIM-ACR pneumothorax challenge's training images, with masks."""
    root = locate(source, [("train-rle.csv",), ("stage_2_train.csv",)], "SIIM-ACR pneumothorax")
    table = next(p for n in ("train-rle", "stage_2_train") if (p := root / f"{n}.csv").is_file())
    runs: dict[str, list[str]] = defaultdict(list)
    for row in read_table(table, ("ImageId", "EncodedPixels")).to_dict("records"):
        own = runs[row["ImageId"].strip()]
        if row["EncodedPixels"].strip() not in ("-1", ""):
            own.append(row["EncodedPixels"].strip())
    paths = {re.sub(r"\.(dcm|png)$", "", p.name): p.relative_to(root).as_posix() for p in find_images(root)}
    cases: list[Case] = []
    faults: list[Fault] = []
    for name, own in runs.items():
        image, label = paths.pop(name, ""), CLASSES_SIIM[bool(own)]
        if image:
            cases.append(Case(name, image, (), label, runs=tuple(own)))
        else:
            faults.append(Fault(f"{table.name}: {name}", "missing", "there is no image of that name."))
    said = f"{table.name} says nothing of it."
    unused = [Fault(path, "not-listed", said) for path in paths.values()]
    return Listing(root, tuple(cases), CLASSES_SIIM, tuple(faults), unused=tuple(unused))


def _by_target(
    findings: Sequence[frozenset[str]], target: str, nothing: str
) -> tuple[list[str], tuple[str, str]]:
    """Label each image by a target; classes are (without the finding, with it), and images of none get ''."""
    known = {_plain(name): name for name in set().union(*findings)}
    parts = [part.strip() for part in target.split(",") if part.strip()]
    if len(parts) > 2:
        raise InputError(f"--target '{target}' should be one finding, or two with a comma between them.")
    for part in parts:
        if _plain(part) not in known:
            raise unknown_name("finding", part, known.values())
    wanted, *other = [known[_plain(part)] for part in parts] or [nothing]
    if wanted == nothing and not other:
        labels = [nothing if nothing in found else "finding" for found in findings]
        return labels, (nothing, "finding")
    without = other[0] if other else f"no {wanted}"

    def label(found: frozenset[str]) -> str:
        return wanted if wanted in found else without if not other or without in found else ""

    return [label(found) for found in findings], (without, wanted)


def _plain(name: str) -> str:
    return name.casefold().replace("_", " ")


def _lines(path: Path) -> frozenset[str]:
    if not path.is_file():
        return frozenset()
    with reading_faults(path, "Download it again."):
        return frozenset(read_plain(path, MOST_LIST_BYTES).decode("utf-8").split())


def _listing(
    root: Path,
    cases: Sequence[Case],
    classes: tuple[str, str],
    faults: Sequence[Fault],
    notes: Iterable[str],
    unused: Sequence[Fault],
) -> Listing:
    said = f"'{classes[1]}' against '{classes[0]}'; --target names another finding."
    return Listing(
        root,
        tuple(cases),
        classes,
        tuple(faults),
        (said, *notes),
        tuple(unused),
        positive=classes[1],
        negative=classes[:1],
    )
