"""A table with a row for each image: ``image``, and where known ``mask``, ``label``, ``group``, ``split``.

CSV in any usual encoding and with any usual delimiter, or .xlsx. ``mask`` may name several files with ``;``
between them; an empty cell, or ``NA``, means that there is no mask. ``group`` says what must stay together
(the patient); without it a column such as ``patient_id`` or ``MRN`` is taken, as ``filename``, ``mask_path``
or ``diagnosis`` are for the others, and it is said. ``split`` (train, val, test) is honoured; if one row has
it, all need it. Further columns become subgroups of the report. Paths are relative to the
table's folder, or to the folder given with ``--images`` (then they may also be absolute), and must stay
inside it. Of a ``review.csv`` that `gcsam-med view` wrote, rows that were accepted or corrected are taken.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from gcsam_med.datasets.case import Case, Listing, is_placeholder
from gcsam_med.errors import Fault, InputError
from gcsam_med.images import IMAGE_SUFFIXES
from gcsam_med.reading import read_plain

if TYPE_CHECKING:
    import pandas as pd

SPECIAL = ("image", "mask", "label", "group", "split")
SPLITS = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
REVIEW = ("verdict", "comment", "name", "reviewed")
"""Columns of a review of predictions, besides image, mask and label; they say nothing about the patient."""
TAKEN = ("accepted", "corrected")
# Names of columns that hold the patient, letters only, the surest first.
PATIENT_COLUMNS = tuple(
    re.compile(f"^{who}(id|no|nr|num|number|code|key|uid|identifier)?$")
    for who in (
        "(patient|pat|pt)",
        "(mrn|pid)",
        "(subject|participant|person|individual)",
        "patientname",
        "case",
    )
)
# Other names of the columns, letters only.
CALLED = {
    "image": re.compile(r"^(image|img|file|picture)(s|id|name|file|filename|path|filepath|index)?$|^path$"),
    "mask": re.compile(r"^(mask|segmentation|seg|groundtruth)(s|name|file|filename|path|filepath)?$"),
    "label": re.compile(r"^(class|classification|classname|labels|diagnosis|pathology|category|target)$"),
}
NOT_A_VALUE = frozenset({"", "nan", "na", "n/a", "none", "null", "?", "unknown"})
LABEL = re.compile(r"^[^\W_][\w .,+()/-]{0,63}$")
NUMBER = re.compile(r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")
MAX_TABLE_BYTES, MAX_SHEET_BYTES = 256 * 2**20, 64 * 2**20


def list_cases(source: Path, images: str = "", group_column: str = "") -> Listing:
    """List the cases of a table; see the module's text for its columns.

    Parameters
    ----------
    source : Path
        The table, or a folder that holds one.
    images : str, optional
        The folder of the images.
    group_column : str, optional
        The column with the patient.
    """
    if source.is_dir():
        tables = sorted([*source.glob("*.csv"), *source.glob("*.xlsx")])
        if len(tables) != 1:
            raise InputError(f"{source} holds {len(tables)} tables; one was expected.", "Name the file.")
        source = tables[0]
    table, notes = _with_known_columns(read_table(source, ()), source.name)
    if len(table.columns) > 1:
        # Spreadsheets leave rows of nothing but delimiters behind.
        table = table[table.map(lambda cell: bool(str(cell).strip())).any(axis=1)]
    table, left = _reviewed(table)
    notes += left
    root = (Path(images) if images else source.parent).resolve()
    if not root.is_dir():
        raise InputError(f"The image folder {root} is not there.", "Check --images.")
    group, said = _group_column(table, group_column, source.name)
    notes += said
    # Numbered from 0, 0 is a patient and no placeholder.
    counted = bool(group) and {"0", "1", "2"} <= set(table[group]) and table[group].str.isdecimal().all()
    given = {c: c in table and not table[c].map(_unknown).all() for c in ("label", "split", "mask")}
    rows = [{str(k): str(v).strip() for k, v in row.items()} for row in table.to_dict("records")]
    for cells in rows:
        cells["image"] = _inside(root, cells["image"])
        cells["mask"] = ";".join(
            _inside(root, m) for m in cells.get("mask", "").split(";") if not _unknown(m)
        )
        person = cells[group] if group else ""
        person = "no. 0" if counted and person == "0" else person
        cells["group"] = "" if is_placeholder(person) else person
        cells["split"] = SPLITS.get(cells.get("split", "").lower(), cells.get("split", ""))
    notes += _unite_labels(rows)
    cases: list[Case] = []
    faults: list[Fault] = []
    seen: dict[Path, int] = {}
    drawn: dict[str, int] = {}
    for number, cells in zip(table.index + 2, rows, strict=True):
        where = f"{source.name} line {number}"
        found = _row_faults(root, cells, where, has_labels=given["label"], has_split=given["split"])
        first = seen.setdefault((root / cells["image"]).resolve(), number)
        if first != number:
            found.append(Fault(where, "listed-twice", f"line {first} names the same image."))
        for mask in filter(None, cells["mask"].split(";")):
            other = drawn.setdefault(mask, number)
            if other != number:
                found.append(Fault(where, "mask-shared", f"line {other} names the same mask {mask[-80:]}."))
        faults += found
        if not found:
            known = (*SPECIAL, group)
            cases.append(_case(cells, known, has_labels=given["label"], has_split=given["split"]))
    without = sum(not c.masks for c in cases)
    if given["mask"] and without:
        notes.append(f"{without} rows have no mask; they serve classification only.")
    nobody = sum(not c.patient for c in cases)
    if group and nobody:
        notes.append(f"{nobody} rows name no patient; only near-duplicates keep their images together.")
    classes = tuple(sorted({c.label for c in cases if c.label}))
    return Listing(root, tuple(cases), classes, tuple(faults), tuple(notes))


def _reviewed(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows of a review that give training data, without the remarks, and a note on the rest."""
    if not set(REVIEW) <= set(table.columns):
        return table, []
    taken = table[table["verdict"].isin(TAKEN)].drop(columns=list(REVIEW))
    left = len(table) - len(taken)
    return taken, [f"{left} rows of the review are neither accepted nor corrected; left out."] * bool(left)


