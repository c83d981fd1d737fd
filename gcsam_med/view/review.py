"""What a person says about predictions: kept in ``review.csv``, with corrected masks beside it.

Each verdict is on the disk before it is confirmed. ``prepare --dataset table --source OUTPUT/review.csv``
takes what was accepted or corrected as training data, so the image is copied to ``images-reviewed/``: the
table's paths then lead into its own folder, and hold no name of a patient's folder.
"""

from __future__ import annotations

import io
import math
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from gcsam_med.datasets.table import REVIEW as REMARKS
from gcsam_med.errors import InputError
from gcsam_med.escape import plain_cell
from gcsam_med.files import locked, make_folder, write_durably
from gcsam_med.images import decode_frames, read_bytes, read_mask
from gcsam_med.images.read import natural
from gcsam_med.inference.inputs import MASKS, OVERLAYS, find_input, safe_name
from gcsam_med.inference.predict import SETTINGS
from gcsam_med.reading import open_image, read_csv, read_json_or_empty
from gcsam_med.reporting.tables import to_csv
from gcsam_med.view.library import PREDICTIONS

REVIEW, CORRECTED, IMAGES = "review.csv", "masks-corrected", "images-reviewed"
Verdict = Literal["", "accepted", "rejected", "corrected"]


class Remark(BaseModel):
    """What is said about one prediction."""

    model_config = ConfigDict(extra="forbid")

    verdict: Verdict = ""
    comment: str = Field(default="", max_length=2000)
    label: str = ""  #: Of a classification: the class that a person gives it.


