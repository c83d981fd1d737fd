"""`prepare` on the sample of real images: golden pixels, seeded copies, conflicts, splits.

Golden hashes were recorded with NumPy, Pillow and pydicom alone, without this project's readers. The list of
true pairs was checked by eye, picture by picture: each shows one frame twice or neighbouring frames of one
examination.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from gcsam_med.config import PrepareOptions
from gcsam_med.datasets import DATASETS
from gcsam_med.images import ImageFault, read_image, read_mask
from gcsam_med.preparation import Outcome, prepare
from gcsam_med.preparation.duplicates import find_duplicates
from gcsam_med.preparation.scan import fingerprint, thumbnail
from gcsam_med.preparation.splits import divide

pytestmark = pytest.mark.real

UNIONS = {
    "benign (100)": (10011, "4421aeda689d6d26"),
    "benign (25)": (5824, "e95fe00909e7e066"),
    "benign (4)": (2608, "f2da8e2ef9b709ba"),
    "benign (54)": (20750, "ef3ecca9dcfcdd05"),
    "benign (58)": (14751, "e50375a9ffd49d9f"),
    "benign (83)": (4241, "e424ba4ff90af25f"),
    "benign (92)": (29750, "bef880f9c5ef2f0a"),
    "benign (93)": (9830, "201cb9178f32c2a7"),
    "benign (98)": (140672, "2d503bb915316c4c"),
    "malignant (53)": (15881, "93c9359904050ac6"),
}
ALPHA_MASKS = {
    "benign (4)_mask_1.png": (624, "0ffd3df91933d95d"),
    "benign (54)_mask_1.png": (1609, "7fd00db27dc996aa"),
}
DICOM = {
    "1.2.276.0.7230010.3.1.4.8323329.6904.1517875201.850819.dcm": "c5fbd5b3cd15922a",
    "Fake_MONOHR1.dcm": "b1fbc62c9482ac59",
    "JPGLosslessP14SV1_1s_1f_8b.dcm": "1ae8d1abc08531fc",
    "OBXXXX1A.dcm": "f27736ea1acb75cb",
    "RG1_J2KI.dcm": "cfab42ef0912b025",
    "US1_UNCR.dcm": "e16892020c73095e",
    "examples_ybr_color.dcm": "91535e129c01109b",
}
# Numbers of pairs that show the same picture or examination, checked by eye.
TRUE_PAIRS = {
    "benign": (
        "94-114 114-119 61-108 125-126 108-116 116-122 114-116 94-108 116-119 61-94 108-114 119-122 62-140 "
        "52-134 51-133 16-151 64-141 19-150 21-154 42-131 110-158 96-155 30-128 105-156 33-130 44-129 37-127 "
        "99-139 58-135 60-138 38-132 99-157 65-99 65-139 139-157 50-136 25-153 65-157 18-152"
    ),
    "malignant": (
        "65-66 27-28 6-8 6-9 6-7 4-9 4-8 5-9 5-8 4-7 5-7 7-9 7-8 8-9 4-5 77-78 39-42"
    ),
    "normal": "44-47 45-49 41-47 43-50 39-48 38-50 41-44 42-49 40-46 38-43 5-13 42-45",
}  # fmt: skip
CONFLICTS = {
    ("benign (42)", "malignant (51)"),
    ("benign (131)", "malignant (51)"),
    ("benign (85)", "malignant (52)"),
}


def short_hash(pixels: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()[:16]


def true_pairs() -> set[tuple[str, str]]:
    pairs = set(CONFLICTS)
    for label, text in TRUE_PAIRS.items():
        for pair in text.split():
            one, two = pair.split("-")
            pairs.add((f"{label} ({one})", f"{label} ({two})"))
    return pairs


@pytest.fixture(scope="module")
def busi(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The BUSI sample, prepared once."""
    source = real_data / "Dataset_BUSI_with_GT"
    return prepare("busi", source, tmp_path_factory.mktemp("data"), options=PrepareOptions(size=64))


def test_unions_of_several_masks_are_golden(busi: Outcome) -> None:
    """Ten of BUSI's seventeen, bit for bit."""
    rows = {case: row for row, case in enumerate(busi.dataset.manifest["case_id"])}
    for case, (area, digest) in UNIONS.items():
        mask = busi.dataset.original_mask(rows[case])
        assert (int(mask.sum()), short_hash(mask)) == (area, digest), case


def test_alpha_of_masks_is_not_foreground(real_data: Path) -> None:
    """Both RGBA masks of the sample, bit for bit."""
    for name, (area, digest) in ALPHA_MASKS.items():
        mask = read_mask(real_data / "Dataset_BUSI_with_GT" / "benign" / name)
        assert (int(mask.sum()), short_hash(mask)) == (area, digest)


@pytest.mark.parametrize("name", DICOM)
def test_dicom_pixels_are_golden(name: str, real_data: Path) -> None:
    """JPEG baseline, lossless and 2000, RGB, palette, YBR, MONOCHROME1: bit for bit."""
    assert short_hash(read_image(real_data / "dicom" / name).pixels) == DICOM[name]


