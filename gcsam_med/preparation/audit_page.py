"""``audit.html`` and ``overlap-OTHER.html``: their pictures, for the templates of `reporting`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gcsam_med.datasets.prepared import IMAGES, MASKS, DatasetInfo, PlaneReader, PlaneWriter
from gcsam_med.errors import Fault
from gcsam_med.files import write_durably
from gcsam_med.images import ImageFault, decode_frames
from gcsam_med.preparation.scan import THUMB, read_inside, thumbnail
from gcsam_med.preparation.store import FINGERPRINTS, THUMBS, read_fingerprints
from gcsam_med.reporting.drawing import TRUTH, draw_outlines
from gcsam_med.reporting.page import render
from gcsam_med.reporting.text import plain_value

PAGE = "audit.html"
QUARANTINED = "quarantined.npy"  # pictures of the first files that were left out; black where there is none
PAIRS_SHOWN, CASES_SHOWN = 60, 24
COUNTED = ("marks", "colour", "mask_fraction", "mask_specks", "images_with_this_mask")
GAP = 4  # white pixels between the two pictures of a pair

Look = Callable[[str], np.ndarray]  # case id to thumbnail, uint8 (H, W)
Picture = tuple[np.ndarray, str, str]  # image, title, caption


def write_audit_page(folder: Path, info: DatasetInfo, audit: Mapping[str, Any]) -> Path:
    """Write ``audit.html`` into a prepared data set's folder, which holds thumbnails and fingerprints."""
    look, outlined = _lookers(folder)
    duplicates = sorted(audit["duplicates"], key=lambda pair: pair["agreement"])
    pictures = {
        "conflicts": list(_pairs(_still_there(audit["conflicts"], look), look, look)),
        "duplicates": list(_pairs(duplicates, look, look)),
        "marks": list(_cases(audit["marks"], look)),
        "coloured": list(_cases(audit["coloured"], look)),
        "masks": list(_cases(audit.get("masks", ()), outlined)),
        "specks": list(_cases(audit.get("specks", ()), outlined)),
        "shared_masks": list(_cases(audit.get("shared_masks", ()), outlined)),
        "quarantined": list(_left_out(folder, audit)),
    }
    page = folder / PAGE
    context = {"info": info, "audit": {**audit, "duplicates": duplicates}, "pictures": pictures}
    write_durably(page, render("audit.html.j2", context).encode())
    return page


def write_overlap_page(
    page: Path, names: tuple[str, str], folders: tuple[Path, Path], overlap: Mapping[str, Any]
) -> None:
    """Write a page of the pictures that two data sets share."""
    left, right = (_lookers(folder)[0] for folder in folders)
    pictures = list(_pairs(overlap["pairs"], left, right))
    context = {"names": names, "overlap": overlap, "pictures": pictures}
    write_durably(page, render("overlap.html.j2", context).encode())


def _lookers(folder: Path) -> tuple[Look, Look]:
    """Look up thumbnails, and stored images with their masks outlined; the latter where there are masks."""
    case_ids, _, _ = read_fingerprints(folder / FINGERPRINTS)
    row = {case_id: i for i, case_id in enumerate(case_ids)}
    thumbs = PlaneReader(folder / THUMBS)

    def outlined(case_id: str) -> np.ndarray:
        place = np.array([row[case_id]])
        image, mask = (PlaneReader(folder / name)(place)[0] for name in (IMAGES, MASKS))
        return draw_outlines(image, [(mask > 0, TRUTH, False)], width=1)

    return lambda case_id: thumbs(np.array([row[case_id]]))[0], outlined


def keep_pictures(folder: Path, root: Path, faults: Sequence[Fault]) -> None:
    """Keep small pictures of files that are left out, such as masks that can be read in several ways."""
    with PlaneWriter(folder / QUARANTINED, (THUMB, THUMB)) as planes:
        for fault in faults[:CASES_SHOWN]:
            planes.append(_picture_of(root, fault))


def _picture_of(root: Path, fault: Fault) -> np.ndarray:
    """A file as grey, its brightest value white; black where it cannot be decoded."""
    blank = np.zeros((THUMB, THUMB), dtype=np.uint8)
    if fault.reason == "crash":
        return blank
    try:
        grey = next(iter(decode_frames(read_inside(root, fault.path), fault.path))).grey
    except (ImageFault, OSError):
        return blank
    return thumbnail((grey * (255.0 / max(1, int(grey.max())))).astype(np.uint8))


def _left_out(folder: Path, audit: Mapping[str, Any]) -> Iterator[Picture]:
    if not (folder / QUARANTINED).is_file():
        return
    kept = PlaneReader(folder / QUARANTINED)
    for i, record in enumerate(audit["quarantined"][:CASES_SHOWN]):
        image = kept(np.array([i]))[0]
        if image.any():
            yield image, record["path"], record["reason"]


def _still_there(pairs: Sequence[Mapping[str, Any]], look: Look) -> list[Mapping[str, Any]]:
    """Pairs whose images were not dropped."""
    return [p for p in pairs if _has(p["first"], look) and _has(p["second"], look)]


def _has(case_id: str, look: Look) -> bool:
    try:
        look(case_id)
    except KeyError:
        return False
    return True


def _pairs(pairs: Sequence[Mapping[str, Any]], left: Look, right: Look) -> Iterator[Picture]:
    for pair in pairs[:PAIRS_SHOWN]:
        one, two = left(pair["first"]), right(pair["second"])
        both = np.concatenate([one, np.full((len(one), GAP), 255, dtype=np.uint8), two], axis=1)
        labels = " / ".join(x for x in (pair.get("first_label"), pair.get("second_label")) if x)
        mirrored = ", mirrored" if pair["mirrored"] else ""
        caption = f"{labels} - {pair['kind']}, agreement {pair['agreement']:.2f}{mirrored}"
        yield both, f"{pair['first']} | {pair['second']}", caption.removeprefix(" - ")


def _cases(records: Sequence[Mapping[str, Any]], look: Look) -> Iterator[Picture]:
    for record in records[:CASES_SHOWN]:
        value = next(record[key] for key in COUNTED if key in record)
        yield look(record["case_id"]), record["case_id"], f"{record['label']} - {plain_value(value)}"