def _with_known_columns(table: pd.DataFrame, name: str) -> tuple[pd.DataFrame, list[str]]:
    """Rename columns that are called as the known ones but for their case, or by a usual name, and say so.

    Raises
    ------
    InputError
        If several columns could be one of those needed, or none is the image.
    """
    twice = sorted(
        {c.partition(".")[0] for c in table.columns if re.match(r"(?i)\w+\.\d+$", c)} & set(SPECIAL)
    )
    spelled = {c: [t for t in table.columns if t.lower() == c] for c in SPECIAL}
    twice += [c for c, found in spelled.items() if len(found) > 1]
    if twice:
        raise InputError(f"{name} has several columns {twice[0]}.", "Keep one of them, or rename the others.")
    known = {found[0]: c for c, found in spelled.items() if found and found[0] != c}
    for column, pattern in CALLED.items():
        if not spelled[column]:
            others = [t for t in table.columns if pattern.match(re.sub(r"[^a-z]", "", t.lower()))]
            if len(others) > 1:
                raise InputError(
                    f"{name} has no column {column}; it could be {' or '.join(others)}.",
                    f"Rename the right one to {column}, and the others to something else.",
                )
            known |= dict.fromkeys(others, column)
    if "image" not in {*table.columns, *known.values()}:
        raise InputError(
            f"{name} should have a column image; it has {', '.join(table.columns[:12])}.",
            "The first row should name the columns. Check the file, or rename its columns.",
        )
    return table.rename(columns=known), [f"The column {old} is taken as {new}." for old, new in known.items()]


def _unite_labels(rows: list[dict[str, str]]) -> list[str]:
    """Spell labels that differ in case only as most rows do, and say so."""
    spellings: dict[str, Counter[str]] = {}
    for cells in rows:
        spellings.setdefault(cells.get("label", "").casefold(), Counter())[cells.get("label", "")] += 1
    for cells in rows:
        if "label" in cells:
            cells["label"] = spellings[cells["label"].casefold()].most_common(1)[0][0]
    return [
        f"The labels {' and '.join(sorted(found))} are taken as one, {found.most_common(1)[0][0]}."
        for found in spellings.values()
        if len(found) > 1
    ]


def _group_column(table: pd.DataFrame, asked: str, name: str) -> tuple[str, list[str]]:
    """The column with the patient, and what was decided."""
    if asked and asked not in table.columns:
        raise InputError(
            f"{name} has no column '{asked}'; it has {', '.join(map(str, table.columns[:12]))}.",
            "Check --group-column.",
        )
    if asked or "group" in table.columns:
        return asked or "group", []
    plain = {str(c): re.sub(r"[^a-z]", "", str(c).lower()) for c in table.columns}
    found = next((c for p in PATIENT_COLUMNS for c, text in plain.items() if p.match(text)), "")
    said = f"The column {found} is taken as the patient (--group-column takes another)."
    return found, [said] if found else []


def _unknown(cell: str) -> bool:
    return cell.strip().lower() in NOT_A_VALUE


def _inside(root: Path, path: str) -> str:
    """A path relative to the root; one that is absolute and inside becomes so."""
    text = path.strip().replace("\\", "/")
    if PurePosixPath(text).is_absolute() and PurePosixPath(text).is_relative_to(root.as_posix()):
        return PurePosixPath(text).relative_to(root.as_posix()).as_posix()
    return text