class Output:
    """A folder that `predict` wrote, and its review.

    Parameters
    ----------
    folder : Path
        It holds ``predictions.csv``.

    Raises
    ------
    InputError
        If a file is missing, damaged or foreign.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        again = "Predict again with --overwrite."
        table = read_csv(folder / PREDICTIONS, ["input", "name", "status", "reason", "flags"], again)
        for column in table.columns:
            table[column] = [plain_cell(text) for text in table[column]]
        if any(safe_name(name) != name for name in table["name"]) or table["name"].duplicated().any():
            raise InputError(f"{folder / PREDICTIONS} holds names that predict does not give.", again)
        settings = read_json_or_empty(folder / SETTINGS)
        self.task = "segmentation" if "mask" in table else "classification"
        needed = ("area_share", "mean_probability") if self.task == "segmentation" else ("predicted",)
        if missing := [column for column in needed if column not in table]:
            raise InputError(f"{folder / PREDICTIONS} has no column {missing[0]}.", again)
        classes = settings.get("classes")
        self.classes = [str(name) for name in classes] if isinstance(classes, list) else []
        weights = settings.get("weights_sha256")
        #: Of the models that answered.
        self.weights = [str(digest) for digest in weights] if isinstance(weights, list) else []
        self.rows = table[table["status"] == "ok"].reset_index(drop=True)
        self.failed = table[table["status"] != "ok"].reset_index(drop=True)
        rows = self.rows.to_dict("records")
        #: A row of `rows` each; the page asks for thousands of cells.
        self.cells = [{str(column): str(cell) for column, cell in row.items()} for row in rows]

    def name(self, place: int) -> str:
        """Return the stem of an image's files."""
        return self.cells[place]["name"]

    def image(self, place: int) -> np.ndarray:
        """Return the image at its own size: uint8 (H, W) or (H, W, 3).

        Raises
        ------
        InputError
            If it is not where it was, or cannot be read.
        """
        return _decoded(self.cells[place]["input"])

    def small(self, place: int) -> np.ndarray:
        """Return the overlay where there is one, else the image; for a thumbnail."""
        path = self.folder / OVERLAYS / f"{self.name(place)}.png"
        if not path.is_file():
            return self.image(place)
        with open_image(io.BytesIO(read_bytes(path))) as overlay:
            return np.asarray(overlay.convert("RGB"))

    def mask(self, place: int, *, corrected: bool = True) -> np.ndarray:
        """Return the mask, bool (H, W): the corrected one where there is one and it is asked for."""
        name = f"{self.name(place)}.png"
        own = self.folder / CORRECTED / name
        return read_mask(own if corrected and own.is_file() else self.folder / MASKS / name)

    def remarks(self) -> dict[str, dict[str, str]]:
        """Return the rows of ``review.csv`` by name; empty before the first."""
        path = self.folder / REVIEW
        if not path.exists():
            return {}
        table = read_csv(path, ["image", *REMARKS], "Move it away, or repair it.")
        rows = [{str(k): plain_cell(str(v)) for k, v in row.items()} for row in table.to_dict("records")]
        return {row["name"]: row for row in rows}

    def save(self, place: int, remark: Remark, mask: np.ndarray | None = None) -> dict[str, str]:
        """Write a remark, and a corrected mask, bool (H, W); return its row as it lies on the disk.

        Raises
        ------
        InputError
            If the mask does not fit the image, the class is none of the model's, or another process writes.
        """
        name = self.name(place)
        if remark.label and remark.label not in self.classes:
            raise InputError(f"The model has no class '{remark.label[:60]}'.")
        with locked(self.folder / ".review.lock", f"reviewing in {self.folder}", "Save again in a moment."):
            if mask is not None:
                self._save_mask(place, mask)
            row = {"image": "", "mask": "", "label": "", "name": name, **remark.model_dump()}
            row["reviewed"] = datetime.now(UTC).isoformat(timespec="seconds")
            if remark.verdict in ("accepted", "corrected"):
                row["image"] = self._keep_image(place)
            if self.task == "segmentation":
                row["mask"] = self._mask_of(name, remark.verdict)
            elif remark.verdict == "accepted":
                row["label"] = self.cells[place]["predicted"]
            elif remark.verdict != "corrected":
                row["label"] = ""
            self._write({**self.remarks(), name: row})
        return row

    def _save_mask(self, place: int, mask: np.ndarray) -> None:
        expected = self.image(place).shape[:2]
        if self.task != "segmentation" or mask.shape != expected:
            raise InputError(f"The mask should be of {expected} pixels, but is of {mask.shape}.")
        data = io.BytesIO()
        Image.fromarray(mask.astype(np.uint8) * 255).save(data, format="PNG", optimize=True)
        folder = make_folder(self.folder, CORRECTED)
        write_durably(folder / f"{self.name(place)}.png", data.getvalue())

    def _mask_of(self, name: str, verdict: Verdict) -> str:
        folder = {"accepted": MASKS, "corrected": CORRECTED}.get(verdict, "")
        if not folder:
            return ""
        if not (self.folder / folder / f"{name}.png").is_file():
            raise InputError(f"There is no mask {folder}/{name}.png.", "Draw it first.")
        return f"{folder}/{name}.png"

    def _keep_image(self, place: int) -> str:
        """Copy the image's pixels, without any tag, beside the table."""
        inner = f"{IMAGES}/{self.name(place)}.png"
        if not (self.folder / inner).is_file():
            data = io.BytesIO()
            Image.fromarray(self.image(place)).save(data, format="PNG")
            make_folder(self.folder, IMAGES)
            write_durably(self.folder / inner, data.getvalue())
        return inner

    def _write(self, remarks: dict[str, dict[str, str]]) -> None:
        kind = "mask" if self.task == "segmentation" else "label"
        columns = ["image", kind, *REMARKS]
        rows = [
            [row.get(column, "") for column in columns]
            for row in (remarks[name] for name in sorted(remarks, key=natural))
        ]
        write_durably(self.folder / REVIEW, to_csv(columns, rows).encode())


@lru_cache(maxsize=4)
def _decoded(label: str) -> np.ndarray:
    """Decode an image as `predict` did; the last few are kept, since a page asks for one several times."""
    item, frame = find_input(label)
    return next(decode_frames(item.load(), Path(item.label).name, frame)).pixels


def unpack(bits: bytes, height: int, width: int) -> np.ndarray:
    """Read a mask that came as a bit a pixel, row by row: bool (height, width).

    Raises
    ------
    InputError
        If there are more or fewer bits.
    """
    expected = -(-height * width // 8)
    if len(bits) != expected:
        raise InputError(f"A mask of {width} x {height} pixels has {expected} bytes, not {len(bits)}.")
    flat = np.unpackbits(np.frombuffer(bits, dtype=np.uint8), count=height * width)
    return flat.reshape(height, width).astype(bool)


def open_output(folder: Path) -> Output:
    """Open an output; kept open until its table changes."""
    return _opened(folder, (folder / PREDICTIONS).stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _opened(folder: Path, stamp: int) -> Output:
    del stamp
    return Output(folder)


def as_number(text: str) -> float:
    """Read a cell as a number; NaN where it is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan
