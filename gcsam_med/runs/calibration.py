"""What was fitted on validation at the end of training and belongs to the model: threshold and temperature.

`train` writes ``model/calibration.json`` last of all files of the model; `evaluate`, `predict` and `export`
read it. Nothing but `train` and `gcsam-med calibrate` changes it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gcsam_med.errors import CheckpointError
from gcsam_med.files import read_json, write_durably

CALIBRATION = "calibration.json"
DEFAULT_THRESHOLD = 0.5
BINS = 50
# Thresholds 0.02, 0.04, ... 0.98: the candidates of a segmentation.
THRESHOLDS = np.arange(1, BINS) / BINS


class CalibrationFile(BaseModel):
    """``model/calibration.json``."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    schema_version: int = Field(default=1, alias="schema", description="Version of this file's layout.")
    threshold: float = Field(ge=0, le=1, description="On the probability of foreground or positive class.")
    chosen: bool = Field(description="Whether the threshold was chosen on validation; else the default.")
    rule: str = Field(description="How the threshold was chosen, in words.")
    n: int = Field(ge=0, description="Validation cases it was chosen on.")
    reason: str = Field(default="", description="Why the threshold was not chosen, if it was not.")
    positive_class: str = Field(default="", description="Classification with two classes: the positive one.")
    temperature: float | None = Field(
        default=None, gt=0, description="Classification: logits are divided by it to calibrate probabilities."
    )
    temperature_reason: str = Field(default="", description="Why there is no temperature, if there is none.")
    at_threshold: dict[str, float | None] = Field(
        default_factory=dict, description="Metrics of the validation cases at the threshold."
    )
    dice_curve: list[float] = Field(
        default_factory=list,
        description="Segmentation: mean Dice of the validation cases at thresholds 0.02, 0.04, ... 0.98.",
    )
    weights_sha256: str = Field(description="The weights it belongs to.")
    dataset_sha256: str = Field(description="The data set whose validation split it was fitted on.")


def save_calibration(folder: Path, calibration: CalibrationFile) -> None:
    """Write ``calibration.json`` into a model folder."""
    text = calibration.model_dump_json(by_alias=True, indent=2) + "\n"
    write_durably(folder / CALIBRATION, text.encode())


def load_calibration(folder: Path, weights_sha256: str) -> CalibrationFile | None:
    """Read a model folder's calibration.

    Parameters
    ----------
    folder : Path
        ``RUN/model``.
    weights_sha256 : str
        Of the weights it is to be used with.

    Returns
    -------
    CalibrationFile or None
        None if there is none, or if it belongs to other weights (training has gone on since).

    Raises
    ------
    CheckpointError
        If the file is damaged.
    """
    path = folder / CALIBRATION
    if not path.exists():
        return None
    try:
        found = CalibrationFile.model_validate(read_json(path))
        if found.dice_curve and len(found.dice_curve) != len(THRESHOLDS):
            raise ValueError("dice_curve")
    except (OSError, ValueError, ValidationError) as error:
        raise CheckpointError(
            f"{path} cannot be read or is damaged.", "Make it anew with: gcsam-med calibrate RUN"
        ) from error
    return found if found.weights_sha256 == weights_sha256 else None


def dice_by_threshold(probability: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the Dice at each of `THRESHOLDS`, shape (BINS - 1,), of a case that holds a lesion.

    Parameters
    ----------
    probability : ndarray of float, shape (H, W)
        At the original resolution.
    truth : ndarray of bool, shape (H, W)
        With at least one pixel.
    """
    # One pass over the pixels serves all thresholds: count them by probability, sum from above. The small
    # addition undoes rounding: 0.58 * 50 is a little less than 29.
    level = np.clip(probability.ravel() * BINS + 1e-5, 0, BINS - 1).astype(np.uint8)
    inside = np.bincount(level[truth.ravel()], minlength=BINS)
    everywhere = np.bincount(level, minlength=BINS)
    marked_inside = inside[::-1].cumsum()[::-1][1:]
    marked = everywhere[::-1].cumsum()[::-1][1:]
    return 2 * marked_inside / (marked + truth.sum())


def best_dice_threshold(dice: np.ndarray) -> float:
    """Return the threshold of highest mean Dice; among equals (within 0.0005) the nearest to 0.5.

    Parameters
    ----------
    dice : ndarray of float, shape (cases, BINS - 1)
        From `dice_by_threshold`.
    """
    mean = dice.mean(axis=0)
    good = np.flatnonzero(mean >= mean.max() - 5e-4)
    return float(THRESHOLDS[good[np.abs(THRESHOLDS[good] - DEFAULT_THRESHOLD).argmin()]])


def nearest_threshold(threshold: float) -> int:
    """Return the place of the nearest candidate among `THRESHOLDS`."""
    return int(np.abs(THRESHOLDS - threshold).argmin())
