"""Random transforms on real images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gcsam_med.transforms.augmentation import training_transform
from gcsam_med.transforms.letterbox import Letterbox
from gcsam_med.transforms.preprocessing import Preprocessing

DATA = Path(__file__).parents[2].parent / "shared" / "data"
pytestmark = [pytest.mark.real, pytest.mark.skipif(not DATA.is_dir(), reason="no real images here")]


def placed(image: Path, mask: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """An image and its mask in a square of 128 pixels."""
    grey = np.asarray(Image.open(image).convert("L"))
    outline = np.asarray(Image.open(mask).convert("L")) > 127
    geometry = Letterbox(*grey.shape, 128)
    square = Preprocessing(128, 1, (0.0,), (1.0,)).planes(geometry.place_image(grey)[None])[0]
    return square, torch.from_numpy(geometry.place_mask(outline)).float()[None]


def cases(modality: str) -> list[tuple[Path, Path]]:
    if modality == "xray":
        folder = DATA / "Lung_Segmentation"
        return [(folder / "cxr" / m.name, m) for m in sorted((folder / "masks").glob("*.png"))[::4]]
    masks = sorted((DATA / "Dataset_BUSI_with_GT").glob("[bm]*/*_mask.png"))[::6]
    return [(m.with_name(m.name.replace("_mask", "")), m) for m in masks]


@pytest.mark.parametrize("modality", ["ultrasound", "xray"])
def test_no_outline_is_pushed_out_of_the_picture(modality):
    """Oracle: the area of the mask before and after; zooming and stretching alone reach 0.66 to 1.5."""
    transform = training_transform(modality, "segmentation")
    pairs = cases(modality)
    assert len(pairs) >= 20
    for number, pair in enumerate(pairs):
        image, mask = placed(*pair)
        for epoch in range(3):
            moved = transform(image[None], mask[None], 0, epoch, [number])[1]
            assert moved.sum() > 0.5 * mask.sum(), pair[0].name


def test_lesions_stay_darker_than_what_is_around_them():
    """Oracle: the median over cases of the contrast; an inverting or flattening transform would show."""
    transform = training_transform("ultrasound", "segmentation")
    before, after = [], []
    for number, pair in enumerate(cases("ultrasound")):
        image, mask = placed(*pair)
        moved, outline = (x[0] for x in transform(image[None], mask[None], 1, 0, [number]))
        for picture, inside, found in ((image, mask, before), (moved, outline, after)):
            around = torch.nn.functional.max_pool2d(inside[None], 9, 1, 4)[0] - inside
            found.append(float(picture[around > 0].mean() - picture[inside > 0].mean()))
    assert np.median(before) > 0.1
    assert np.median(after) > 0.6 * np.median(before)
