"""The same picture is found whatever was done to it; different pictures are not."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps
from scipy.ndimage import gaussian_filter

from gcsam_med.preparation.duplicates import agreement, find_duplicates, find_overlap, layers
from gcsam_med.preparation.scan import fingerprint, thumbnail


def _jpeg(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=60)
    return Image.open(buffer).convert("L")


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "mirrored": ImageOps.mirror,
    "cropped": lambda im: im.crop((9, 7, im.width - 9, im.height - 7)),
    "recompressed": _jpeg,
    "brighter": lambda im: ImageEnhance.Brightness(im).enhance(1.2),
    "more contrast": lambda im: ImageEnhance.Contrast(im).enhance(1.2),
    "less contrast": lambda im: ImageEnhance.Contrast(im).enhance(0.8),
    "smaller": lambda im: im.resize((int(im.width * 0.7), int(im.height * 0.7))),
    "mirrored, cropped and smaller": lambda im: ImageOps.mirror(im).crop((8, 8, 300, 230)).resize((200, 150)),
}


def tissue(seed: int) -> Image.Image:
    """Structure at several scales, like a scan: unlike that of any other seed."""
    rng = np.random.default_rng(seed)
    layered = sum(gaussian_filter(rng.normal(size=(240, 320)), (s, 3 * s)) * s**1.5 for s in (1, 3, 8, 20))
    scaled = (layered - layered.min()) / np.ptp(layered)
    return Image.fromarray((scaled * 255).astype(np.uint8))


def search(images: list[Image.Image]):  # type: ignore[no-untyped-def]
    arrays = [np.asarray(image) for image in images]
    thumbs = np.stack([thumbnail(a) for a in arrays])
    return (
        [f"{a.shape}{a.tobytes()!r}" for a in arrays],
        [fingerprint(a) for a in arrays],
        lambda rows: thumbs[rows],
    )


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("modality", ["ultrasound", "xray"])
def test_a_changed_copy_is_found_among_others(change: str, modality: str) -> None:
    """Exactly one pair among a dozen images, with the original as its partner."""
    images = [tissue(seed) for seed in range(11)]
    images.append(CHANGES[change](images[4]))
    found = find_duplicates(*search(images), modality).pairs  # type: ignore[arg-type]
    assert [(p.first, p.second, p.kind) for p in found] == [(4, 11, "near")]
    assert found[0].mirrored == change.startswith("mirrored")
    assert found[0].agreement > 0.85


def test_exact_copies_are_chained_and_not_compared_again() -> None:
    """Three copies and a near copy: two exact pairs and one near pair."""
    images = [tissue(0), tissue(1), tissue(0), tissue(0), CHANGES["recompressed"](tissue(0))]
    found = find_duplicates(*search(images), "ultrasound").pairs
    assert [(p.first, p.second, p.kind) for p in found] == [
        (0, 2, "exact"), (0, 3, "exact"), (0, 4, "near")
    ]  # fmt: skip


def test_overlap_of_two_sets() -> None:
    """One exact and one mirrored picture in both."""
    left = search([tissue(i) for i in range(5)])
    right = search([tissue(9), tissue(2), ImageOps.mirror(tissue(3))])
    found = find_overlap(*zip(left, right, strict=True), "xray").pairs  # type: ignore[arg-type]
    assert [(p.first, p.second, p.kind, p.mirrored) for p in found] == [
        (2, 1, "exact", False), (3, 2, "near", True)
    ]  # fmt: skip


def test_registration_finds_scale_and_shift() -> None:
    """Up to 10 % off, one image lies on the other; empty images agree with nothing."""
    image = tissue(7)
    full = layers(thumbnail(np.asarray(image)))
    for crop in (0.02, 0.05, 0.08):
        x, y = int(crop * image.width), int(crop * image.height)
        cropped = image.crop((x, 2 * y, image.width - x // 2, image.height))
        assert agreement(full, layers(thumbnail(np.asarray(cropped)))) > 0.8
    assert agreement(full, layers(thumbnail(np.asarray(tissue(8))))) < 0.3
    blank = layers(np.zeros((128, 128), dtype=np.uint8))
    assert agreement(full, blank) == 0
    assert agreement(blank, blank) == 0
