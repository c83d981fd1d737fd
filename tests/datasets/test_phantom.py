"""The synthetic scanner: speckle by its statistics, posterior features by class."""

from __future__ import annotations

import numpy as np
import pytest

from gcsam_med.datasets.phantom import BEAMS, SAMPLES, Kind, _complex_normal, simulate


def _behind(kind: Kind, seed: int) -> float:
    """Mean grey below a lesion less that beside it at the same depths."""
    picture = simulate(np.random.default_rng(seed), kind)
    image, mask = picture.image.astype(float), picture.lesions[0]
    columns = np.flatnonzero(mask.any(axis=0))
    low = int(np.flatnonzero(mask.any(axis=1)).max())
    band = image[low + 8 : low + 48]
    middle = columns[len(columns) // 4 : -len(columns) // 4]
    beside = np.setdiff1d(np.arange(image.shape[1]), np.arange(columns[0] - 20, columns[-1] + 20))
    return float(band[:, middle].mean() - band[:, beside].mean()) if len(band) > 10 else 0.0


def test_fully_developed_speckle_has_a_signal_to_noise_ratio_of_1_91() -> None:
    """Oracle: mean over standard deviation of a Rayleigh amplitude, sqrt(pi / (4 - pi)); Burckhardt 1978."""
    envelope = np.abs(_complex_normal(np.random.default_rng(0)))
    assert envelope.shape == (SAMPLES, BEAMS)
    assert envelope.mean() / envelope.std() == pytest.approx(np.sqrt(np.pi / (4 - np.pi)), rel=0.01)


def test_malignant_lesions_shadow_and_benign_ones_enhance() -> None:
    """Oracle: the posterior features of the BI-RADS ultrasound lexicon, on the average of 25 images."""
    malignant = [_behind("malignant", seed) for seed in range(25)]
    benign = [_behind("benign", seed) for seed in range(25)]
    assert np.mean(malignant) < -10
    assert np.mean(benign) > 5


def test_the_generator_alone_determines_a_picture() -> None:
    one, two = (simulate(np.random.default_rng(5), "malignant", lesions=2) for _ in range(2))
    np.testing.assert_array_equal(one.image, two.image)
    assert [m.sum() for m in one.lesions] == [m.sum() for m in two.lesions]


def test_malignant_margins_are_rougher() -> None:
    """Oracle: an outline without dents has as many edges as its box has around it."""

    def roughness(kind: Kind, seed: int) -> float:
        mask = simulate(np.random.default_rng(seed), kind).lesions[0]
        edges = (
            np.abs(np.diff(mask.astype(int), axis=0)).sum() + np.abs(np.diff(mask.astype(int), axis=1)).sum()
        )
        box = mask.any(axis=0).sum() + mask.any(axis=1).sum()
        return float(edges / (2 * box))  # 1 for any outline without a dent

    assert np.mean([roughness("benign", s) for s in range(20)]) < 1.02
    assert np.mean([roughness("malignant", s) for s in range(20)]) > 1.08


@pytest.mark.parametrize("lesions", [1, 3])
def test_a_normal_image_has_no_lesion(lesions: int) -> None:
    assert simulate(np.random.default_rng(1), "normal", lesions).lesions == ()
