"""The options of `prepare` that determine its result; they are stored with it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class PrepareOptions(BaseModel):
    """What determines a prepared data set apart from its source."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: Annotated[int, Field(ge=16, le=2048)] = Field(
        default=256, description="Side of the stored squares in pixels."
    )
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(default=0, description="Seed of the split.")
    folds: Annotated[int, Field(ge=2, le=50)] = Field(
        default=5, description="Folds over the cases that are not test; fold 0 is the default validation."
    )
    modality: Literal["ultrasound", "xray", "photo"] | None = Field(
        default=None, description="Chooses transforms and grey or colour; left open: the data set's own."
    )
    frames: Literal["first", "middle", "all"] | Annotated[int, Field(ge=0)] = Field(
        default="first", description="Which frames of multi-frame files."
    )
    mask_size: Literal["refuse", "resize"] | None = Field(
        default=None, description="Masks of another size than their image; left open: the data set's own."
    )
    skip_bad: bool = Field(default=False, description="Leave bad files out instead of stopping.")
    split_by: Literal["group", "image"] = Field(
        default="group", description="Keep patients and duplicates together, or (for comparison only) do not."
    )
    conflicts: Literal["keep-together", "drop"] = Field(
        default="keep-together", description="Duplicates with different labels: one group, or left out."
    )
    splits_sha256: str = Field(default="", description="Hash of the split file that was applied, if any.")
