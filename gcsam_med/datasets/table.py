"""A CSV file with a row an image: ``image``, and as far as known ``mask``, ``label``, ``group``, ``split``.

``mask`` may name several files with ``;`` between them. ``group`` says what must stay together (the patient).
``split`` (train, val, test) is honoured; if one row has it, all need it. Further columns become subgroups of
the report. Paths are relative to the CSV's folder, or to the folder given with ``--images``, and must stay
inside it.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pandas as pd

from gcsam_med.datasets.case import Case, Listing
from gcsam_med.errors import Fault, InputError
from gcsam_med.files import read_regular

SPECIAL = ("image", "mask", "label", "group", "split")
SPLITS = ("train", "val", "test")
NOT_A_VALUE = frozenset({"", "nan", "na", "n/a", "none", "null", "?", "unknown"})
LABEL = re.compile(r"^[^\W_][\w .,+()/-]{0,63}$")
NUMBER = re.compile(r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")
MAX_TABLE_BYTES, MAX_SHEET_BYTES = 256 * 2**20, 64 * 2**20


def list_cases(source: Path, images: Path | None = None) -> Listing:
    """List the cases of a CSV file; see the module's text for its columns."""
    if source.is_dir():
        tables = sorted(source.glob("*.csv"))
        if len(tables) != 1:
            raise InputError(f"{source} holds {len(tables)} CSV files; one was expected.", "Name the file.")
        source = tables[0]
    table = read_table(source, ("image",))
    root = (images or source.parent).resolve()
    if not root.is_dir():
        raise InputError(f"The image folder {root} is not there.", "Check --images.")
    has_labels = "label" in table and not table["label"].str.lower().isin(NOT_A_VALUE).all()
    has_split = "split" in table and not table["split"].str.lower().isin(NOT_A_VALUE).all()
    has_masks = "mask" in table and not (table["mask"].str.strip() == "").all()
    cases: list[Case] = []
    faults: list[Fault] = []
    seen: set[str] = set()
    for number, row in enumerate(table.to_dict("records"), start=2):
        cells = {str(k): str(v).strip() for k, v in row.items()}
        where = f"{source.name} line {number}"
        found = _row_faults(root, cells, where, has_labels=has_labels, has_split=has_split)
        if cells["image"] in seen:
            found.append(Fault(where, "listed-twice", "an earlier line has the same image."))
        seen.add(cells["image"])
        faults += found
        if not found:
            cases.append(_case(cells, has_labels=has_labels, has_split=has_split))
    without = sum(not c.masks for c in cases)
    notes = (
        (f"{without} rows have no mask; they serve classification only.",) if has_masks and without else ()
    )
    classes = tuple(sorted({c.label for c in cases if c.label}))
    return Listing(root=root, cases=tuple(cases), classes=classes, faults=tuple(faults), notes=notes)


def read_table(path: Path, needed: Sequence[str], sheet: str = "") -> pd.DataFrame:
    """Read a CSV file or an Excel sheet as text, and check that it has the needed columns.

    Of CSV files the delimiter (comma, semicolon, tab) is found by itself; `sheet` names one of several sheets
    of an Excel file.

    Raises
    ------
    InputError
        If it cannot be read or lacks a column.
    """
    excel = path.suffix.lower() == ".xlsx"
    try:
        data = read_regular(path, MAX_TABLE_BYTES)
        table = _read_sheet(data, path.name, sheet) if excel else _read_csv(data)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", "Check --source.") from None
    except InputError:
        raise
    except Exception as error:
        # pandas raises many kinds, and openpyxl passes on whatever its XML and zip layers raise.
        kind = "an Excel sheet" if excel else "a CSV file in UTF-8 with one row of column names"
        raise InputError(f"{path.name} cannot be read as {kind} ({type(error).__name__}).") from None
    table.columns = [str(c).strip() for c in table.columns]
    missing = [c for c in needed if c not in table.columns]
    if missing or table.empty:
        have = ", ".join(map(str, table.columns[:12]))
        raise InputError(
            f"{path.name} should have rows and the columns {', '.join(needed)}; it has {len(table)} rows and "
            f"the columns {have}."
        )
    return table


def _read_csv(data: bytes) -> pd.DataFrame:
    text = data.decode("utf-8-sig")
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    return pd.read_csv(io.StringIO(text), sep=delimiter, dtype=str, keep_default_na=False)


def _read_sheet(data: bytes, name: str, sheet: str) -> pd.DataFrame:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        size = sum(item.file_size for item in archive.infolist())
    if size > MAX_SHEET_BYTES:
        raise InputError(f"{name} unpacks to {size // 2**20} MiB, too much for a list of images.")
    table = pd.read_excel(io.BytesIO(data), sheet_name=sheet or 0, dtype=str, keep_default_na=False)
    return table.apply(lambda column: column.str.strip())


def _row_faults(
    root: Path, cells: dict[str, str], where: str, *, has_labels: bool, has_split: bool
) -> list[Fault]:
    faults = []
    for path in [cells["image"], *_masks(cells)]:
        reason = _path_fault(root, path)
        if reason:
            faults.append(Fault(where, *reason))
    label, split = cells.get("label", ""), cells.get("split", "").lower()
    if has_labels and label.lower() in NOT_A_VALUE:
        faults.append(Fault(where, "no-label", "the label is empty or stands for 'not known'."))
    elif has_labels and not LABEL.match(label):
        faults.append(Fault(where, "bad-label", "a label is a short name of letters and digits."))
    if has_split and split not in SPLITS:
        faults.append(Fault(where, "bad-split", f"split should be one of {', '.join(SPLITS)} in every row."))
    for column, cell in cells.items():
        # Spreadsheets run such cells, and the manifest is made to be opened in one.
        if column not in SPECIAL and cell[:1] in ("=", "+", "-", "@") and not NUMBER.match(cell):
            faults.append(Fault(where, "formula", f"the cell of column '{column}' looks like a formula."))
    return faults


def _path_fault(root: Path, path: str) -> tuple[str, str] | None:
    pure = PurePosixPath(path.replace("\\", "/"))
    if not path or "\0" in path:
        return "no-path", "the image or mask has no valid path."
    if pure.is_absolute() or ".." in pure.parts or re.match(r"^[A-Za-z]:", path):
        return "outside", "a path should be relative and stay inside the image folder."
    file = root / pure
    if not file.exists():
        return "missing", "the image or mask file is not there."
    if not file.resolve().is_relative_to(root):
        return "outside", "a link that leads out of the image folder."
    return None


def _masks(cells: dict[str, str]) -> list[str]:
    return [m.strip() for m in cells.get("mask", "").split(";") if m.strip()]


def _case(cells: dict[str, str], *, has_labels: bool, has_split: bool) -> Case:
    image = PurePosixPath(cells["image"].replace("\\", "/")).as_posix()
    return Case(
        name=image,
        image=image,
        masks=tuple(PurePosixPath(m.replace("\\", "/")).as_posix() for m in _masks(cells)),
        label=cells["label"] if has_labels else "",
        patient=cells.get("group", ""),
        split=cells["split"].lower() if has_split else "",
        attributes={k: v for k, v in cells.items() if k not in SPECIAL},
    )
