"""The same picture is found whatever was done to it; different pictures are not."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps
from scipy.ndimage import gaussian_filter

from gcsam_med.preparation import duplicates
from gcsam_med.preparation.duplicates import (
    agreement,
    close_pairs,
    find_duplicates,
    find_overlap,
    hash_table,
    layers,
)
from gcsam_med.preparation.scan import Fingerprint, fingerprint, thumbnail


def hashes(n: int, seed: int, prototypes: int = 5, noise: int = 6) -> np.ndarray:
    """Rows of four 64-bit hashes around a few prototypes."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 2**64, (prototypes, 4), dtype=np.uint64)[rng.integers(0, prototypes, n)]
    for _ in range(noise):
        rows = rows ^ (np.uint64(1) << rng.integers(0, 64, rows.shape, dtype=np.uint64))
    return rows


def slowly(left: np.ndarray, right: np.ndarray, limit: int) -> dict[tuple[int, int], tuple[int, bool]]:
    """Oracle: Python integers, pair by pair."""
    found = {}
    for i, one in enumerate(left.tolist()):
        for j, two in enumerate(right.tolist()):
            straight = (one[0] ^ two[0]).bit_count() + (one[1] ^ two[1]).bit_count()
            mirror = (one[0] ^ two[2]).bit_count() + (one[1] ^ two[3]).bit_count()
            if min(straight, mirror) <= limit:
                found[i, j] = (min(straight, mirror), mirror < straight)
    return found


@given(st.integers(2, 60), st.integers(0, 10_000), st.integers(0, 60))
def test_all_close_pairs_within_one_set(n: int, seed: int, limit: int) -> None:
    """Against the slow search; equal hashes are chained and not listed each with each."""
    table = hashes(n, seed)
    found = close_pairs(table, limit=limit, per_image=10_000)
    expected = {k: v for k, v in slowly(table, table, limit).items() if k[0] < k[1]}
    got = {
        (int(i), int(j)): (int(d), bool(m))
        for i, j, d, m in zip(found.first, found.second, found.distance, found.mirrored, strict=True)
    }
    assert len(got) == len(found.first)
    distinct = len(np.unique(table[:, :2], axis=0)) == n
    if distinct:
        assert got == expected
    assert got.keys() <= expected.keys()


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 1000))
def test_all_close_pairs_between_two_sets(n: int, m: int, seed: int) -> None:
    """Against the slow search."""
    left, right = hashes(n, seed), hashes(m, seed + (seed % 2))
    found = close_pairs(left, right, limit=30, per_image=10_000)
    got = set(zip(found.first.tolist(), found.second.tolist(), strict=True))
    expected = slowly(left, right, 30)
    assert got <= expected.keys()
    if len(np.unique(left[:, :2], axis=0)) == n and len(np.unique(right[:, :2], axis=0)) == m:
        assert got == expected.keys()


def test_strips_and_columns_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with blocks smaller than the set."""

    table = hashes(200, 1)
    whole = close_pairs(table, per_image=10_000)
    monkeypatch.setattr(duplicates, "BLOCK_ROWS", 7)
    monkeypatch.setattr(duplicates, "BLOCK_COLUMNS", 11)
    parts = close_pairs(table, per_image=10_000)
    np.testing.assert_array_equal(whole.first, parts.first)
    np.testing.assert_array_equal(whole.second, parts.second)


def test_too_many_close_pairs_lower_the_limit() -> None:
    """The closest are kept, and the limit that was reached is told."""
    table = hashes(1200, 0, prototypes=1, noise=10)
    found = close_pairs(table, per_image=1)
    assert len(found.first) <= 2200
    assert found.limit < 36
    assert found.distance.max() <= found.limit
    everything = slowly(table[:150], table[:150], found.limit)
    kept = set(zip(found.first.tolist(), found.second.tolist(), strict=True))
    assert {k for k in everything if k[0] < k[1]} <= kept


def test_a_thousand_equal_images_make_a_chain() -> None:
    """Not half a million pairs; the chain connects all of them."""
    table = np.repeat(hashes(1, 0), 1000, axis=0)
    found = close_pairs(table)
    np.testing.assert_array_equal(found.second - found.first, 1)
    assert len(found.first) == 999


def test_table_of_fingerprints() -> None:
    """Order and type."""
    table = hash_table([Fingerprint(1, 2, 3, 2**64 - 1)])
    assert table.dtype == np.uint64
    assert table.tolist() == [[1, 2, 3, 2**64 - 1]]
    assert hash_table([]).shape == (0, 4)
    assert not len(close_pairs(hash_table([])).first)


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
