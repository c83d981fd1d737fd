"""The contact sheet has the promised shape and shows masks where they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from gcsam_med.config import PrepareOptions
from gcsam_med.preparation import prepare
from gcsam_med.preparation.preview import GAP, MIN_TILE, preview
from tests.datasets import layouts


def test_sheet_of_an_ultrasound_set(tmp_path: Path) -> None:
    """Three rows of one original and two variants; outlines are coloured; the same seed gives the same."""
    options = PrepareOptions(size=32, folds=3)
    dataset = prepare("busi", layouts.busi(tmp_path / "s", (8, 6, 0)), tmp_path, options=options).dataset
    sheets = [
        np.asarray(Image.open(preview(dataset, tmp_path / f"{k}.png", cases=3, variants=2))) for k in range(2)
    ]
    side = 3 * MIN_TILE + 2 * GAP
    assert sheets[0].shape == (side, side, 3)
    np.testing.assert_array_equal(*sheets)
    first = sheets[0][:MIN_TILE, :MIN_TILE].astype(int)
    assert (np.ptp(first, axis=2) > 50).any()


def test_sheet_of_photographs(tmp_path: Path) -> None:
    """Colour, no masks."""
    source = layouts.cifar10_binary(tmp_path / "s")
    dataset = prepare("cifar10", source, tmp_path, options=PrepareOptions(size=32), workers=1).dataset
    sheet = np.asarray(Image.open(preview(dataset, tmp_path / "x.png", cases=2, variants=1, split="test")))
    assert sheet.shape == (2 * MIN_TILE + GAP, 2 * MIN_TILE + GAP, 3)
