"""The pipelines as a whole: functions of a seed that respect anatomy."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import center_of_mass
from scipy.stats import kstest

from gcsam_med.errors import InputError
from gcsam_med.transforms.augmentation import Augmentation, training_transform
from gcsam_med.transforms.random_transforms import CaseRandom, case_keys

MODALITIES = ["ultrasound", "xray", "photo"]
TASKS = ["segmentation", "classification"]
EACH = pytest.mark.parametrize(("modality", "task"), [(m, t) for m in MODALITIES for t in TASKS])
SIDE = 64


def disc(down: float, across: float, radius: float = 6) -> torch.Tensor:
    """A disc of ones, (1, SIDE, SIDE)."""
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    return (((y - down) ** 2 + (x - across) ** 2) <= radius**2).float()[None]


def one(
    transform: Augmentation, image: torch.Tensor, mask: torch.Tensor | None, seed: int
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Transform a single case."""
    images, masks = transform(image[None], None if mask is None else mask[None], seed, 0, [0])
    return images[0], None if masks is None else masks[0]


def texture(channels: int = 1) -> torch.Tensor:
    return torch.rand(1, SIDE, SIDE, generator=torch.Generator().manual_seed(0)).repeat(channels, 1, 1)


@EACH
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_seed_says_it_all(modality, task, seed):
    """Same seed, same bits; range and mask kept; nothing given is changed; grey stays grey in colour."""
    transform = training_transform(modality, task)
    image, mask = texture(3), disc(30, 20)
    given_image, given_mask = image.clone(), mask.clone()
    first, moved = one(transform, image, mask, seed)
    again, again_moved = one(training_transform(modality, task), image, mask, seed)
    assert torch.equal(first, again)
    assert torch.equal(moved, again_moved)
    assert torch.equal(image, given_image)
    assert torch.equal(mask, given_mask)
    assert type(first) is type(moved) is torch.Tensor
    assert first.shape == image.shape
    assert first.dtype == moved.dtype == torch.float32
    assert 0 <= first.min() <= first.max() <= 1
    assert set(moved.unique().tolist()) <= {0.0, 1.0}
    assert torch.equal(first[0], first[1])
    assert torch.equal(first[0], first[2])
    without, nothing = one(transform, image, None, seed)
    assert nothing is None
    assert torch.equal(without, first)


@EACH
def test_seeds_differ(modality, task):
    transform = training_transform(modality, task)
    image = texture()
    results = {one(transform, image, None, seed)[0].numpy().tobytes() for seed in range(40)}
    assert len(results) > 35 if modality != "photo" else 20


@EACH
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), down=st.floats(20, 44), across=st.floats(20, 44))
def test_image_and_mask_move_together(modality, task, seed, down, across):
    """Oracle: a bright disc on black is its own mask; black stays black, so what is not black is the disc."""
    shape = disc(down, across)
    image, mask = one(training_transform(modality, task), shape, shape, seed)
    seen, told = (image > 0.02)[0].numpy(), mask[0].bool().numpy()
    assert told.any()
    # Bilinear reading spreads an edge by up to a pixel on each side.
    assert not (told & ~seen).any()
    assert (seen & ~told).sum() <= 2.5 * 2 * np.pi * 8
    np.testing.assert_allclose(center_of_mass(seen), center_of_mass(told), atol=0.7)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("modality", MODALITIES)
def test_what_is_above_stays_above(modality, task):
    """No pipeline mirrors top to bottom. Oracle: the order of two discs, one above the other."""
    transform = training_transform(modality, task)
    for seed in range(200):
        _, above = one(transform, disc(20, 32), disc(20, 32), seed)
        _, below = one(transform, disc(44, 32), disc(44, 32), seed)
        assert center_of_mass(above[0].numpy())[0] < center_of_mass(below[0].numpy())[0]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    ("modality", "least", "most"), [("ultrasound", 70, 130), ("xray", 0, 0), ("photo", 70, 130)]
)
def test_the_heart_stays_on_its_side_and_ultrasound_is_mirrored_half_the_time(modality, task, least, most):
    """Oracle: the binomial distribution; 70..130 of 200 fair coins leaves out about 1 in 70,000."""
    transform = training_transform(modality, task)
    mirrored = 0
    for seed in range(200):
        _, left = one(transform, disc(32, 20), disc(32, 20), seed)
        _, right = one(transform, disc(32, 44), disc(32, 44), seed)
        mirrored += center_of_mass(left[0].numpy())[1] > center_of_mass(right[0].numpy())[1]
    assert least <= mirrored <= most


def test_classification_keeps_the_shape_of_a_lesion():
    """A tall lesion is suspicious: its height over its width may change by resampling only.

    Oracle: the principal axes of the mask (eigenvalues of its covariance), which turning does not change.
    """
    y, x = np.mgrid[:SIDE, :SIDE]
    ellipse = torch.from_numpy((((y - 32) / 14) ** 2 + ((x - 32) / 8) ** 2 <= 1).astype(np.float32))[None]

    def elongation(mask: torch.Tensor) -> float:
        small, large = np.linalg.eigvalsh(np.cov(np.argwhere(mask[0].numpy()).T))
        return float(np.sqrt(large / small))

    kept = [
        elongation(one(training_transform("ultrasound", "classification"), ellipse, ellipse, s)[1])
        for s in range(50)
    ]
    bent = [
        elongation(one(training_transform("ultrasound", "segmentation"), ellipse, ellipse, s)[1])
        for s in range(50)
    ]
    assert np.ptp(kept) < 0.2
    assert np.ptp(bent) > 0.35


