"""Each random transform against what it claims."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline
from scipy.ndimage import map_coordinates

from gcsam_med.transforms.random_transforms import (
    Batch,
    BatchTransform,
    CaseRandom,
    RandomCrop,
    RandomDepthGain,
    RandomPlacement,
    RandomQuantumNoise,
    RandomShadow,
    RandomSpeckle,
    RandomTone,
    _spline_basis,
    case_keys,
)

SIDE = 96


def draws(seed: int, cases: int = 1) -> CaseRandom:
    return CaseRandom(case_keys(seed, 0, range(cases)))


def run(step: BatchTransform, image: torch.Tensor, mask: torch.Tensor | None = None, seed: int = 0) -> Batch:
    """Transform a single case."""
    step.set_random_state(state=draws(seed))
    out = step({"image": image[None].clone(), "mask": None if mask is None else mask[None]})
    return {"image": out["image"][0], "mask": None if out["mask"] is None else out["mask"][0]}


def smooth(seed: int = 0) -> torch.Tensor:
    """A smooth picture, so that resampling errors are small."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    return torch.from_numpy((0.5 + 0.25 * np.sin(7 * x + seed) + 0.25 * np.cos(5 * y)).astype(np.float32))[
        None
    ]


@pytest.mark.parametrize("seed", range(6))
def test_placement_reads_where_its_matrix_says(seed):
    """Oracle: scipy's map_coordinates, order 1, at the same places."""
    step = RandomPlacement(flip=0.5, rotate=20, scale=0.2, shift=0.1, stretch=0.1)
    image = smooth()
    found = run(step, image, seed=seed)["image"][0].numpy()
    state = draws(seed)
    state.rand()  # whether to act
    step.set_random_state(state=state)
    (a, b, across), (c, d, down) = step.matrices()[0]
    y, x = (2 * np.mgrid[:SIDE, :SIDE] + 1) / SIDE - 1
    places = [((c * x + d * y + down + 1) * SIDE - 1) / 2, ((a * x + b * y + across + 1) * SIDE - 1) / 2]
    expected = map_coordinates(image[0].numpy(), places, order=1, mode="grid-constant")
    np.testing.assert_allclose(found, expected, atol=2e-4)


@pytest.mark.parametrize(
    ("options", "check"),
    [
        ({"rotate": 20}, lambda m: (abs(np.linalg.det(m) - 1), np.abs(m @ m.T - np.eye(2)).max())),
        ({"scale": 0.2}, lambda m: (abs(m[0, 1]), abs(m[0, 0] - m[1, 1]))),
        ({"stretch": 0.2}, lambda m: (abs(m[0, 1]), abs(m[0, 0] - 1))),
    ],
)
def test_each_option_of_placement_is_the_movement_it_names(options, check):
    """Oracle: a rotation is orthogonal, a zoom a multiple of the identity, a stretch leaves the width."""
    step = RandomPlacement(**{"flip": 0, "rotate": 0, "scale": 0, "shift": 0, **options})
    drawn = []
    step.set_random_state(state=draws(0, 30))
    for matrix in step.matrices():
        np.testing.assert_allclose(matrix[:, 2], 0)
        np.testing.assert_allclose(check(matrix[:, :2]), 0, atol=1e-6)
        drawn.append(matrix[1, 1])
    assert np.ptp(drawn) > 0.03


def test_a_bend_is_smooth_and_of_the_size_it_says():
    """Oracle: the standard deviation of the displacement of a field of independent control points."""
    step = RandomPlacement(flip=0, rotate=0, scale=0, shift=0, bend=0.03)
    step.set_random_state(state=draws(0, 200))
    basis = _spline_basis(SIDE, 6, torch.device("cpu")).numpy()
    points = step.bends()
    bent = points.any(axis=(1, 2, 3))
    assert 70 <= bent.sum() <= 130
    # As a part of the side, (cases, SIDE, SIDE, 2).
    fields = np.moveaxis(basis @ points[bent] @ basis.T, 1, -1) / 2
    weight = (basis**2).sum(1)
    expected = 0.03 * np.sqrt(weight[:, None] * weight[None])
    np.testing.assert_allclose(fields.std(0).mean(), expected.mean(), rtol=0.08)
    assert np.abs(np.diff(fields, axis=1)).max() < 0.06 / (SIDE / 6) * 4, "folds within a pixel"


def test_the_spline_basis_is_cubic():
    """Oracle: scipy's BSpline of degree 3 on uniform knots."""
    points, side = 6, 50
    basis = _spline_basis(side, points, torch.device("cpu")).numpy()
    np.testing.assert_allclose(basis.sum(1), 1, atol=1e-6)
    place = np.linspace(0, points - 1, side)
    for k in (2, 3):  # away from the ends
        expected = BSpline.basis_element(np.arange(k - 2, k + 3), extrapolate=False)(place)
        np.testing.assert_allclose(basis[:, k], np.nan_to_num(expected), atol=1e-6)


