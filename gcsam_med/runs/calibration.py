"""What was fitted on validation at the end of training and belongs to the model: threshold and temperature.

`train` writes ``model/calibration.json`` last of all files of the model; `evaluate`, `predict` and `export`
read it. Nothing but `train` and `gcsam-med calibrate` changes it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

from gcsam_med.errors import CheckpointError
from gcsam_med.files import write_json
from gcsam_med.metrics.operating_point import THRESHOLDS
from gcsam_med.reading import read_json

if TYPE_CHECKING:
    from gcsam_med.runs.model import ModelCard

T = TypeVar("T")
CALIBRATION = "calibration.json"
MAKE_AGAIN = "Make it again with: gcsam-med calibrate RUN"


class CalibrationFile(BaseModel):
    """``model/calibration.json``."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    schema_version: Literal[1] = Field(
        default=1, alias="schema", description="Version of this file's layout."
    )
    threshold: float = Field(ge=0, le=1, description="On the probability of foreground or positive class.")
    chosen: bool = Field(description="Whether the threshold was chosen on validation; else the default.")
    rule: str = Field(description="How the threshold was chosen, in words.")
    n: int = Field(ge=0, description="Validation cases it was chosen on.")
    reason: str = Field(default="", description="Why the threshold was not chosen, if it was not.")
    positive_class: str = Field(default="", description="Classification with two classes: the positive one.")
    temperature: float | None = Field(
        default=None, gt=0, description="Classification: logits are divided by it to calibrate probabilities."
    )
    logistic: tuple[float, float] | None = Field(
        default=None,
        description="Two classes: intercept and slope that recalibrate the log-odds of the positive class.",
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

    @field_validator("dice_curve")
    @classmethod
    def _one_dice_a_threshold(cls, curve: list[float]) -> list[float]:
        if curve and len(curve) != len(THRESHOLDS):
            raise ValueError(f"should have {len(THRESHOLDS)} values")
        return curve


def positive_class(card: ModelCard, fitted: CalibrationFile | None) -> str | None:
    """Return the class that the threshold is for: foreground, or the positive one of two; None for more."""
    if card.task == "segmentation":
        return card.classes[0]
    if len(card.classes) != 2:
        return None
    known = fitted is not None and fitted.positive_class in card.classes
    return fitted.positive_class if fitted is not None and known else card.classes[1]


def save_calibration(folder: Path, calibration: CalibrationFile) -> None:
    """Write ``calibration.json`` into a model folder."""
    write_json(folder / CALIBRATION, calibration.model_dump(mode="json", by_alias=True))


def load_calibration(folder: Path, weights_sha256: str, *, finished: bool = True) -> CalibrationFile | None:
    """Read a model folder's calibration; None without one, or if training goes on to other weights.

    Raises
    ------
    CheckpointError
        If the file is damaged, or a run that is `finished` has that of other weights.
    """
    found = read_fitted(folder / CALIBRATION, CalibrationFile)
    if found is None or found.weights_sha256 == weights_sha256:
        return found
    if finished:
        raise CheckpointError(
            f"{folder / CALIBRATION} belongs to other weights than the model's.", MAKE_AGAIN
        )
    return None


def read_fitted(path: Path, schema: type[T]) -> T | None:
    """Read a JSON file that `calibrate` writes; None where there is none, `CheckpointError` if damaged."""
    return read_json(path, schema, MAKE_AGAIN, fault=CheckpointError) if path.exists() else None
