import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis

from gcsam_med.errors import CheckpointError
from gcsam_med.runs.intensity_reference import (
    FEATURES,
    MIN_IMAGES,
    REFERENCE,
    fit_reference,
    image_features,
    load_reference,
    save_reference,
)
from gcsam_med.transforms.letterbox import Letterbox
from tests.builders import picture


def features(images, size=64):
    geometries = [Letterbox(*image.shape[:2], size) for image in images]
    return np.array([image_features(g.place_image(i), g) for i, g in zip(images, geometries, strict=True)])


def toys(n, seed):
    rng = np.random.default_rng(seed)
    return [picture("benign", int(rng.integers(60, 80)), int(rng.integers(70, 90)), rng)[0] for _ in range(n)]


def test_images_of_the_kind_pass_and_others_are_flagged():
    """Oracle: by construction; 1 % of the kind lie beyond the limit, inverted, black and foreign ones far."""
    reference = fit_reference(features(toys(200, 0)), features(toys(60, 1)), "d")
    usual = reference.distance(features(toys(200, 2)))
    assert (usual > reference.limit).mean() < 0.06
    rng = np.random.default_rng(0)
    odd = [255 - toys(1, 3)[0], np.zeros((70, 80), np.uint8), rng.integers(0, 256, (70, 80)).astype(np.uint8)]
    assert (reference.distance(features(odd)) > 2 * reference.limit).all()


def test_the_distance_is_mahalanobis():
    """Oracle: scipy.spatial.distance.mahalanobis with the same mean and precision."""
    training = features(toys(MIN_IMAGES, 0))
    reference = fit_reference(training, training[:0], "d")
    for row, found in zip(training, reference.distance(training), strict=True):
        assert found == pytest.approx(mahalanobis(row, reference.mean, np.array(reference.precision)))


def test_padding_counts_for_nothing():
    """Oracle: the same pixels in a larger frame of padding have the same statistics, but for none."""
    image = toys(1, 0)[0]
    geometry = Letterbox(*image.shape, max(image.shape))
    square = geometry.place_image(image)
    top, left, bottom, right = geometry.box
    square_inverted = np.full_like(square, 255)
    square_inverted[top:bottom, left:right] = square[top:bottom, left:right]
    np.testing.assert_array_equal(image_features(square, geometry), image_features(square_inverted, geometry))
    assert len(image_features(square, geometry)) == len(FEATURES)
    assert np.isfinite(image_features(np.zeros_like(square), geometry)).all()


def test_too_few_images_give_none_and_files_belong_to_their_data(tmp_path):
    """Oracle: what was written comes back for its data only; damage is exit code 4."""
    assert fit_reference(np.zeros((MIN_IMAGES - 1, 8)), np.zeros((0, 8)), "d") is None
    reference = fit_reference(features(toys(MIN_IMAGES, 0)), np.zeros((0, 8)), "d")
    assert load_reference(tmp_path, "d") is None
    save_reference(tmp_path, reference)
    assert load_reference(tmp_path, "d") == reference
    assert load_reference(tmp_path, "other") is None
    (tmp_path / REFERENCE).write_text("{")
    with pytest.raises(CheckpointError, match="damaged"):
        load_reference(tmp_path, "d")