@pytest.mark.parametrize("modality", MODALITIES)
def test_black_padding_stays_black(modality):
    for seed in range(50):
        image, _ = one(training_transform(modality, "segmentation"), torch.zeros(1, SIDE, SIDE), None, seed)
        assert not image.any()


def test_threads_share_one_augmentation():
    """Oracle: the same calls one after the other."""
    transform = training_transform("ultrasound", "segmentation")
    image, mask = texture(), disc(30, 30)
    expected = [one(transform, image, mask, seed)[0] for seed in range(60)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda seed: one(transform, image, mask, seed)[0], range(60)))
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


@EACH
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 500), order=st.permutations(range(6)))
def test_a_case_is_transformed_alike_in_whatever_batch_it_comes(modality, task, seed, epoch, order):
    """Oracle: each case alone, for what is drawn as scalars and for noise, to rounding."""
    transform = training_transform(modality, task)
    image, mask = texture(), disc(30, 20)
    rows = np.array(order) * 7
    images, masks = transform(image.repeat(6, 1, 1, 1), mask.repeat(6, 1, 1, 1), seed, epoch, rows)
    for i, row in enumerate(rows):
        alone, outline = transform(image[None], mask[None], seed, epoch, [row])
        torch.testing.assert_close(images[i], alone[0], rtol=0, atol=1e-6)
        assert (masks[i] != outline[0]).sum() <= 1


def test_further_transforms_of_monai_move_the_mask_too_and_are_functions_of_the_case():
    """Oracle: a flip of both, and MONAI's own smoothing of the image alone."""
    image, mask = texture(), disc(20, 32)
    flip = training_transform("photo", "segmentation", [{"RandFlipd": {"prob": 1.0, "spatial_axis": 0}}])
    plain = training_transform("photo", "segmentation")
    for both in zip(one(flip, image, mask, 5), one(plain, image, mask, 5), strict=True):
        assert torch.equal(both[0], both[1].flip(-2))
    blur = training_transform("photo", "segmentation", [{"RandGaussianSmoothd": {"prob": 0.5}}])
    images, masks = blur(image.repeat(20, 1, 1, 1), mask.repeat(20, 1, 1, 1), 1, 0, range(20))
    again, _ = blur(image.repeat(7, 1, 1, 1), mask.repeat(7, 1, 1, 1), 1, 0, range(7))
    assert torch.equal(images[:7], again)
    assert type(images) is type(masks) is torch.Tensor
    unblurred, same = plain(image.repeat(20, 1, 1, 1), mask.repeat(20, 1, 1, 1), 1, 0, range(20))
    assert torch.equal(masks, same)
    assert 4 <= sum(not torch.equal(a, b) for a, b in zip(images, unblurred, strict=True)) <= 16


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"RandFlip": {}}, "Unknown random dictionary transform of MONAI 'RandFlip'"),
        ({"LoadImaged": {}}, "Unknown random dictionary transform"),
        ({"RandFlipd": {"probability": 1}}, "does not take these options"),
    ],
)
def test_other_names_and_options_are_refused(entry, said):
    with pytest.raises(InputError, match=said):
        training_transform("xray", "classification", [entry])


@pytest.mark.cuda
@EACH
def test_cpu_and_gpu_agree_to_rounding(modality, task):
    """Oracle: the same call on the CPU, noise included; a mask may turn at the edge of a pixel."""
    transform = training_transform(modality, task)
    images, masks = texture().repeat(8, 1, 1, 1), disc(30, 20).repeat(8, 1, 1, 1)
    found, moved = transform(images.cuda(), masks.cuda(), 3, 1, range(8))
    expected, outline = transform(images, masks, 3, 1, range(8))
    torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=1e-4)
    assert (moved.cpu() != outline).float().mean() < 1e-4


def test_global_generators_are_left_alone():
    """Oracle: the states of numpy's and torch's global generators."""
    torch.manual_seed(0)
    state, numpy_state = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    for modality in MODALITIES:
        one(training_transform(modality, "segmentation"), texture(), disc(30, 30), 3)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert (np.random.get_state()[1] == numpy_state).all()


def test_an_unknown_modality_is_refused():
    with pytest.raises(InputError, match="Unknown modality 'ultrasond'"):
        training_transform("ultrasond", "segmentation")


def test_the_keys_of_cases_are_fixed_and_do_not_collide():
    """Oracle: a number written down once, since other keys change every run; 64 bits do not collide."""
    assert case_keys(7, 3, [41]).tolist() == [GOLDEN]
    keys = np.concatenate([case_keys(s, e, range(100)) for s in range(5) for e in range(20)])
    assert len(np.unique(keys)) == len(keys)


def test_draws_are_uniform_and_independent():
    """Oracle: Kolmogorov-Smirnov against the uniform distribution; correlations of neighbours."""
    draws = CaseRandom(case_keys(0, 0, range(20_000)))
    first, second = draws.uniform(), draws.uniform()
    assert kstest(first, "uniform").pvalue > 1e-4
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.03
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 0.03


GOLDEN = 5659263854446053934