def test_truncated_dicom_is_named(real_data: Path) -> None:
    """The eighth file is there to fail."""
    with pytest.raises(ImageFault) as caught:
        read_image(real_data / "dicom" / "MR_truncated.dcm")
    assert caught.value.reason == "truncated"


def test_near_duplicates_are_those_that_a_person_sees(busi: Outcome) -> None:
    """Precision at least 0.95 by the checked list; all close hash pairs of that list are found again."""
    found = {(p["first"], p["second"]) for p in busi.audit["duplicates"]}
    known = true_pairs()
    assert len(found & known) / len(found) >= 0.95
    assert len(found & known) / len(known) >= 0.97


def test_conflicts_across_labels_are_told(busi: Outcome) -> None:
    """One frame called benign and malignant."""
    assert {(c["first"], c["second"]) for c in busi.audit["conflicts"]} == CONFLICTS


def _jpeg(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=60)
    return Image.open(buffer).convert("L")


def _crop(image: Image.Image) -> Image.Image:
    x, y = round(0.03 * image.width), round(0.03 * image.height)
    return image.crop((x, y, image.width - x, image.height - y))


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "flip": ImageOps.mirror,
    "crop 3 %": _crop,
    "JPEG quality 60": _jpeg,
    "contrast +20 %": lambda image: ImageEnhance.Contrast(image).enhance(1.2),
    "contrast -20 %": lambda image: ImageEnhance.Contrast(image).enhance(0.8),
    "resize 0.7": lambda image: image.resize((round(0.7 * image.width), round(0.7 * image.height))),
}


Fingerprints = list[tuple[str, object, np.ndarray]]


def fingerprints(images: list[Image.Image]) -> Fingerprints:
    """What the search for duplicates sees of each image."""
    greys = [np.asarray(image) for image in images]
    return [
        (hashlib.sha256(grey.tobytes()).hexdigest(), fingerprint(grey), thumbnail(grey)) for grey in greys
    ]


@pytest.fixture(scope="module")
def hundred(real_data: Path) -> tuple[list[Image.Image], Fingerprints]:
    """100 images of BUSI."""
    listing = DATASETS["busi"].list_cases(real_data / "Dataset_BUSI_with_GT")
    chosen = [listing.cases[i] for i in np.linspace(0, len(listing.cases) - 1, 100).astype(int)]
    images = [Image.fromarray(read_image(listing.root / c.image).grey) for c in chosen]
    return images, fingerprints(images)


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_seeded_copies_are_found(change: str, hundred: tuple[list[Image.Image], Fingerprints]) -> None:
    """100 BUSI images and a changed copy of each among them: recall at least 0.99."""
    images, seen = hundred
    hashes, prints, thumbs = zip(*seen, *fingerprints(list(map(CHANGES[change], images))), strict=True)
    pixels = np.stack(thumbs)
    search = find_duplicates(list(hashes), list(prints), lambda rows: pixels[rows], "ultrasound")
    found = {(p.first, p.second) for p in search.pairs}
    assert sum((i, i + 100) in found for i in range(100)) >= 99


def test_no_group_or_picture_is_on_two_sides_over_50_seeds(busi: Outcome) -> None:
    """Groups, pixel hashes and file hashes."""
    manifest = busi.dataset.manifest
    groups = np.unique(manifest["group_id"], return_inverse=True)[1]
    labels = manifest["label"].tolist()
    keys = [manifest[c].to_numpy() for c in ("group_id", "pixel_sha256", "source_sha256")]
    for seed in range(50):
        places = divide(labels, groups, 5, seed).fold
        for key in keys:
            _, number = np.unique(key, return_inverse=True)
            low = np.full(number.max() + 1, 99)
            high = np.full(number.max() + 1, -99)
            np.minimum.at(low, number, places)
            np.maximum.at(high, number, places)
            assert (low == high).all(), seed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "folder", "cases"),
    [
        ("busbra", "BUSBRA", 106),
        ("lungs", "Lung_Segmentation", 80),
        ("covid-radiography", "COVID-19_Radiography_Dataset", 240),
        ("cifar10", "cifar10_jpeg", 400),
    ],
)
def test_every_sample_is_prepared(
    name: str, folder: str, cases: int, real_data: Path, tmp_path: Path
) -> None:
    """In its own layout; groups of our own splits stay whole."""
    outcome = prepare(name, real_data / folder, tmp_path, options=PrepareOptions(size=64))
    assert len(outcome.dataset) == cases
    assert not outcome.faults
    if name != "cifar10":
        assert outcome.audit["summary"]["groups_on_both_sides"] == 0
    if name == "busbra":  # sixty patients, official folds
        manifest = outcome.dataset.manifest
        assert manifest["group_id"].nunique() == 60
        assert (manifest.groupby("group_id")["fold"].nunique() == 1).all()