def read_table(path: Path, needed: Sequence[str], sheet: str = "") -> pd.DataFrame:
    """Read a CSV file or an Excel sheet as text, and check that it has the needed columns.

    Of CSV files the delimiter (comma, semicolon, tab, bar) is found by itself, and columns whatever their
    case; `sheet` names one of several sheets of an Excel file.

    Raises
    ------
    InputError
        If it cannot be read or lacks a column.
    """
    excel = path.suffix.lower() == ".xlsx"
    try:
        data = read_plain(path, MAX_TABLE_BYTES)
        table = _read_sheet(data, path.name, sheet) if excel else _read_csv(data)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", "Check --source.") from None
    except InputError:
        raise
    except Exception as error:
        # pandas raises many kinds, and openpyxl passes on whatever its XML and zip layers raise.
        kind = "an Excel sheet" if excel else "a CSV file with one row of column names"
        raise InputError(f"{path.name} cannot be read as {kind} ({type(error).__name__}).") from None
    table.columns = [str(c).strip() for c in table.columns]
    spelled = {str(c).casefold(): c for c in reversed(table.columns)}
    table = table.rename(columns={spelled.get(c.casefold(), c): c for c in needed if c not in table.columns})
    missing = [c for c in needed if c not in table.columns]
    if missing or table.empty:
        have = ", ".join(map(str, table.columns[:12]))
        raise InputError(
            f"{path.name} should have rows{' and the columns ' * bool(needed)}{', '.join(needed)}; it has "
            f"{len(table)} rows and the columns {have}.",
            "Check the file, or rename its columns.",
        )
    return table


def _read_csv(data: bytes) -> pd.DataFrame:
    import pandas as pd

    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = data.decode("utf-16")
    elif b"\0" in data[:2]:  # the same without its mark
        text = data.decode("utf-16-be" if data[:1] == b"\0" else "utf-16-le")
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = data.decode("cp1252")  # what spreadsheets write on Windows in the west
    first, _, rest = text.partition("\n")
    if hint := re.fullmatch(r'"?sep=(.)"?\r?', first):  # for spreadsheets: the delimiter
        delimiter, text = hint[1], rest
    else:
        delimiter = max(",;\t|", key=first.count)
    return pd.read_csv(io.StringIO(text), sep=delimiter, dtype=str, keep_default_na=False)


def _read_sheet(data: bytes, name: str, sheet: str) -> pd.DataFrame:
    import pandas as pd

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
    masks = [m.strip() for m in cells["mask"].split(";") if m.strip()]
    for kind, path in (("image", cells["image"]), *(("mask", m) for m in masks)):
        reason = _path_fault(root, path)
        if reason:
            faults.append(Fault(where, reason[0], f"the {kind} {path[-80:] or '(empty)'} {reason[1]}"))
    label, split = cells.get("label", ""), cells["split"]
    if has_labels and label.lower() in NOT_A_VALUE:
        faults.append(Fault(where, "no-label", "the label is empty or stands for 'not known'."))
    elif has_labels and not LABEL.match(label):
        faults.append(Fault(where, "bad-label", "a label is a short name of letters and digits."))
    if has_split and split not in SPLITS.values():
        faults.append(Fault(where, "bad-split", "split should be train, val or test in every row."))
    for column, cell in cells.items():
        # Spreadsheets run such cells, and the manifest is made to be opened in one.
        if column not in SPECIAL and cell[:1] in ("=", "+", "-", "@") and not NUMBER.match(cell):
            faults.append(Fault(where, "formula", f"the cell of column '{column}' looks like a formula."))
    return faults


def _where_else(root: Path, path: str) -> str:
    """Where a missing file may be: in another folder, or with a suffix."""
    pure = PurePosixPath(path)
    names = {pure.name} | {pure.name + suffix for suffix in IMAGE_SUFFIXES}
    folders = (root / pure.parent, *sorted(p for p in root.glob("*/") if not p.name.startswith(".")))
    found = next(
        (file for folder in folders for name in sorted(names) if (file := folder / name).is_file()), None
    )
    if found is None:
        return ""
    if found.name == pure.name and pure.parent == PurePosixPath("."):
        return f" {found.relative_to(root)} is; --images FOLDER names the folder."
    return f" {found.relative_to(root)} is; write that."


def _path_fault(root: Path, path: str) -> tuple[str, str] | None:
    pure = PurePosixPath(path)
    if _unknown(path) or "\0" in path:
        return "no-path", "is no path."
    if pure.is_absolute() or ".." in pure.parts or re.match(r"^[A-Za-z]:", path):
        return "outside", "should be relative to the table, or inside the folder given with --images."
    file = root / pure
    if not file.exists():
        return "missing", f"is not there.{_where_else(root, path)}"
    if not file.resolve().is_relative_to(root):
        return "outside", "is a link that leads out of the image folder."
    return None


def _case(cells: dict[str, str], known: Sequence[str], *, has_labels: bool, has_split: bool) -> Case:
    return Case(
        name=PurePosixPath(cells["image"]).as_posix(),
        image=PurePosixPath(cells["image"]).as_posix(),
        masks=tuple(PurePosixPath(m.strip()).as_posix() for m in cells["mask"].split(";") if m.strip()),
        label=cells["label"] if has_labels else "",
        patient=cells["group"],
        split=cells["split"] if has_split else "",
        attributes={k: v for k, v in cells.items() if k not in known},
    )
