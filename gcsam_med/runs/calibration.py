"""The operating point that evaluation chose on validation, kept beside the weights it belongs to."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gcsam_med.errors import CheckpointError
from gcsam_med.files import read_json, write_durably

OPERATING = "operating_point.json"


class OperatingFile(BaseModel):
    """``model/operating_point.json``: what `predict` uses where no threshold is given."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    schema_version: int = Field(default=1, alias="schema", description="Version of this file's layout.")
    threshold: float = Field(ge=0, le=1, description="On the probability of foreground or positive class.")
    positive_class: str = Field(default="", description="Classification with two classes: the positive one.")
    temperature: float | None = Field(
        default=None, gt=0, description="Classification: logits are divided by it to calibrate probabilities."
    )
    rule: str = Field(description="How the threshold was chosen, in words.")
    n: int = Field(ge=0, description="Validation cases it was chosen on.")
    weights_sha256: str = Field(description="The weights it belongs to.")
    dataset_sha256: str = Field(description="The data set whose validation split it was chosen on.")


def save_operating(folder: Path, point: OperatingFile) -> None:
    """Write ``operating_point.json`` into a model folder."""
    write_durably(folder / OPERATING, (point.model_dump_json(by_alias=True, indent=2) + "\n").encode())


def load_operating(folder: Path, weights_sha256: str) -> OperatingFile | None:
    """Read a model folder's operating point.

    Parameters
    ----------
    folder : Path
        ``RUN/model``.
    weights_sha256 : str
        Of the weights it is to be used with.

    Returns
    -------
    OperatingFile or None
        None if there is none, or if it belongs to other weights (the run was trained on since).

    Raises
    ------
    CheckpointError
        If the file is damaged.
    """
    path = folder / OPERATING
    if not path.is_file():
        return None
    try:
        point = OperatingFile.model_validate(read_json(path))
    except (OSError, ValueError, ValidationError) as error:
        raise CheckpointError(
            f"{path} cannot be read or is damaged.", "Delete it, or make it anew with: gcsam-med evaluate"
        ) from error
    return point if point.weights_sha256 == weights_sha256 else None