def test_crop_moves_by_whole_pixels():
    """Oracle: the picture itself, found again unchanged at an offset of at most 4 pixels, mirrored or not."""
    image = torch.rand(3, 32, 32)
    offsets = set()
    for seed in range(60):
        out = run(RandomCrop(flip=0.5, pad=0.125), image, image[:1], seed=seed)
        assert torch.equal(out["image"][:1], out["mask"])
        matches = []
        for mirror in (False, True):
            padded = torch.nn.functional.pad(image.flip(-1) if mirror else image, [4] * 4)
            for top in range(9):
                for left in range(9):
                    if torch.equal(padded[:, top : top + 32, left : left + 32], out["image"]):
                        matches.append((mirror, top, left))
        assert len(matches) == 1
        offsets.update(matches)
    assert {mirror for mirror, _, _ in offsets} == {True, False}
    assert {0, 8} <= {top for _, top, _ in offsets} | {left for _, _, left in offsets}


@pytest.mark.parametrize("seed", range(8))
def test_tone_is_one_rising_curve_that_fixes_black(seed):
    """Oracle: equal greys stay equal, and brighter never becomes darker."""
    ramp = torch.linspace(0, 1, SIDE).repeat(1, SIDE, 1)
    out = run(RandomTone(gain=0.3, gamma=0.4, threshold=0.1, prob=1.0), ramp, seed=seed)["image"]
    assert torch.equal(out[:, 0], out[:, -1])
    assert (out.diff(dim=-1) >= 0).all()
    assert out[0, 0, 0] == 0
    assert (out[0, 0] - ramp[0, 0]).abs().max() > 0.01


@pytest.mark.parametrize("seed", range(8))
def test_depth_gain_depends_on_depth_alone(seed):
    """Oracle: in a logarithm the gain is a straight line down."""
    flat = torch.full((1, SIDE, SIDE), 0.3)
    out = run(RandomDepthGain(change=0.5, prob=1.0), flat, seed=seed)["image"][0]
    assert torch.equal(out[:, 0], out[:, -1])
    steps = out[:, 0].log().diff()
    torch.testing.assert_close(steps, steps.mean().expand_as(steps), atol=1e-5, rtol=0)
    assert abs(float((out[-1, 0] / out[0, 0]).log())) <= np.log(1.5) + 1e-6


@pytest.mark.parametrize("seed", range(8))
def test_a_shadow_only_darkens_and_only_from_its_start_down(seed):
    flat = torch.full((1, SIDE, SIDE), 0.8)
    out = run(RandomShadow(strength=(0.3, 0.7), prob=1.0), flat, seed=seed)["image"][0]
    assert (out <= 0.8).all()
    assert (out.diff(dim=0) <= 1e-6).all(), "brighter again further down"
    assert torch.equal(out[0], flat[0, 0]) or out[0].min() > 0.8 * (1 - 0.7 * 0.1)
    assert 0.3 * 0.8 - 1e-6 <= out.min() <= 0.7 * 0.8 + 0.02


def test_speckle_keeps_the_brightness_and_is_wider_than_tall():
    """Oracle: mean and autocorrelation at a lag of one pixel across and down."""
    flat = torch.full((1, SIDE, SIDE), 0.5)
    across, down, mean = [], [], []
    for seed in range(20):
        out = run(RandomSpeckle(strength=0.2, prob=1.0), flat, seed=seed)["image"][0].numpy() - 0.5
        mean.append(out.mean())
        across.append(np.corrcoef(out[:, 1:].ravel(), out[:, :-1].ravel())[0, 1])
        down.append(np.corrcoef(out[1:].ravel(), out[:-1].ravel())[0, 1])
    assert abs(np.mean(mean)) < 0.002
    assert np.mean(across) > 0.4
    assert abs(np.mean(down)) < 0.05


def test_quantum_noise_grows_with_the_root_of_the_brightness():
    """Oracle: the variance is proportional to the brightness, as its root is to the deviation."""
    halves = torch.cat([torch.full((1, SIDE, SIDE // 2), 0.2), torch.full((1, SIDE, SIDE // 2), 0.8)], dim=2)
    ratios = []
    for seed in range(20):
        out = run(RandomQuantumNoise(strength=0.04, prob=1.0), halves, seed=seed)["image"][0]
        ratios.append(float(out[:, SIDE // 2 :].var() / out[:, : SIDE // 2].var()))
    np.testing.assert_allclose(np.mean(ratios), 4, rtol=0.1)


@pytest.mark.parametrize(
    "make",
    [
        lambda p: RandomTone(gain=0.3, gamma=0.4, prob=p),
        lambda p: RandomDepthGain(change=0.5, prob=p),
        lambda p: RandomShadow(strength=(0.3, 0.7), prob=p),
        lambda p: RandomSpeckle(strength=0.2, prob=p),
        lambda p: RandomQuantumNoise(strength=0.2, prob=p),
    ],
)
def test_a_probability_of_zero_is_never_and_a_half_is_half(make):
    """Oracle: the binomial distribution, 35..65 of 100; brightness never touches the mask."""
    image, mask = smooth(), (smooth(1) > 0.5).float()
    assert torch.equal(run(make(0.0), image, mask)["image"], image)
    acted = 0
    for seed in range(100):
        out = run(make(0.5), image, mask, seed=seed)
        assert torch.equal(out["mask"], mask)
        acted += not torch.equal(out["image"], image)
    assert 35 <= acted <= 65
