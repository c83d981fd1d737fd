import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis

from gcsam_med.errors import CheckpointError
from gcsam_med.networks.hooks import FeatureLayer
from gcsam_med.runs.references import (
    FEATURE_FILE,
    INTENSITY_FILE,
    MIN_IMAGES,
    STATISTICS,
    fit_features,
    fit_intensities,
    image_statistics,
    load_features,
    load_intensities,
    save_features,
    save_intensities,
)
from gcsam_med.transforms.letterbox import Letterbox
from tests.builders import picture

PLACE = FeatureLayer("fc", "input")


def statistics(images, size=64):
    geometries = [Letterbox(*image.shape[:2], size) for image in images]
    return np.array([image_statistics(g.place_image(i), g) for i, g in zip(images, geometries, strict=True)])


def toys(n, seed):
    rng = np.random.default_rng(seed)
    return [picture("benign", int(rng.integers(60, 80)), int(rng.integers(70, 90)), rng)[0] for _ in range(n)]


def test_images_of_the_kind_pass_and_others_are_flagged():
    """Oracle: by construction; 1 % of the kind lie beyond the limit, inverted, black and foreign ones far."""
    reference = fit_intensities(statistics(toys(200, 0)), statistics(toys(60, 1)), "d")
    usual = reference.distance(statistics(toys(200, 2)))
    assert (usual > reference.limit).mean() < 0.06
    rng = np.random.default_rng(0)
    odd = [255 - toys(1, 3)[0], np.zeros((70, 80), np.uint8), rng.integers(0, 256, (70, 80)).astype(np.uint8)]
    assert (reference.distance(statistics(odd)) > 2 * reference.limit).all()


def test_the_distance_of_intensities_is_mahalanobis():
    """Oracle: scipy.spatial.distance.mahalanobis with the same mean and precision."""
    training = statistics(toys(MIN_IMAGES, 0))
    reference = fit_intensities(training, training[:0], "d")
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
    np.testing.assert_array_equal(
        image_statistics(square, geometry), image_statistics(square_inverted, geometry)
    )
    assert len(image_statistics(square, geometry)) == len(STATISTICS)
    assert np.isfinite(image_statistics(np.zeros_like(square), geometry)).all()


def test_intensities_of_too_few_images_are_none_and_files_belong_to_their_data(tmp_path):
    """Oracle: what was written comes back for its data only; damage is exit code 4."""
    assert fit_intensities(np.zeros((MIN_IMAGES - 1, 8)), np.zeros((0, 8)), "d") is None
    reference = fit_intensities(statistics(toys(MIN_IMAGES, 0)), np.zeros((0, 8)), "d")
    assert load_intensities(tmp_path, "d") is None
    save_intensities(tmp_path, reference)
    assert load_intensities(tmp_path, "d") == reference
    assert load_intensities(tmp_path, "other") is None
    (tmp_path / INTENSITY_FILE).write_text("{")
    with pytest.raises(CheckpointError, match="damaged"):
        load_intensities(tmp_path, "d")


def drawn(n, seed, dimension=24):
    """Vectors that vary much along three directions and little along the others."""
    rng = np.random.default_rng(seed)
    axes = np.random.default_rng(99).normal(size=(3, dimension))
    return 5 + rng.normal(size=(n, 3)) @ axes * 4 + rng.normal(size=(n, dimension))


def test_the_distance_is_mahalanobis_of_the_probabilistic_pca_model():
    """Oracle: scipy's mahalanobis with the inverse of A diag(v) A' + rest * (I - A' A)."""
    found = fit_features(drawn(80, 0), drawn(20, 1), PLACE, "w")
    axes = found.axes.astype(np.float64)
    covariance = axes.T @ np.diag(found.variance) @ axes + found.rest * (np.eye(24) - axes.T @ axes)
    for row in drawn(5, 2):
        expected = mahalanobis(row, found.mean, np.linalg.inv(covariance))
        assert found.distance(row[None])[0] == pytest.approx(expected, rel=1e-3)


def test_the_model_is_that_of_scikit_learn():
    """Oracle: sklearn's PCA, whose log-likelihood is that of probabilistic PCA, up to its constant."""
    from sklearn.decomposition import PCA

    training, new = drawn(100, 0), drawn(6, 3)
    found = fit_features(training, training[:0], PLACE, "w")
    theirs = PCA(n_components=len(found.variance)).fit(training).score_samples(new)
    ours = -0.5 * found.distance(new) ** 2
    np.testing.assert_allclose(np.diff(ours), np.diff(theirs), rtol=1e-3, atol=1e-3)


def test_features_of_the_kind_pass_and_others_do_not():
    """Oracle: by construction; one that leaves along a quiet direction is found as well as a far one."""
    found = fit_features(drawn(300, 0), drawn(100, 1), PLACE, "w")
    assert (found.distance(drawn(300, 2)) > found.limit).mean() < 0.06
    far, aside = drawn(1, 3) * 6, found.mean + 9 * np.random.default_rng(0).normal(size=(1, 24))
    assert found.distance(far)[0] > found.limit
    assert found.distance(aside)[0] > found.limit


def test_features_of_too_few_or_equal_images_give_none():
    assert fit_features(drawn(MIN_IMAGES - 1, 0), drawn(5, 1), PLACE, "w") is None
    assert fit_features(np.ones((MIN_IMAGES, 8)), np.ones((0, 8)), PLACE, "w") is None


def test_feature_files_belong_to_their_weights_and_damage_is_told(tmp_path):
    """Oracle: what was written comes back for its weights only; damage is exit code 4."""
    assert load_features(tmp_path, "w") is None
    found = fit_features(drawn(60, 0), drawn(0, 1), PLACE, "w")
    save_features(tmp_path, found)
    back = load_features(tmp_path, "w")
    np.testing.assert_array_equal(back.distance(drawn(9, 4)), found.distance(drawn(9, 4)))
    assert (back.place, back.limit) == (PLACE, found.limit)
    assert load_features(tmp_path, "other") is None
    data = (tmp_path / FEATURE_FILE).read_bytes()
    for damaged in (
        data[:50],
        b"",
        data[:-8],
        data.replace(b'"limit', b'"Limit'),
        data.replace(b"mean", b"main"),
    ):
        (tmp_path / FEATURE_FILE).write_bytes(damaged)
        with pytest.raises(CheckpointError, match="damaged"):
            load_features(tmp_path, "w")
