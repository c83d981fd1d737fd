"""COVID-19 Radiography Database: ``CLASS/images``, ``CLASS/masks`` (256 x 256), ``CLASS.metadata.xlsx``.

Also without masks, without metadata, and with the images directly in the class folders. The metadata's URL
column tells which collection an image was taken from; it becomes the attribute ``collection``, since classes
that come from different collections can be told apart without looking at a lung.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

from gcsam_med.datasets.case import Case, Listing, image_files, locate, masks_by_image, no_image
from gcsam_med.errors import Fault, InputError

CLASSES = ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia")
MAX_SHEET_BYTES = 64 * 2**20


def list_cases(source: Path) -> Listing:
    """List the COVID-19 Radiography cases; see the module's text for the layout."""
    root, _ = locate(source, [("COVID", "Normal")], "The COVID-19 Radiography Database")
    classes = tuple(c for c in CLASSES if (root / c).is_dir())
    cases: list[Case] = []
    faults: list[Fault] = []
    for label in classes:
        folder = root / label / "images" if (root / label / "images").is_dir() else root / label
        mask_folder = root / label / "masks"
        masks = masks_by_image(image_files(mask_folder)) if mask_folder.is_dir() else {}
        collections = _collections(root / f"{label}.metadata.xlsx")
        for path in image_files(folder):
            image = path.relative_to(root).as_posix()
            own = tuple(m.relative_to(root).as_posix() for m in masks.pop(path.stem, ()))
            if mask_folder.is_dir() and not own:
                faults.append(Fault(image, "no-mask", "the class has masks, but none for this image."))
                continue
            # The sheet writes some names in another case than the files (NORMAL-1 for Normal-1.png).
            collection = collections.get(path.stem.lower(), "")
            attributes = {"collection": collection} if collections else {}
            cases.append(Case(path.stem, image, masks=own, label=label, attributes=attributes))
        faults += no_image(root, masks)
    return Listing(root=root, cases=tuple(cases), classes=classes, faults=tuple(faults))


def _collections(sheet: Path) -> dict[str, str]:
    """Collection by lower-case file name; empty without a sheet."""
    if not sheet.is_file():
        return {}
    from openpyxl import load_workbook

    try:
        with zipfile.ZipFile(sheet) as archive:
            size = sum(item.file_size for item in archive.infolist())
        if size > MAX_SHEET_BYTES:
            raise InputError(f"{sheet.name} unpacks to {size // 2**20} MiB, too much for a list of images.")
        book = load_workbook(sheet, read_only=True, data_only=True)
        try:
            rows = [tuple(row) for row in book.worksheets[0].iter_rows(values_only=True)]
        finally:
            book.close()
    except InputError:
        raise
    except Exception as error:
        # openpyxl passes on whatever its XML and zip layers raise.
        raise InputError(
            f"{sheet.name} cannot be read as an Excel sheet ({type(error).__name__}).",
            "Restore it, or move it away to go without the collections.",
        ) from None
    header = [str(cell or "").strip().upper() for cell in rows[0]] if rows else []
    if "FILE NAME" not in header or "URL" not in header:
        raise InputError(f"{sheet.name} should have the columns FILE NAME and URL.")
    name, url = header.index("FILE NAME"), header.index("URL")
    return {str(row[name] or "").strip().lower(): str(row[url] or "").strip()[:120] for row in rows[1:]}
