"""Preprocessing: channels and scale, the same for training, evaluation and prediction."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from torchvision.transforms.functional import normalize

from gcsam_med.errors import InputError
from gcsam_med.transforms.preprocessing import Preprocessing


def plain(channels, size=5):
    return Preprocessing(size, channels, (0.0,) * channels, (1.0,) * channels)


GREY = arrays(np.uint8, (2, 5, 5))
COLOUR = arrays(np.uint8, (2, 5, 5, 3))


@settings(max_examples=30, deadline=None)
@given(GREY, st.sampled_from([1, 3]))
def test_grey_is_scaled_and_repeated(squares, channels):
    """Oracle: the definition, value / 255 in every channel."""
    planes = plain(channels)(squares)
    assert planes.shape == (2, channels, 5, 5)
    assert planes.dtype == torch.float32
    assert planes.is_contiguous()
    for channel in range(channels):
        np.testing.assert_allclose(planes[:, channel].numpy(), squares / 255, rtol=1e-6)


@settings(max_examples=30, deadline=None)
@given(COLOUR)
def test_colour_becomes_grey_as_in_pillow(squares):
    """Oracle: Pillow's conversion to "L", which rounds to whole grey levels."""
    expected = np.stack([np.asarray(Image.fromarray(square).convert("L")) for square in squares]) / 255
    grey = plain(1)(squares)
    np.testing.assert_allclose(grey[:, 0].numpy(), expected, atol=1 / 255)
    assert grey.min() >= 0
    assert grey.max() <= 1


@settings(max_examples=20, deadline=None)
@given(COLOUR)
def test_colour_stays_colour_for_three_channels(squares):
    planes = plain(3)(squares)
    assert planes.is_contiguous()
    np.testing.assert_allclose(planes.numpy(), squares.transpose(0, 3, 1, 2) / 255, rtol=1e-6)


def test_the_stored_squares_are_not_touched():
    squares = np.full((1, 4, 4), 7, dtype=np.uint8)
    plain(1).planes(squares).fill_(9)
    assert (squares == 7).all()


@pytest.mark.parametrize(
    ("shape", "dtype", "channels"),
    [((4, 4), "uint8", 1), ((1, 4, 4, 4), "uint8", 1), ((1, 4, 4), "float32", 1), ((1, 4, 4), "uint8", 2)],
)
def test_other_arrays_are_refused(shape, dtype, channels):
    with pytest.raises(InputError):
        plain(channels)(np.zeros(shape, dtype))


def test_standardize_is_the_usual_one_and_changes_nothing_in_place():
    """Oracle: torchvision's normalize."""
    images = torch.rand(4, 3, 6, 6)
    before = images.clone()
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    found = Preprocessing(6, 3, mean, std).standardize(images)
    torch.testing.assert_close(found, normalize(images, mean, std))
    assert torch.equal(images, before)


@pytest.mark.parametrize(("mean", "std"), [([0.5], [0.1]), ([0, 0, 0], [1, 1, 0]), ([0, 0, 0], [1])])
def test_standardize_refuses_what_does_not_fit(mean, std):
    with pytest.raises(InputError, match="3 numbers each"):
        Preprocessing(4, 3, tuple(mean), tuple(std))
